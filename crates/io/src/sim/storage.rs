//! The name space and the read side of the simulated disk, and what tests do
//! to it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::{self, Disk, Node};
use super::fault::{self, Fault, OperationKind};
use super::state::{self, Shared, State};
use super::{SimFile, SimLock, SimSnapshot, SimStorageIo};
use crate::{AlignedBuf, DirEntry, EntryKind, OpenMode, Operation, Storage, StorageIo, WritePath, write};

/// How a [`SimStorage`] is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimOptions {
    /// Decides the order of completions, the extent of faults, and all else
    /// that is left to chance.
    pub seed: u64,
    /// The sum of the lengths of all files that a path leads to never exceeds
    /// this, in bytes: writes and `set_len` fail with `ENOSPC` first. A length
    /// set by `set_len` counts in full, so it reserves.
    pub capacity_bytes: Option<u64>,
    /// A broken disk on purpose: every sync (of a file, of a directory, of a
    /// `data_sync` write, by `settle`) completes and makes nothing durable. A
    /// crash test that does not fail on it tests nothing.
    pub sync_lies: bool,
    /// What [`Storage::write_path`] says: whether writers are to make each
    /// write durable by itself. The disk can do both either way.
    pub direct: bool,
}

/// A simulated disk. Clones share it.
///
/// ```
/// use std::path::Path;
/// use corewal_io::{CrashKind, OpenMode, SimOptions, SimStorage, Storage};
///
/// let disk = SimStorage::new(SimOptions::default());
/// disk.open(Path::new("log"), OpenMode::CreateNew).unwrap();
/// disk.sync_dir(Path::new("")).unwrap();
/// disk.open(Path::new("other"), OpenMode::CreateNew).unwrap();
///
/// for seed in 0..10 {
///     let after = disk.snapshot().crash(CrashKind::Power, seed);
///     // The directory was synced after the one, not after the other.
///     assert!(after.read_file(Path::new("log")).is_some());
/// }
/// ```
///
/// Paths are lists of names: absolute and relative ones are the same, `..` is
/// refused with [`io::ErrorKind::InvalidInput`], and the root (`""`, `"/"`)
/// always exists. There are no links. A file can have 64 GiB; what was never
/// written takes no memory.
///
/// What is special to it is told at [`SimStorageIo`],
/// [`CrashKind`](crate::CrashKind), [`FaultKind`](crate::FaultKind) and
/// [`SimOptions`].
#[derive(Clone)]
pub struct SimStorage {
    shared: Shared,
}

/// Prints the number of steps made.
impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStorage").field("step", &self.step()).finish_non_exhaustive()
    }
}

impl Default for SimStorage {
    fn default() -> Self {
        Self::new(SimOptions::default())
    }
}

impl SimStorage {
    /// An empty disk.
    #[must_use]
    pub fn new(options: SimOptions) -> Self {
        Self::with_disk(options, Disk::new())
    }

    pub(super) fn with_disk(options: SimOptions, disk: Disk) -> Self {
        let state = State::new(options, disk);
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// The number of steps made so far.
    #[must_use]
    pub fn step(&self) -> u64 {
        state::lock(&self.shared).disk.step
    }

    /// The disk as it is now. It does not count as a step.
    #[must_use]
    pub fn snapshot(&self) -> SimSnapshot {
        state::lock(&self.shared).snapshot()
    }

    /// Starts or stops keeping a snapshot of every step. Starting takes one at
    /// once, so that there is a "before" to the first step; the snapshot after
    /// one step is the "before" of the next.
    pub fn record_snapshots(&self, on: bool) {
        let mut state = state::lock(&self.shared);
        if on && !state.recording {
            let snapshot = state.snapshot();
            state.snapshots.push(snapshot);
        }
        state.recording = on;
    }

    /// The snapshots recorded so far, oldest first; they are handed over, not
    /// copied.
    #[must_use]
    pub fn take_snapshots(&self) -> Vec<SimSnapshot> {
        std::mem::take(&mut state::lock(&self.shared).snapshots)
    }

    /// Plants a fault. Several may wait at once; of those due for one
    /// operation the one planted first strikes.
    pub fn inject(&self, fault: Fault) {
        state::lock(&self.shared).faults.add(fault);
    }

    /// Takes all planted faults away.
    pub fn clear_faults(&self) {
        state::lock(&self.shared).faults.clear();
    }

    /// A file's bytes as readers see them, or `None` if no file is there.
    /// Planted faults do not strike it.
    #[must_use]
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = state::lock(&self.shared);
        let node = state.disk.find_file(path).ok()?;
        Some(state.disk.file(node).cache.to_vec())
    }

