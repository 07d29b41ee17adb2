//! The operating system's files: names and reading by blocking calls, writing
//! by a ring or by blocking calls.

mod backend;
mod direct;
mod file;
mod io;
mod lock;
mod open;
mod path;
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
