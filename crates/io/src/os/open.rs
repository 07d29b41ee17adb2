//! Opening files: never through a link, never
//! anything but a regular file, private when created.
//!
//! On Linux neither the file nor the directory it stands in may be a link, also
//! if one takes its place between two calls (`at.rs`); elsewhere both are looked
//! at before the opening.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::OpenMode;

/// Opens a regular file.
pub(super) fn file(path: &Path, mode: OpenMode) -> io::Result<File> {
    if mode != OpenMode::CreateNew {
        refuse_irregular(path)?;
    }
    regular(path, Way::of(mode))
}

/// Opens the file that carries a lock, creating it empty if it is missing.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    match refuse_irregular(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    regular(path, Way { write: true, create: true, new: false })
}

/// How a file is opened; always for reading, too.
#[derive(Clone, Copy)]
struct Way {
    write: bool,
    create: bool,
    /// It must not be there. `O_EXCL`: "if pathname is a symbolic link, then
    /// open() fails regardless of where it points" (open(2)).
    new: bool,
}

impl Way {
    fn of(mode: OpenMode) -> Self {
        let new = mode == OpenMode::CreateNew;
        Self { write: mode != OpenMode::Read, create: new, new }
    }
}

/// Opens a regular file once more, for direct I/O (`open(2)`, `O_DIRECT`).
#[cfg(target_os = "linux")]
pub(super) fn direct(path: &Path, writable: bool) -> io::Result<File> {
    use rustix::fs::OFlags;

    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let file = super::at::Entry::at(path)?.open(access | OFlags::DIRECT)?;
    if !file.metadata()?.file_type().is_file() {
        return Err(irregular());
    }
    let_it_wait(&file)?;
    Ok(file)
}

/// Takes `O_NONBLOCK` off a file that was found to be regular. `open(2)`: it
/// "has no effect for regular files". For io_uring it has one: older kernels
/// (5.15 is one) then end an operation that has to wait with `EAGAIN`, instead
/// of handing it to a worker thread. Where a file system always has to wait,
/// it would end so however often it is made again.
#[cfg(target_os = "linux")]
fn let_it_wait(file: &File) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    Ok(fcntl_setfl(file, fcntl_getfl(file)?.difference(OFlags::NONBLOCK))?)
}

/// Opens with the flags that keep links out even when one takes the path's
/// place between a check and this call, and looks at what was opened.
fn regular(path: &Path, way: Way) -> io::Result<File> {
    let file = open(path, way)?;
    if file.metadata()?.file_type().is_file() { Ok(file) } else { Err(irregular()) }
}

#[cfg(target_os = "linux")]
fn open(path: &Path, way: Way) -> io::Result<File> {
    use rustix::fs::OFlags;

    let mut flags = if way.write { OFlags::RDWR } else { OFlags::RDONLY };
    flags.set(OFlags::CREATE, way.create);
    flags.set(OFlags::EXCL, way.new);
    super::at::Entry::at(path)?.open(flags)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path, way: Way) -> io::Result<File> {
    refuse_linked_dir(super::parent(path))?;
    let mut options = fs::OpenOptions::new();
    options.read(true).write(way.write).create(way.create).create_new(way.new).truncate(false);
    harden(&mut options);
    options.open(path)
}

/// Where a directory can't be held open while its entries are: refuses one that
/// is a link at this moment.
#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_linked_dir(dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(dir)?.file_type().is_dir() { Ok(()) } else { Err(super::no_directory(dir)) }
}

/// Refuses a path at which there is something else than a regular file. It
/// comes before the opening, which would block on a pipe and act on a device.
fn refuse_irregular(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.file_type().is_file() { Ok(()) } else { Err(irregular()) }
}

fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file (links are not followed)")
}

/// Mode 0600 for what is created (less the umask, `open(2)`), no following of
/// a link, no waiting for the other end of a pipe.
#[cfg(all(unix, not(target_os = "linux")))]
fn harden(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;

    /// `O_NOFOLLOW` and `O_NONBLOCK` of Darwin's `<fcntl.h>`. The numbers differ
    /// from system to system; where they are not known the check before the
    /// opening is the guard.
    const FLAGS: i32 = if cfg!(target_vendor = "apple") { 0x0100 | 0x0004 } else { 0 };
    options.mode(0o600).custom_flags(FLAGS);
}

/// `FILE_FLAG_OPEN_REPARSE_POINT` (`CreateFileW`): opens a link itself, which
/// then is not a regular file.
#[cfg(windows)]
fn harden(options: &mut fs::OpenOptions) {
    use std::os::windows::fs::OpenOptionsExt;

    options.custom_flags(0x0020_0000);
}

/// Creates one directory, mode 0700 (less the umask, `mkdir(2)`).
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(false);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a directory's entries durable, where the platform can
/// (`fsync(2)`); elsewhere only checks that it is there.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    File::from(super::at::dir(path, rustix::fs::OFlags::RDONLY)?).sync_all()?;
    #[cfg(not(target_os = "linux"))]
    {
        refuse_linked_dir(path)?;
        #[cfg(unix)]
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;

    #[test]
    fn a_file_for_direct_writes_lets_them_wait() {
        // Beside the program: temporary directories are often in memory.
        let beside = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
        let path = dir.path().join("a");
        file(&path, OpenMode::CreateNew).unwrap();
        match direct(&path, true) {
            Ok(direct) => {
                let flags = fcntl_getfl(&direct).unwrap();
                assert!(flags.contains(OFlags::DIRECT) && !flags.contains(OFlags::NONBLOCK), "{flags:?}");
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "no direct I/O here"),
        }
    }
}