    /// Puts a file on the medium: content, name and the directories above it
    /// are there and durable at once, whatever was there before. For planting
    /// damage; it is no step, and neither faults nor the capacity stop it.
    ///
    /// # Panics
    ///
    /// If a directory has that name, a file has the name of a directory above
    /// it, or the path is not one of the disk.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "bytes that were read, damaged and are written back are given away"
    )]
    pub fn write_file(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = state::lock(&self.shared);
        let result = state.disk.settle_file(path, &bytes);
        result.unwrap_or_else(|error| panic!("cannot put {}: {error}", path.display()));
    }

    /// Takes a file from the medium, durably and at once; it is no step.
    /// Returns whether it was there.
    pub fn remove_file_durably(&self, path: &Path) -> bool {
        state::lock(&self.shared).disk.remove_settled(path).is_ok()
    }

    /// The paths of all files, as readers see them, in order, each from the
    /// root (`/`) on.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        state::lock(&self.shared).disk.files()
    }

    /// Does what makes a step, which is counted also when it fails.
    fn stepping<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = state::lock(&self.shared);
        let result = act(&mut state);
        state.step();
        result
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        self.stepping(|state| {
            state.faults.fail(OperationKind::Create)?;
            let (directory, name) = state.disk.free_name(path)?;
            let node = Node::File(Arc::default());
            let node = state.disk.link(directory, &name, node);
            Ok(SimFile::new(&self.shared, state, node, path, true))
        })
    }
}

impl Storage for SimStorage {
    type File = SimFile;
    type Io = SimStorageIo;
    type Lock = SimLock;

    fn io(&self, _core: usize) -> io::Result<SimStorageIo> {
        Ok(SimStorageIo::new(&self.shared))
    }

    fn write_path(&self, _file: &SimFile) -> WritePath {
        let direct = state::lock(&self.shared).options.direct;
        WritePath { backend: "simulated", direct, instead: None }
    }

