//! What is done with names: listing, renaming, removing, and finding out where
//! a path leads.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::DirEntry;

/// The entries of a directory that is no link.
#[cfg(target_os = "linux")]
pub(super) fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    super::at::list(dir)
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(super) fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    use crate::EntryKind;

    super::open::refuse_linked_dir(dir)?;
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        // Does not follow links: a link is a link here.
        let kind = entry.file_type()?;
        let kind = if kind.is_file() {
            EntryKind::File
        } else if kind.is_dir() {
            EntryKind::Directory
        } else {
            EntryKind::Other
        };
        Ok(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind })
    };
    fs::read_dir(dir)?.map(entry).collect()
}

/// Renames what is not a directory.
#[cfg(target_os = "linux")]
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let from = super::at::Entry::at(from)?;
    if from.kind()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    from.rename(&super::at::Entry::at(to)?)
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    for path in [from, to] {
        super::open::refuse_linked_dir(super::parent(path))?;
    }
    if fs::symlink_metadata(from)?.file_type().is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    fs::rename(from, to)
}

/// Removes a file; of a link the link itself.
#[cfg(target_os = "linux")]
pub(super) fn remove(path: &Path) -> io::Result<()> {
    super::at::Entry::at(path)?.remove()
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(super) fn remove(path: &Path) -> io::Result<()> {
    super::open::refuse_linked_dir(super::parent(path))?;
    fs::remove_file(path)
}

/// The path without links: of what is there the canonical one, and what is
/// not there behind it.
pub(super) fn resolve(dir: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut there = dir;
    loop {
        let shown = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        match shown.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match (there.components().next_back(), there.parent()) {
            // A link that leads nowhere is there, and is none to be made.
            (Some(Component::Normal(name)), Some(above)) if fs::symlink_metadata(there).is_err() => {
                missing.push(name);
                there = above;
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
    }
}
