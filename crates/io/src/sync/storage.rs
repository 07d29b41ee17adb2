//! The name space and the read side of the blocking backend.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fs;
use std::io;
use std::path::Path;

use super::{SyncFile, SyncLock, SyncStorageIo, lock, open};
use crate::{DirEntry, EntryKind, OpenMode, Storage};

/// The file system of the operating system, by blocking calls.
///
/// What it creates is private: files have mode 0600 and directories 0700 on
/// Unix. Links are never followed at the end of a path. Errors are the
/// system's own ([`io::Error::raw_os_error`]) and do not name the path; the
/// caller knows it.
///
/// Limits by platform: Windows cannot sync a directory, so
/// [`sync_dir`](Storage::sync_dir) does nothing there, and it refuses to
/// [`settle`](Storage::settle) a file opened only for reading. Only Linux is
/// asked to drop its cache in `settle`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncStorage;

impl SyncStorage {
    /// The backend. It holds nothing: the system's file tree is one.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Storage for SyncStorage {
    type File = SyncFile;
    type Io = SyncStorageIo;
    type Lock = SyncLock;

    fn io(&self) -> io::Result<SyncStorageIo> {
        Ok(SyncStorageIo::default())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SyncFile> {
        Ok(SyncFile::new(open::file(path, mode)?, path))
    }

    fn len(&self, file: &SyncFile) -> io::Result<u64> {
        file.len()
    }

    fn read_at(&self, file: &SyncFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        file.read_at(offset, buffer)
    }

    fn set_len(&self, file: &SyncFile, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn settle(&self, file: &SyncFile, from: u64) -> io::Result<()> {
        file.sync_data()?;
        file.forget_cache(from);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Does not follow links: a link is a link here.
            let kind = entry.file_type()?;
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                kind: if kind.is_file() {
                    EntryKind::File
                } else if kind.is_dir() {
                    EntryKind::Directory
                } else {
                    EntryKind::Other
                },
            });
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        open::create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if fs::symlink_metadata(from)?.file_type().is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open::sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SyncLock>> {
        lock::acquire(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        lock::is_held(path)
    }
}