    /// Two steps, as one write is that is submitted and completes.
    fn write_at(&self, file: &SimFile, offset: u64, buffer: &AlignedBuf, range: Range<usize>) -> io::Result<()> {
        write::check(offset, buffer, &range)?;
        let len = range.len();
        // No more of it than is written: zeros come out of a buffer of a mebibyte.
        let mut copy = AlignedBuf::new(len);
        copy.as_mut_slice().copy_from_slice(&buffer[range]);
        let file = file.clone();
        let write = Operation::Write { file, offset, buffer: copy, range: 0..len, data_sync: false };
        match SimStorageIo::new(&self.shared).perform(write)?.result? {
            written if written == len => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::WriteZero, "short write")),
        }
    }

    fn extend(&self, file: &SimFile, offset: u64, len: u64) -> io::Result<()> {
        self.set_len(file, offset + len)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let writable = match mode {
            OpenMode::Read => false,
            OpenMode::ReadWrite => true,
            OpenMode::CreateNew => return self.create(path),
        };
        let mut state = state::lock(&self.shared);
        state.faults.fail(OperationKind::Open)?;
        let node = state.disk.find_file(path)?;
        Ok(SimFile::new(&self.shared, &mut state, node, path, writable))
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        let node = file.on(&self.shared)?;
        Ok(state::lock(&self.shared).disk.file(node).cache.len())
    }

    fn read_at(&self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let node = file.on(&self.shared)?;
        let mut state = state::lock(&self.shared);
        state.faults.fail(OperationKind::Read)?;
        Ok(state.disk.file(node).cache.read(offset, buffer))
    }

    fn set_len(&self, file: &SimFile, len: u64) -> io::Result<()> {
        let node = file.on(&self.shared)?;
        file.writable()?;
        self.stepping(|state| {
            state.check_room(node, len)?;
            if let Some(fault) = state.faults.strike(OperationKind::SetLen) {
                state.fail_set_len(node, len);
                return Err(fault::error(fault));
            }
            let sequence = state.disk.next_sequence();
            state.disk.file_mut(node).set_len(sequence, len);
            Ok(())
        })
    }

    fn settle(&self, file: &SimFile, _from: u64) -> io::Result<()> {
        let node = file.on(&self.shared)?;
        self.stepping(|state| {
            let fault = state.faults.strike(OperationKind::Settle);
            state.complete_sync(node, u64::MAX, fault)?;
            // The cache is dropped; what the medium never got is seen to be
            // missing. A lying disk still answers from its own cache.
            if !state.options.sync_lies {
                let file = state.disk.file_mut(node);
                assert!(file.pending.is_empty());
                file.cache = file.durable.clone();
            }
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = state::lock(&self.shared);
        state.faults.fail(OperationKind::List)?;
        let directory = state.disk.find_directory(dir)?;
        let entries = state.disk.directory(directory).cache.iter();
        let entry = |(name, node): (&String, &disk::NodeId)| DirEntry {
            name: name.clone(),
            kind: if state.disk.is_directory(*node) { EntryKind::Directory } else { EntryKind::File },
        };
        Ok(entries.map(entry).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.stepping(|state| {
            state.faults.fail(OperationKind::CreateDir)?;
            let (parent, name) = state.disk.free_name(dir)?;
            let node = Node::Directory(Arc::default());
            state.disk.link(parent, &name, node);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.stepping(|state| {
            state.faults.fail(OperationKind::Rename)?;
            let node = state.disk.find(from)?;
            let (old_dir, old_name) = state.disk.parent(from)?;
            let (new_dir, new_name) = state.disk.parent(to)?;
            let target = state.disk.directory(new_dir).cache.get(&new_name);
            let replaces_directory = target.is_some_and(|target| state.disk.is_directory(*target));
            if state.disk.is_directory(node) || replaces_directory {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // "If oldpath and newpath are existing hard links referring to the
            // same file, then rename() does nothing" (rename(2)).
            if target != Some(&node) {
                state.disk.rename((old_dir, &old_name), (new_dir, &new_name));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.stepping(|state| {
            state.faults.fail(OperationKind::Remove)?;
            let node = state.disk.find(path)?;
            if state.disk.is_directory(node) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let (directory, name) = state.disk.parent(path)?;
            state.disk.change_entry(directory, &name, None, None);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.stepping(|state| {
            state.faults.fail(OperationKind::SyncDir)?;
            let directory = state.disk.find_directory(dir)?;
            if !state.options.sync_lies {
                state.disk.sync_directory(directory);
                state.collect();
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let open = self.open(path, OpenMode::ReadWrite);
        let file = match open {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(path)?,
            other => other?,
        };
        let node = file.on(&self.shared)?;
        let mut state = state::lock(&self.shared);
        state.locks.retain(|_, token| token.strong_count() > 0);
        if state.locks.contains_key(&node) {
            return Ok(None);
        }
        let token = state.hold(node);
        let old = state.locks.insert(node, Arc::downgrade(&token));
        assert!(old.is_none());
        Ok(Some(SimLock { path: path.to_path_buf(), _token: token }))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let state = state::lock(&self.shared);
        let node = match state.disk.find_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let token = state.locks.get(&node);
        Ok(token.is_some_and(|token| token.strong_count() > 0))
    }
}
