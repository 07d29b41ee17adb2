//! The blocking backend: plain system calls, on every platform.

mod file;
mod io;
mod lock;
mod open;
mod storage;

pub use file::OsFile;
pub use io::BlockingIo;
pub use lock::FileLock;
pub use storage::FileStorage;
