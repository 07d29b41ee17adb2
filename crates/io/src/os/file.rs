//! An open file of the blocking backend, and its positional reads and writes.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open file of [`FileStorage`](crate::FileStorage). Clones share one
/// handle of the operating system; the last one closes it.
#[derive(Clone)]
pub struct OsFile {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    path: PathBuf,
}

/// Prints the path it was opened by.
impl fmt::Debug for OsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OsFile").field(&self.inner.path).finish()
    }
}

impl OsFile {
    pub(super) fn new(file: File, path: &Path) -> Self {
        let path = path.to_path_buf();
        Self { inner: Arc::new(Inner { file, path }) }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.inner.file.metadata()?.len())
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.file.set_len(len)
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.inner.file.sync_data()
    }

    /// Reads until the buffer is full or the file ends.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let position = advance(offset, done)?;
            match read_once(&self.inner.file, position, &mut buffer[done..]) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        assert!(done <= buffer.len());
        Ok(done)
    }

    /// Writes all of `bytes`. After an error any part of them may be written.
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all(offset, bytes, |position, rest| write_once(&self.inner.file, position, rest))
    }

    /// Writes all of `bytes`, each system call returning only once its bytes,
    /// and the length they need, are durable: `RWF_DSYNC` of `pwritev2(2)`.
    ///
    /// [`io::ErrorKind::Unsupported`] says that the kernel or the file system
    /// does not know it; the caller then writes and syncs.
    #[cfg(target_os = "linux")]
    pub(super) fn write_at_durably(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use rustix::io::{Errno, ReadWriteFlags};

        write_all(offset, bytes, |position, rest| {
            let slices = [io::IoSlice::new(rest)];
            let flags = ReadWriteFlags::DSYNC;
            match rustix::io::pwritev2(&self.inner.file, &slices, position, flags) {
                Ok(written) => Ok(written),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(io::ErrorKind::Unsupported.into()),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// See the Linux version: nothing like it is used here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn write_at_durably(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Asks the operating system to drop what it caches of the file. It is
    /// advice (`posix_fadvise(2)`, `POSIX_FADV_DONTNEED`): pages that are
    /// mapped, or on a file system that ignores it, stay. So the result does
    /// not matter.
    pub(super) fn forget_cache(&self, from: u64) {
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.inner.file, from, None, rustix::fs::Advice::DontNeed);
        #[cfg(not(target_os = "linux"))]
        let _ = from;
    }
}

/// Calls `write` until all of `bytes` is written: again after a signal
/// (`EINTR`, `signal(7)`) and after a short write (`write(2)`, "The number of
/// bytes written may be less than count").
fn write_all(offset: u64, bytes: &[u8], mut write: impl FnMut(u64, &[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        match write(advance(offset, done)?, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                assert!(written <= rest.len());
                done += written;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    assert_eq!(done, bytes.len());
    Ok(())
}

/// The position `done` bytes after `offset`.
fn advance(offset: u64, done: usize) -> io::Result<u64> {
    let position = offset.checked_add(done as u64);
    position.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(unix)]
fn read_once(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(unix)]
fn write_once(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

// Both move the handle's position, which nothing here uses.
#[cfg(windows)]
fn read_once(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(windows)]
fn write_once(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_goes_on_after_signals_and_short_writes() {
        let mut medium = Vec::new();
        let mut calls = 0;
        write_all(100, b"abcdefg", |position, rest| {
            calls += 1;
            if calls % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            assert_eq!(position, 100 + medium.len() as u64);
            let part = rest.len().min(3);
            medium.extend_from_slice(&rest[..part]);
            Ok(part)
        })
        .unwrap();
        assert_eq!(medium, b"abcdefg");
        assert_eq!(calls, 6);
    }

    #[test]
    fn a_write_of_nothing_is_an_error_and_not_a_loop() {
        let error = write_all(0, b"a", |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn an_error_of_the_system_passes_with_its_number() {
        let error = write_all(0, b"a", |_, _| Err(io::Error::from_raw_os_error(28))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(28));
    }

    #[test]
    fn a_position_beyond_all_files_is_refused() {
        let error = write_all(u64::MAX, b"ab", |_, _| Ok(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
