//! The operating system's files: names and reading by blocking calls, writing
//! by a ring or by blocking calls.

#[cfg(target_os = "linux")]
mod at;
mod backend;
mod direct;
mod file;
mod io;
mod lock;
mod names;
mod open;
mod path;
mod queued;
mod storage;
mod thread;
#[cfg(target_os = "linux")]
mod uring;

pub use backend::Backend;
pub use file::OsFile;
pub use io::BlockingIo;
pub use lock::FileLock;
pub use path::FileIo;
pub use storage::FileStorage;
pub use thread::give_way;
#[cfg(target_os = "linux")]
pub use uring::{Ring, UringIo};

use std::path::Path;

/// The directory that a path's last name stands in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Names the directory: it is seldom the one that the caller has asked for.
fn no_directory(path: &Path) -> std::io::Error {
    let text = format!("{} is no directory (links are not followed)", path.display());
    std::io::Error::new(std::io::ErrorKind::NotADirectory, text)
}
