//! The name space and the read side of the blocking backend.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::{BlockingIo, FileLock, OsFile, lock, open};
use crate::{AlignedBuf, DirEntry, EntryKind, OpenMode, Storage, WritePath, write};

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
pub struct FileStorage;

impl FileStorage {
    /// The backend. It holds nothing: the system's file tree is one.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Storage for FileStorage {
    type File = OsFile;
    type Io = BlockingIo;
    type Lock = FileLock;

    fn io(&self, _core: usize) -> io::Result<BlockingIo> {
        Ok(BlockingIo::default())
    }

    fn write_path(&self, _file: &OsFile) -> WritePath {
        WritePath { backend: "blocking", direct: false, instead: None }
    }

    fn write_at(&self, file: &OsFile, offset: u64, buffer: &AlignedBuf, range: Range<usize>) -> io::Result<()> {
        write::check(offset, buffer, &range)?;
        file.write_at(offset, &buffer[range])
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<OsFile> {
        Ok(OsFile::new(open::file(path, mode)?, path))
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

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        lock::acquire(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        lock::is_held(path)
    }
}
