//! Where the state of a job is: a store for each process, which is taken as it
//! is, or read by one of those who have it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corewal::format::name;
use corewal::io::{FileStorage, Storage as _};
use corewal::{CoreView, Epoch, Keyed, Opened, Options, Reader, Recover, Router};

use crate::durable_dir::sync_dir;
use crate::error::{Error, Result};
use crate::record::Record;

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

impl Place {
    /// The worker, of all processes, that owns a key.
    #[inline]
    pub(crate) fn worker_of(self, key: &[u8]) -> usize {
        let (process, core) = Router::new(self.workers).route_among(self.processes, key);
        usize::from(process) * usize::from(self.workers) + core.index()
    }
}

/// A process's part of the state, or what is to become it.
pub(crate) struct State {
    pub(crate) opened: Opened,
    /// The store's name in the record.
    pub(crate) name: String,
    /// Where sources go on, as this store knows it.
    pub(crate) offsets: BTreeMap<String, Vec<u8>>,
}

/// The name of a store that a start of the job makes.
fn new_name(attempt: u64, process: u16) -> String {
    format!("start-{attempt:06}-process-{process:04}")
}

/// The stores of the record that are in a directory, by their place in it.
pub(crate) fn present(dir: &Path, record: &Record) -> Vec<usize> {
    let there = |(index, name): (usize, &String)| dir.join(name).is_dir().then_some(index);
    record.stores.iter().enumerate().filter_map(there).collect()
}

/// Makes the store of a process, with nothing in it. `record` is that of this
/// start.
pub(crate) fn create(dir: &Path, options: &Options, place: Place, record: &Record) -> Result<State> {
    let name = new_name(record.attempt, place.process);
    let opened = options.clone().cores(place.workers).coordinated(Epoch(0)).open(dir.join(&name))?;
    Ok(State { opened, name, offsets: BTreeMap::new() })
}

/// Opens the store of a process at the epoch that is complete.
pub(crate) fn open(dir: &Path, options: &Options, place: Place, record: &Record, take_over: bool) -> Result<State> {
    let name = new_name(record.attempt, place.process);
    let new = dir.join(&name);
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

/// Reads a store of the record as of the epoch that is complete.
pub(crate) fn read(
    dir: &Path,
    place: Place,
    record: &Record,
    index: usize,
    take_over: bool,
) -> Result<Vec<CoreView<Keyed>>> {
    let mut store = dir.join(&record.stores[index]);
    let aside = dir.join(format!("{}-copy", new_name(record.attempt, place.process)));
    if !take_over {
        wait_until_free(&store)?;
    }
    if is_locked(&store) {
        copy(&store, &aside)?;
        store.clone_from(&aside);
    }
    let reader = match Reader::open(&store) {
        Err(corewal::Error::NotAStore { path, .. }) => return Err(Error::Missing { dir: path }),
        reader => reader?.until(Epoch(record.complete)),
    };
    if reader.complete_epoch() != Epoch(record.complete) {
        let detail =
            format!("it holds what is complete up to epoch {}, not {}", reader.complete_epoch(), record.complete);
        return Err(Error::Record { path: store, detail });
    }
    let views = reader.replay(Recover::CompleteEpoch, |_| Keyed::default())?;
    if store == aside {
        fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
    }
    Ok(views)
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

/// Removes the stores of a start and of those before it that are not `named`:
/// of starts that came to nothing, or whose state has moved. Not those that
/// somebody has open; nor of later starts, who may have taken over from one who
/// slept until now. They are litter: what can't be removed stays.
pub(crate) fn remove_litter(dir: &Path, attempt: u64, named: &[String]) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let litter = name.to_str().is_some_and(|name| is_litter(name, attempt, named));
        if litter && !is_locked(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_litter(name: &str, attempt: u64, named: &[String]) -> bool {
    let start = name.strip_prefix("start-").and_then(|rest| rest.split('-').next()?.parse::<u64>().ok());
    start.is_some_and(|start| start <= attempt) && !named.iter().any(|store| store == name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_slept_removes_nothing_of_those_who_took_over() {
        let dir = tempfile::tempdir().unwrap();
        let all = ["start-000002-process-0000", "start-000003-process-0000", "start-000004-process-0000", "mine"];
        all.iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        remove_litter(dir.path(), 3, &["start-000003-process-0000".to_owned()]);
        let left = all.map(|name| dir.path().join(name).exists());
        assert_eq!(left, [false, true, true, true]);
    }
}
