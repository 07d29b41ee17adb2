//! Bringing a store back into a directory.
//!
//! Files are gathered in `DIR.partial` and checked while they are written.
//! When all are there and durable the caller adds what makes them a store, and
//! the directory gets its name. So `DIR` is there whole or not at all, and a
//! restore that was interrupted goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use corewal_format::{Epoch, LogId, name};
use futures_util::StreamExt as _;

use crate::bucket::Bucket;
use crate::current;
use crate::error::{Error, Result};
use crate::fetch::fetch;
use crate::index::{Index, Part};
use crate::inventory::{CheckpointFacts, SegmentFacts};
use crate::options::Options;
use crate::plan::{self, Target};
use crate::private;
use crate::source::file_error;
use crate::types::{Lineage, Term};

/// Says that a directory is the work of a restore, and is locked by it.
const MARKER: &str = name::RESTORE_MARK;

/// How often a restore begins anew when the archive moves on under it.
const MOST_TRIES: usize = 5;

/// What a restore brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// What was asked for.
    pub target: Target,
    /// The newest epoch that the files hold for all cores; at least the
    /// target, if that is an epoch.
    pub reaches: Epoch,
    /// The checkpoint to begin with; `None` if the logs hold everything.
    pub checkpoint: Option<CheckpointFacts>,
    /// Names of the checkpoint's files, in its order.
    pub runs: Vec<String>,
    /// The segments, by core and number, each leading to the next.
    pub segments: Vec<(SegmentFacts, String)>,
    /// Generation of the logs.
    pub generation: u32,
    /// Cores of that generation.
    pub cores: u16,
    /// The index that was restored from: its owner and its number.
    pub index: (Term, u64),
    /// What the store has to give as [`Takeover::Continue`] to go on with this
    /// archive. It is refused if the archive has got more meanwhile.
    ///
    /// [`Takeover::Continue`]: crate::Takeover::Continue
    pub lineage: Lineage,
    /// Damaged indexes that were newer than the one used. What only they knew
    /// of is not in the directory.
    pub passed_over: Vec<String>,
    /// Files downloaded; the others were there from an earlier try.
    pub downloaded: u64,
    /// Their bytes.
    pub downloaded_bytes: u64,
}

/// Restores into `dir`, which is not there or empty. `complete` gets the
/// directory under its passing name and adds, durably, what is missing.
pub(crate) async fn restore(
    bucket: &Bucket,
    options: &Options,
    log: LogId,
    target: Target,
    dir: &Path,
    complete: impl FnOnce(&Path, &Restored) -> io::Result<()>,
) -> Result<Restored> {
    refuse_unless_empty(dir)?;
    let work = Work::begin(dir, log)?;
    let mut before: Option<(Term, u64)> = None;
    for _ in 0..MOST_TRIES {
        let found = current::newest(bucket, log, 1).await?;
        let Some(index) = found.indexes.first() else {
            found.intact()?;
            return Err(Error::NoArchive);
        };
        let mut restored = restored(index, target)?;
        restored.passed_over = found.damaged.iter().map(|(key, _)| key.clone()).collect();
        match work.gather(bucket, options, index, &mut restored).await {
            Ok(()) => {
                work.finish(dir, &restored, complete)?;
                return Ok(restored);
            }
            // An owner has tidied up behind a newer index.
            Err(Error::Missing { .. }) if before != Some(restored.index) => before = Some(restored.index),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Missing { key: log.to_string() })
}

/// What the plan for a target will bring back.
fn restored(index: &Index, target: Target) -> Result<Restored> {
    let plan = plan::plan(index, target)?;
    Ok(Restored {
        target,
        reaches: plan.reaches,
        checkpoint: plan.checkpoint.map(|checkpoint| checkpoint.facts.clone()),
        runs: plan.checkpoint.iter().flat_map(|checkpoint| &checkpoint.runs).map(|run| run.name.clone()).collect(),
        segments: plan.segments.iter().map(|s| (s.facts.clone(), s.file.name.clone())).collect(),
        generation: plan.generation,
        cores: plan.cores,
        index: (index.term, index.number),
        lineage: Lineage::restored(&index.content),
        passed_over: Vec::new(),
        downloaded: 0,
        downloaded_bytes: 0,
    })
}

fn refuse_unless_empty(dir: &Path) -> Result<()> {
    match fs::read_dir(dir).map(Iterator::count) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::NotEmpty { path: dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("list", dir, error)),
    }
}

/// The directory that files are gathered in.
struct Work {
    dir: PathBuf,
    /// Locked as long as this lives.
    _marker: File,
}

