//! A disk that counts what is read of it.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corewal::io::{AlignedBuf, DirEntry, OpenMode, SimFile, SimLock, SimStorage, SimStorageIo, Storage, WritePath};

/// The simulated disk, and the bytes and calls that reading took.
#[derive(Clone)]
pub(crate) struct Counting {
    disk: SimStorage,
    bytes: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Counting {
    pub(crate) fn new(disk: SimStorage) -> Self {
        Self { disk, bytes: Arc::default(), calls: Arc::default() }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Storage for Counting {
    type File = SimFile;
    type Io = SimStorageIo;
    type Lock = SimLock;

    fn io(&self, core: usize) -> io::Result<SimStorageIo> {
        self.disk.io(core)
    }

    fn write_path(&self, file: &SimFile) -> WritePath {
        self.disk.write_path(file)
    }

    fn write_at(&self, file: &SimFile, offset: u64, buffer: &AlignedBuf, range: Range<usize>) -> io::Result<()> {
        self.disk.write_at(file, offset, buffer, range)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.disk.open(path, mode)
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn read_at(&self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.read_at(file, offset, buffer)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn set_len(&self, file: &SimFile, len: u64) -> io::Result<()> {
        self.disk.set_len(file, len)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        self.disk.lock(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }

    fn settle(&self, file: &SimFile, from: u64) -> io::Result<()> {
        self.disk.settle(file, from)
    }
}
