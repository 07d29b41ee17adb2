//! Advisory locks.

#![allow(clippy::disallowed_methods, reason = "this crate is where files are touched and where waiting is done")]

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::open;
use crate::OpenMode;

/// How often, and with what pause, the lock is tried before it counts as
/// held: together 200 ms. [`is_locked`] takes it in shared mode for an
/// instant, which must not look like an owner.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// An exclusive advisory lock on a file: [`File::try_lock`], that is
/// `flock(2)` on Unix and `LockFileEx` on Windows. Freed when dropped, and by
/// the system when the process ends, however it ends.
///
/// The lock belongs to the open file, not to the process, so two handles of
/// one process exclude each other. It binds only those who ask for it.
pub struct FileLock {
    /// Closing it frees the lock.
    _file: File,
    path: PathBuf,
}

/// Prints the path of the lock file.
impl fmt::Debug for FileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileLock").field(&self.path).finish()
    }
}

/// Takes the lock, or `None` if another has it for all the attempts.
pub(super) fn acquire(path: &Path) -> io::Result<Option<FileLock>> {
    const { assert!(ATTEMPTS > 0) };
    let file = open::lock_file(path)?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        match file.try_lock() {
            Ok(()) => {
                let path = path.to_path_buf();
                return Ok(Some(FileLock { _file: file, path }));
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether an exclusive lock is held. Several may ask at once: they share.
pub(super) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match open::file(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock()?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
