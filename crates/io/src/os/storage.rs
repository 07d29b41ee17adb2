//! The operating system's file tree as a storage.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::backend::Choice;
use super::direct::{self, Direct};
use super::{Backend, FileIo, FileLock, OsFile, lock, names, open};
use crate::{AlignedBuf, DirEntry, OpenMode, ReadPace, Storage, WritePath, write};

/// The file system of the operating system.
///
/// On Linux it writes by `io_uring(7)` and past the page cache wherever the
/// kernel and the file system let it; [`Storage::write_path`] says what came of
/// it for a file, and why. Names, reading and everything rare are blocking
/// calls.
///
/// What it creates is private: files have mode 0600 and directories 0700 on
/// Unix. Links are followed neither at the end of a path nor right before it:
/// the directory that a file stands in must not be one. (What lies above that
/// is the caller's: [`Storage::resolve`] gives a path without links.) Errors are
/// the system's own ([`io::Error::raw_os_error`]) and do not name the path; the
/// caller knows it.
///
/// Limits by platform: Windows cannot sync a directory, so
/// [`sync_dir`](Storage::sync_dir) does nothing there, and it refuses to
/// [`settle`](Storage::settle) a file opened only for reading. Only Linux is
/// asked to drop its cache in `settle`.
///
/// ```
/// use corewal_io::{Backend, FileStorage};
///
/// let fast = FileStorage::new();
/// let plain = FileStorage::new().backend(Backend::Blocking).direct(false);
/// ```
#[derive(Clone, Debug)]
pub struct FileStorage {
    choice: Choice,
    direct: bool,
    /// The kernel knows writes that carry their own sync.
    durable_writes: Arc<OnceLock<bool>>,
}

impl Default for FileStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl FileStorage {
    /// The fastest way that the system has: [`Backend::Auto`], direct I/O
    /// where the file system has it. Asks the system nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { choice: Choice::default(), direct: true, durable_writes: Arc::default() }
    }

    /// Which backend to write by.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.choice.set_backend(backend);
        self
    }

    /// Whether to write past the page cache where the file system allows it
    /// (`open(2)`, `O_DIRECT`). Without, every write goes through the cache.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// With a duration, gives each ring made here a thread of the kernel that
    /// takes submissions without a system call (`io_uring_setup(2)`,
    /// `IORING_SETUP_SQPOLL`), and goes to sleep when none has come for so
    /// long (in whole milliseconds). Off by default: while awake the thread
    /// spins, so it costs a whole CPU beside each core that writes, and where
    /// there is none to spare it slows the writes down.
    #[must_use]
    pub fn sqpoll(mut self, idle: Option<Duration>) -> Self {
        self.choice.set_sqpoll(idle);
        self
    }

    /// Rings that the cores' threads own already, that of core `n` at index
    /// `n`; a core beyond them gets a ring of its own.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn rings(mut self, rings: Vec<super::Ring>) -> Self {
        self.choice.set_rings(rings);
        self
    }

    /// Whether a write can carry its own sync.
    fn durable_writes(&self, file: &File) -> bool {
        *self.durable_writes.get_or_init(|| direct::durable_writes(file))
    }
}

impl Storage for FileStorage {
    type File = OsFile;
    type Io = FileIo;
    type Lock = FileLock;

    fn io(&self, core: usize) -> io::Result<FileIo> {
        self.choice.io(core)
    }

    fn io_beside(&self) -> io::Result<FileIo> {
        Ok(self.choice.io_beside())
    }

    fn write_path(&self, file: &OsFile) -> WritePath {
        let (backend, no_ring) = self.choice.name();
        let cached = match file.direct() {
            Direct::Open(_) | Direct::Possible => None,
            Direct::Not(why) => Some(*why),
        };
        let reasons: Vec<_> = no_ring.into_iter().chain(cached).collect();
        let instead = (!reasons.is_empty()).then(|| reasons.join("; "));
        WritePath { backend, direct: cached.is_none(), instead }
    }

    fn write_at(&self, file: &OsFile, offset: u64, buffer: &AlignedBuf, range: Range<usize>) -> io::Result<()> {
        write::check(offset, buffer, &range)?;
        file.write_at(offset, &mut [IoSlice::new(&buffer[range])], false).1
    }

    fn zero(&self, file: &OsFile, offset: u64, len: u64) -> io::Result<()> {
        if len > 0 {
            file.reserve(offset, len)?;
        }
        write::zeros(self, file, offset, len)
    }

    fn extend(&self, file: &OsFile, offset: u64, len: u64) -> io::Result<()> {
        if len > 0 && !file.reserve(offset, len)? {
            write::zeros(self, file, offset, len)?;
        }
        Ok(())
    }

    fn set_read_pace(&self, file: &OsFile, pace: ReadPace) {
        file.set_read_pace(pace);
    }

    fn read_ahead(&self, file: &OsFile, offset: u64, len: u64) {
        file.read_ahead(offset, len);
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<OsFile> {
        let file = open::file(path, mode)?;
        let durable_writes = self.durable_writes(&file);
        let direct = if !self.direct {
            Direct::Not("direct I/O is switched off")
        } else if !durable_writes && cfg!(target_os = "linux") {
            Direct::Not("the kernel has no durable write (RWF_DSYNC)")
        } else {
            direct::open(&file, path, mode)?
        };
        Ok(OsFile::new(file, direct, durable_writes, path))
    }

    fn quiesce(&self, path: &Path) -> io::Result<()> {
        match open::file(path, OpenMode::Read) {
            Ok(file) => direct::quiesce(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn len(&self, file: &OsFile) -> io::Result<u64> {
        file.len()
    }

    fn read_at(&self, file: &OsFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        file.read_at(offset, buffer)
    }

    fn set_len(&self, file: &OsFile, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn settle(&self, file: &OsFile, from: u64) -> io::Result<()> {
        file.sync_data()?;
        file.forget_cache(from);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = names::list(dir)?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        open::create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        names::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        names::remove(path)
    }

    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        names::resolve(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open::sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        lock::acquire(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        lock::is_held(path)
    }
}
