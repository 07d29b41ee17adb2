//! An open file, and its positional reads and writes by system calls.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched")]

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::direct::Direct;
use crate::ReadPace;

/// An open file of [`FileStorage`](crate::FileStorage). Clones share its
/// descriptors; the last one closes them.
///
/// Opened for writing, where the file system has direct I/O, it holds two: the
/// one reads through the page cache, the other writes past it.
#[derive(Clone)]
pub struct OsFile {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    direct: Direct,
    /// The kernel knows `RWF_DSYNC`.
    durable_writes: bool,
    path: PathBuf,
}

/// Prints the path it was opened by.
impl fmt::Debug for OsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OsFile").field(&self.inner.path).finish()
    }
}

impl OsFile {
    pub(super) fn new(file: File, direct: Direct, durable_writes: bool, path: &Path) -> Self {
        let path = path.to_path_buf();
        Self { inner: Arc::new(Inner { file, direct, durable_writes, path }) }
    }

    pub(super) fn direct(&self) -> &Direct {
        &self.inner.direct
    }

    /// The descriptor that writes go through.
    pub(crate) fn for_writing(&self) -> &File {
        match &self.inner.direct {
            Direct::Open(direct) => direct,
            Direct::Possible | Direct::Not(_) => &self.inner.file,
        }
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

    /// Whether it is the same open file.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Writes all of `parts`, one behind the other; with `data_sync` they, and
    /// the length they need, are durable when it returns. After an error so many
    /// bytes are written as it says, and durable if they were to be; of the rest
    /// any part may be written.
    pub(super) fn write_at(&self, offset: u64, parts: &mut [IoSlice<'_>], data_sync: bool) -> (usize, io::Result<()>) {
        let file = self.for_writing();
        if data_sync && self.inner.durable_writes {
            return write_all(offset, parts, |position, rest| write_durably_once(file, position, rest));
        }
        match write_all(offset, parts, |position, rest| write_once(file, position, rest)) {
            (written, Ok(())) if data_sync => match self.sync_data() {
                Ok(()) => (written, Ok(())),
                failed => (0, failed),
            },
            (_, failed @ Err(_)) if data_sync => (0, failed),
            done => done,
        }
    }

    /// Gives the range its blocks at once, so that they lie together
    /// (`fallocate(2)`); also extends the file to its end. `false` where the file
    /// system cannot: it gives them as they are written.
    pub(super) fn reserve(&self, offset: u64, len: u64) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            use rustix::io::Errno;

            match rustix::io::retry_on_intr(|| fallocate(&self.inner.file, FallocateFlags::empty(), offset, len)) {
                Ok(()) => Ok(true),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (offset, len);
            Ok(false)
        }
    }

    /// Asks the operating system to read ahead further than usual, or not at all
    /// (`posix_fadvise(2)`). Advice: its result does not matter.
    pub(super) fn set_read_pace(&self, pace: ReadPace) {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{Advice, fadvise};

            let advice = match pace {
                ReadPace::Full => Advice::Sequential,
                ReadPace::Gentle => Advice::Random,
            };
            let _ = fadvise(&self.inner.file, 0, None, advice);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = pace;
    }

    /// Asks the operating system to start reading a range into its cache
    /// (`posix_fadvise(2)`). Advice: its result does not matter.
    pub(super) fn read_ahead(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{Advice, fadvise};

            if let Some(len) = std::num::NonZeroU64::new(len) {
                let _ = fadvise(&self.inner.file, offset, Some(len), Advice::WillNeed);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
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

/// Calls `write` until all of `parts` is written: again after a signal
/// (`EINTR`, `signal(7)`) and after a short write (`write(2)`, "The number of
/// bytes written may be less than count"). Gives how much was, and why no more.
fn write_all(
    offset: u64,
    mut parts: &mut [IoSlice<'_>],
    mut write: impl FnMut(u64, &[IoSlice<'_>]) -> io::Result<usize>,
) -> (usize, io::Result<()>) {
    let mut done = 0;
    // Empty ones are gone, too.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match advance(offset, done).and_then(|position| write(position, parts)) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                IoSlice::advance_slices(&mut parts, written);
                done += written;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
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

#[cfg(target_os = "linux")]
fn write_once(file: &File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file, parts, offset)?)
}

// The first of them: the rest is as after a short write.
#[cfg(all(unix, not(target_os = "linux")))]
fn write_once(file: &File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, &parts[0], offset)
}

// Both move the handle's position, which nothing here uses.
#[cfg(windows)]
fn read_once(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// One system call that returns once what it wrote is durable: `RWF_DSYNC` of
/// `pwritev2(2)`.
#[cfg(target_os = "linux")]
fn write_durably_once(file: &File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2};

    Ok(pwritev2(file, parts, offset, ReadWriteFlags::DSYNC)?)
}

/// Only Linux is found to have such a call.
#[cfg(not(target_os = "linux"))]
fn write_durably_once(_file: &File, _offset: u64, _parts: &[IoSlice<'_>]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(windows)]
fn write_once(file: &File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, &parts[0], offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of `parts` by a `write` that is told where and which bytes.
    fn written(
        offset: u64,
        parts: &[&[u8]],
        mut write: impl FnMut(u64, Vec<u8>) -> io::Result<usize>,
    ) -> (usize, io::Result<()>) {
        let mut parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        write_all(offset, &mut parts, |position, rest| {
            write(position, rest.iter().flat_map(|part| part.to_vec()).collect())
        })
    }

    #[test]
    fn writing_goes_on_after_signals_and_short_writes() {
        let mut medium = Vec::new();
        let mut calls = 0;
        let (done, result) = written(100, &[b"ab", b"", b"cdefg"], |position, rest| {
            calls += 1;
            if calls % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            assert_eq!(position, 100 + medium.len() as u64);
            let part = rest.len().min(3);
            medium.extend_from_slice(&rest[..part]);
            Ok(part)
        });
        result.unwrap();
        assert_eq!(medium, b"abcdefg");
        assert_eq!((done, calls), (7, 6));
    }

    #[test]
    fn a_write_of_nothing_is_an_error_and_not_a_loop() {
        let (done, result) = written(0, &[b"a"], |_, _| Ok(0));
        assert_eq!((done, result.unwrap_err().kind()), (0, io::ErrorKind::WriteZero));
    }

    #[test]
    fn an_error_of_the_system_passes_with_its_number_and_with_what_was_written_before() {
        let mut calls = 0;
        let (done, result) = written(0, &[b"ab", b"cd"], |_, _| {
            calls += 1;
            if calls == 1 { Ok(3) } else { Err(io::Error::from_raw_os_error(28)) }
        });
        assert_eq!((done, result.unwrap_err().raw_os_error()), (3, Some(28)));
    }

    #[test]
    fn a_position_beyond_all_files_is_refused() {
        let (done, result) = written(u64::MAX, &[b"ab"], |_, _| Ok(1));
        assert_eq!((done, result.unwrap_err().kind()), (1, io::ErrorKind::InvalidInput));
    }
}
