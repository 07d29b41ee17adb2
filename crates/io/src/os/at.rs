//! A path as a directory that is held open and a name in it (Linux).
//!
//! A store's files stand in directories of the store's own. `O_NOFOLLOW` keeps a
//! link out at the end of a path only; here the directory before it is opened in
//! the same way, and what is done with the name is done in that directory,
//! whatever stands under its path by then.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::{no_directory, parent};
use crate::{DirEntry, EntryKind};

/// Of every opening: no link, no waiting for the other end of a pipe, nothing
/// left to a program that this one starts.
const GUARD: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A name in a directory that is open.
pub(super) struct Entry<'p> {
    dir: OwnedFd,
    name: &'p OsStr,
}

impl<'p> Entry<'p> {
    /// The directory of `path`, which must not be a link, and its last name.
    pub(super) fn at(path: &'p Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { dir: dir(parent(path), OFlags::PATH)?, name })
    }

    /// Opens it; a file that is created is its owner's alone.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<File> {
        Ok(File::from(openat(&self.dir, self.name, flags | GUARD, Mode::RUSR | Mode::WUSR)?))
    }

    /// What it is, of a link that it is one.
    pub(super) fn kind(&self) -> io::Result<FileType> {
        kind_of(&self.dir, self.name)
    }

    pub(super) fn rename(&self, to: &Self) -> io::Result<()> {
        Ok(renameat(&self.dir, self.name, &to.dir, to.name)?)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.dir, self.name, AtFlags::empty())?)
    }
}

/// Opens a directory that is no link.
pub(super) fn dir(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    openat(CWD, path, flags | OFlags::DIRECTORY | GUARD, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP => no_directory(path),
        other => other.into(),
    })
}

/// The entries of a directory, but for itself and the one above.
pub(super) fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let dir = dir(path, OFlags::RDONLY)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Not every file system tells (`readdir(3)`).
            FileType::Unknown => match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => FileType::from_raw_mode(found.st_mode),
                // Gone since it was listed.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            },
            known => known,
        };
        let kind = match kind {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            _ => EntryKind::Other,
        };
        entries.push(DirEntry { name: name.to_string_lossy().into_owned(), kind });
    }
    Ok(entries)
}

fn kind_of(dir: impl AsFd, name: &OsStr) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
}
