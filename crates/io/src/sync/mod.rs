//! The blocking backend: plain system calls, on every platform.

mod file;
mod io;
mod lock;
mod open;
mod storage;

pub use file::SyncFile;
pub use io::SyncStorageIo;
pub use lock::SyncLock;
pub use storage::SyncStorage;
