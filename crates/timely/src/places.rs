//! Where the state of a job is: a store for each process, taken as it is, or
//! made anew of all of them where the job has another number of processes or
//! workers than before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corewal::format::name;
use corewal::io::{FileStorage, Storage as _};
use corewal::{Commit, CoreView, Epoch, Keyed, Opened, Options, Reader, Recover, Router, Shard};

use crate::durable_dir::sync_dir;
use crate::error::{Error, Result};
use crate::record::Record;

/// Changes that are made between two commits where a store is made anew.
const BATCH: usize = 4096;

/// A process that was killed keeps its locks until its memory is given back,
/// which takes a moment where it had much.
const GRACE: Duration = Duration::from_secs(1);

/// Tries to copy the files of a store under the hands of who has it open.
const TRIES: usize = 5;

/// Which process of a job this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) process: u16,
    pub(crate) processes: u16,
    /// Workers of each process.
    pub(crate) workers: u16,
}

/// A process's part of the state.
pub(crate) struct State {
    pub(crate) opened: Opened,
    /// The store's name in the record.
    pub(crate) name: String,
    /// Where sources go on, as the whole job knows it.
    pub(crate) offsets: BTreeMap<String, Vec<u8>>,
}

/// The name of a store that a start of the job makes.
fn new_name(attempt: u64, process: u16) -> String {
    format!("start-{attempt:06}-process-{process:04}")
}

/// Opens the state of a process at the epoch that is complete, or makes it.
/// `record` is that of this start.
pub(crate) fn open(dir: &Path, options: &Options, place: Place, record: &Record, take_over: bool) -> Result<State> {
    let name = new_name(record.attempt, place.process);
    let new = dir.join(&name);
    if record.stores.is_empty() {
        let opened = create(&new, options, place)?;
        return Ok(State { opened, name, offsets: BTreeMap::new() });
    }
    if record.stores.len() != usize::from(place.processes) || record.workers != place.workers {
        return gather(dir, options, place, record, name, take_over);
    }
    let old = &record.stores[usize::from(place.process)];
    let here = dir.join(old);
    if !take_over {
        wait_until_free(&here)?;
    }
    let open =
        |dir: &Path| options.clone().cores(place.workers).create(false).coordinated(Epoch(record.complete)).open(dir);
    match open(&here) {
        Err(error) if error.is_locked() && take_over => {
            // Whoever has it can't make anything complete any more, and so
            // neither releases nor folds what is needed here.
            for _ in 1..TRIES {
                copy(&here, &new)?;
                if let Ok(opened) = open(&new) {
                    return Ok(taken(opened, name));
                }
            }
            copy(&here, &new)?;
            Ok(taken(open(&new)?, name))
        }
        Err(corewal::Error::NotAStore { path, .. }) => Err(Error::Missing { dir: path }),
        opened => Ok(taken(opened?, old.clone())),
    }
}

/// As it was; every partition is read where it was read before.
fn taken(opened: Opened, name: String) -> State {
    let offsets = opened.shards.iter().flat_map(|shard| shard.offsets().clone()).collect();
    State { opened, name, offsets }
}

fn create(dir: &Path, options: &Options, place: Place) -> Result<Opened> {
    Ok(options.clone().cores(place.workers).coordinated(Epoch(0)).open(dir)?)
}

/// Makes a process's part of all the stores there are.
fn gather(
    dir: &Path,
    options: &Options,
    place: Place,
    record: &Record,
    name: String,
    take_over: bool,
) -> Result<State> {
    let mut opened = create(&dir.join(&name), options, place)?;
    let mut offsets: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let aside = dir.join(format!("{name}-copy"));
    for old in &record.stores {
        let mut old = dir.join(old);
        if !take_over {
            wait_until_free(&old)?;
        }
        if is_locked(&old) {
            copy(&old, &aside)?;
            old.clone_from(&aside);
        }
        let reader = match Reader::open(&old) {
            Err(corewal::Error::NotAStore { path, .. }) => return Err(Error::Missing { dir: path }),
            reader => reader?.until(Epoch(record.complete)),
        };
        if reader.complete_epoch() != Epoch(record.complete) {
            let detail =
                format!("it holds what is complete up to epoch {}, not {}", reader.complete_epoch(), record.complete);
            return Err(Error::Record { path: old, detail });
        }
        let views = reader.replay(Recover::CompleteEpoch, |_| Keyed::default())?;
        for (name, value) in views.iter().flat_map(|view| &view.offsets) {
            let known = offsets.entry(name.clone()).or_insert_with(|| value.clone());
            // A partition that has moved before: the one who reads it is ahead.
            if number(value) > number(known) {
                known.clone_from(value);
            }
        }
        std::thread::scope(|scope| {
            let fill = |shard| scope.spawn(|| fill(shard, &views, place));
            let cores: Vec<_> = opened.shards.iter_mut().map(fill).collect();
            cores.into_iter().try_for_each(|core| core.join().expect("filling does not panic"))
        })?;
    }
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
    }
    Ok(State { opened, name, offsets })
}

fn number(value: &[u8]) -> i64 {
    value.try_into().map_or(i64::MIN, i64::from_le_bytes)
}

/// Puts what a shard owns of some state.
fn fill(shard: &mut Shard, views: &[CoreView<Keyed>], place: Place) -> Result<()> {
    let router = Router::new(place.workers);
    let mine = (place.process, shard.core());
    let mut count = 0;
    for (key, value) in views.iter().flat_map(|view| view.state.iter()) {
        if router.route_among(place.processes, key) == mine {
            shard.put(key, value)?;
            count += 1;
            if count % BATCH == 0 {
                shard.commit(&Commit::new())?;
            }
        }
    }
    shard.commit(&Commit::new())?;
    Ok(())
}

/// Copies the files of a store.
fn copy(from: &Path, to: &Path) -> Result<()> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(Error::io("remove", to))?,
    }
    fs::create_dir(to).map_err(Error::io("create", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("list", from))? {
        let entry = entry.map_err(Error::io("list", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let copied = match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                copy(&from, &to)?;
                continue;
            }
            Ok(kind) if kind.is_file() => fs::copy(&from, &to).and_then(|_| fs::File::open(&to)?.sync_all()),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        match copied {
            // A spare, or a run that others have taken the place of.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => copied.map_err(Error::io("copy", &from))?,
        }
    }
    sync_dir(to)
}

/// Removes stores that no record names, of starts that came to nothing or whose
/// state has moved, unless somebody has them open. They are litter: what can't
/// be removed stays.
pub(crate) fn remove_litter(dir: &Path, named: &[String]) {
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with("start-") && !named.contains(name));
        if ours && !is_locked(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits for whoever has a store open, if he is about to end.
///
/// # Errors
/// [`Error::InUse`] if he is not.
pub(crate) fn wait_until_free(store: &Path) -> Result<()> {
    let began = Instant::now();
    while is_locked(store) {
        if began.elapsed() > GRACE {
            return Err(Error::InUse { dir: store.to_owned() });
        }
        std::thread::sleep(GRACE / 50);
    }
    Ok(())
}

/// Whether somebody has a store open.
fn is_locked(store: &Path) -> bool {
    FileStorage::new().is_locked(&store.join(name::LOCK)).unwrap_or(false)
}

/// The store of a process that may be running, if there is one.
pub(crate) fn of(dir: &Path, record: &Record, process: u16) -> Option<PathBuf> {
    record.stores.get(usize::from(process)).map(|name| dir.join(name))
}