impl Work {
    fn begin(target: &Path, log: LogId) -> Result<Self> {
        let mut name = target.file_name().map(std::ffi::OsStr::to_owned).ok_or_else(|| {
            file_error("name", target, io::Error::new(io::ErrorKind::InvalidInput, "it has no name of its own"))
        })?;
        name.push(".partial");
        let dir = target.with_file_name(name);
        let marker_path = dir.join(MARKER);
        if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            private::create_dir_all(parent).map_err(|error| file_error("create", parent, error))?;
        }
        match private::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Somebody's directory that only happens to have this name is
                // not ours to clear.
                let empty = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
                // A try that died while it wrote the mark left the beginning.
                let mark = format!("{log}\n");
                let ours =
                    private::read(&marker_path, mark.len() as u64).is_ok_and(|text| mark.as_bytes().starts_with(&text));
                if !empty && !ours {
                    return Err(Error::NotEmpty { path: dir });
                }
            }
            Err(error) => return Err(file_error("create", &dir, error)),
        }
        let mut marker = private::append(&marker_path).map_err(|error| file_error("create", &marker_path, error))?;
        marker.try_lock().map_err(|error| file_error("lock", &marker_path, error.into()))?;
        let mut fill = || -> io::Result<()> {
            marker.set_len(0)?;
            marker.write_all(format!("{log}\n").as_bytes())?;
            marker.sync_all()
        };
        fill().map_err(|error| file_error("write", &marker_path, error))?;
        Ok(Self { dir, _marker: marker })
    }

    /// Downloads what is not there, and removes what does not belong.
    async fn gather(&self, bucket: &Bucket, options: &Options, index: &Index, restored: &mut Restored) -> Result<()> {
        let names: BTreeSet<&str> = restored
            .runs
            .iter()
            .map(String::as_str)
            .chain(restored.segments.iter().map(|(_, name)| name.as_str()))
            .collect();
        let parts: BTreeMap<&str, &Part> = index
            .parts()
            .filter(|part| names.contains(part.name.as_str()))
            .map(|part| (part.name.as_str(), part))
            .collect();
        self.clear(&self.dir, &parts)?;
        let mut under_way = futures_util::stream::iter(parts.values())
            .map(|part| self.bring(bucket, part))
            .buffer_unordered(options.files_at_once.max(1));
        while let Some(brought) = under_way.next().await {
            let bytes = brought?;
            restored.downloaded += u64::from(bytes.is_some());
            restored.downloaded_bytes += bytes.unwrap_or(0);
        }
        Ok(())
    }

    /// Removes files of another plan.
    fn clear(&self, dir: &Path, parts: &BTreeMap<&str, &Part>) -> Result<()> {
        let listing = |error| file_error("list", dir, error);
        for entry in fs::read_dir(dir).map_err(listing)? {
            let path = entry.map_err(listing)?.path();
            let kind = fs::symlink_metadata(&path).map_err(|error| file_error("look at", &path, error))?.file_type();
            if kind.is_dir() {
                self.clear(&path, parts)?;
                // Only an empty one goes.
                let _ = fs::remove_dir(&path);
                continue;
            }
            let name = path.strip_prefix(&self.dir).ok().and_then(Path::to_str).unwrap_or_default();
            if name != MARKER && !(kind.is_file() && parts.contains_key(name)) {
                fs::remove_file(&path).map_err(|error| file_error("remove", &path, error))?;
            }
        }
        Ok(())
    }

    /// Brings one file; `None` if it is there already.
    async fn bring(&self, bucket: &Bucket, part: &Part) -> Result<Option<u64>> {
        let path = self.dir.join(&part.name);
        if is_whole(&path, part) {
            // It may be whole in memory only.
            private::open(&path).and_then(|file| file.sync_all()).map_err(|error| file_error("sync", &path, error))?;
            return Ok(None);
        }
        if let Some(parent) = path.parent() {
            private::create_dir_all(parent).map_err(|error| file_error("create", parent, error))?;
        }
        let mut file = private::create(&path).map_err(|error| file_error("create", &path, error))?;
        let written =
            fetch(bucket, part, |bytes| file.write_all(bytes).map_err(|error| file_error("write", &path, error))).await;
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        file.sync_all().map_err(|error| file_error("sync", &path, error))?;
        Ok(Some(part.bytes))
    }

    /// Makes everything durable and gives the directory its name.
    fn finish(
        self,
        target: &Path,
        restored: &Restored,
        complete: impl FnOnce(&Path, &Restored) -> io::Result<()>,
    ) -> Result<()> {
        let dir = &self.dir;
        sync_tree(dir)?;
        complete(dir, restored).map_err(|error| file_error("complete", dir, error))?;
        sync_tree(dir)?;
        // An empty directory of that name is replaced.
        fs::rename(dir, target).map_err(|error| file_error("rename", dir, error))?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(parent)?;
        // Last: without it, a try that died here could not be told from
        // somebody's directory. Left behind, it does no harm.
        let marker = target.join(MARKER);
        fs::remove_file(&marker).map_err(|error| file_error("remove", &marker, error))?;
        sync_dir(target)
    }
}

/// Whether a file from an earlier try can stay.
fn is_whole(path: &Path, part: &Part) -> bool {
    let mut hasher = blake3::Hasher::new();
    let hashed = private::open(path).and_then(|file| {
        if file.metadata()?.len() != part.bytes {
            return Ok(false);
        }
        hasher.update_reader(file)?;
        Ok(hasher.finalize().to_hex().as_str() == part.blake3)
    });
    hashed.unwrap_or(false)
}

/// Syncs a directory and those below it.
fn sync_tree(dir: &Path) -> Result<()> {
    let listing = |error| file_error("list", dir, error);
    for entry in fs::read_dir(dir).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        if entry.file_type().map_err(listing)?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| file_error("sync", dir, error))
}
