//! Direct I/O on one file: whether the file system has it, and the second
//! descriptor that uses it.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fs::File;
use std::io;
use std::path::Path;

use crate::OpenMode;

/// What was found when the file was opened. It stays so as long as the file
/// is open: a direct write that fails is an error, never a reason to change
/// over.
pub(super) enum Direct {
    /// Writes go through this descriptor, past the page cache.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only used on Linux"))]
    Open(File),
    /// They would, were the file open for writing.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only used on Linux"))]
    Possible,
    /// Writes go through the page cache; why.
    Not(&'static str),
}

/// Reads on the cached descriptor stay coherent with writes on the direct one:
/// the kernel drops the cached pages of what a direct write covers
/// (`open(2)`, `O_DIRECT`).
#[cfg(target_os = "linux")]
pub(super) fn open(file: &File, path: &Path, mode: OpenMode) -> io::Result<Direct> {
    const NONE: Direct = Direct::Not("the file system has no direct I/O");

    let alignment = alignment(file);
    if alignment == Alignment::Unfit {
        return Ok(NONE);
    }
    let writable = mode != OpenMode::Read;
    if alignment == Alignment::Fits && !writable {
        return Ok(Direct::Possible);
    }
    let direct = match super::open::direct(path, writable) {
        Ok(direct) => direct,
        // "The filesystem does not support the O_DIRECT flag" (open(2)).
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(NONE),
        Err(error) => return Err(error),
    };
    if !same_file(file, &direct)? {
        return Err(io::Error::other("the file was replaced while it was opened"));
    }
    if alignment == Alignment::Unknown && !reads_a_block(&direct)? {
        return Ok(NONE);
    }
    if !writable {
        return Ok(Direct::Possible);
    }
    mark_in_use(&direct)?;
    Ok(Direct::Open(direct))
}

/// Marks the descriptor that writes go by. The lock belongs to the open file
/// description (`flock(2)`), which the kernel keeps for as long as an operation
/// of io_uring on it is under way, also when the process that began it has been
/// killed. So [`quiesce`] can wait for the last of them.
#[cfg(target_os = "linux")]
fn mark_in_use(direct: &File) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    match flock(direct, FlockOperation::NonBlockingLockShared) {
        // A file system without locks cannot tell.
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until no descriptor that [`mark_in_use`] has marked is left.
#[cfg(target_os = "linux")]
pub(super) fn quiesce(file: &File) -> io::Result<()> {
    use std::time::Duration;

    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    const PAUSE: Duration = Duration::from_millis(1);
    const PATIENCE: u32 = 30_000;

    for _ in 0..PATIENCE {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            // At once, and not by closing: a process that another thread forks
            // just then has the descriptor too until it calls exec, and would
            // keep the lock for so long.
            Ok(()) => return Ok(flock(file, FlockOperation::Unlock)?),
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "writes of a process that is gone have been under way for 30 s"))
}

/// See the Linux version: plain calls end with the process that makes them.
#[cfg(not(target_os = "linux"))]
pub(super) fn quiesce(_file: &File) -> io::Result<()> {
    Ok(())
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(super) fn open(_file: &File, _path: &Path, _mode: OpenMode) -> io::Result<Direct> {
    Ok(Direct::Not("direct I/O is used on Linux only"))
}

/// Whether whole blocks of ours are what the file asks of direct I/O.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alignment {
    Fits,
    Unfit,
    /// The kernel (before 6.1) or the file system does not tell.
    Unknown,
}

/// `statx(2)`, `STATX_DIOALIGN`: "stx_dio_mem_align: The alignment (in bytes)
/// required for user memory buffers for direct I/O on this file, or 0 if direct
/// I/O is not supported on this file."
#[cfg(target_os = "linux")]
fn alignment(file: &File) -> Alignment {
    use rustix::fs::{AtFlags, StatxFlags, statx};

    use crate::BLOCK_SIZE;

    let Ok(found) = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Alignment::Unknown;
    };
    if found.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Alignment::Unknown;
    }
    let fits = |align: u32| align > 0 && BLOCK_SIZE.is_multiple_of(align as usize);
    if fits(found.stx_dio_mem_align) && fits(found.stx_dio_offset_align) { Alignment::Fits } else { Alignment::Unfit }
}

/// The descriptors were opened by path one after the other.
#[cfg(target_os = "linux")]
fn same_file(one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Some file systems let a file be opened so and refuse the transfer.
#[cfg(target_os = "linux")]
fn reads_a_block(direct: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;

    let mut block = crate::AlignedBuf::new(crate::BLOCK_SIZE);
    match direct.read_at(&mut block, 0) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the kernel knows a write that carries its own sync: `pwritev2(2)`,
/// `RWF_DSYNC`, "since Linux 4.7". The flag is checked before the direction,
/// so a read tells, and changes nothing.
#[cfg(target_os = "linux")]
pub(super) fn durable_writes(file: &File) -> bool {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    let mut byte = [0];
    let read = preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::DSYNC);
    // Any other error is of the medium or the moment.
    !matches!(read, Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL))
}

/// See the Linux version: nothing like it is used here.
#[cfg(not(target_os = "linux"))]
pub(super) fn durable_writes(_file: &File) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// An opening failed now and then with `EAGAIN` in a program that starts
    /// processes beside it. The lock that `quiesce` takes went with the closing
    /// of its file, and a process just forked has all files of its parent open
    /// until it calls exec; the descriptor for direct writes then could not be
    /// marked.
    #[test]
    fn waiting_for_earlier_writers_leaves_no_lock_though_the_file_stays_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"a").unwrap();
        let looked_at = File::open(&path).unwrap();
        let forked = looked_at.try_clone().unwrap();
        quiesce(&looked_at).unwrap();
        drop(looked_at);
        mark_in_use(&File::open(&path).unwrap()).unwrap();
        drop(forked);
    }
}
