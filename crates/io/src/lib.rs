//! Storage backends of corewal: files, bytes and offsets.
//!
//! This crate is the only one of the project that touches files and the only
//! one that contains `unsafe`. It knows nothing of frames, records or epochs.
//!
//! Two traits split the work:
//!
//! * [`Storage`] is the name space and the read side: open, list, rename,
//!   remove, sync a directory, read at an offset, lock. Calls block; they are
//!   made at open, at rotation and by readers, never per record. It is cheap
//!   to clone and shared by all cores.
//! * [`StorageIo`] is the write path of **one** core: submit an operation, go
//!   on, poll for its completion. Writes carry an explicit offset and an owned
//!   aligned buffer, which comes back with the completion. Nothing promises
//!   an order between two operations in flight; a caller who needs one waits
//!   for the first completion before submitting the second.
//!
//! Backends: [`FileStorage`] (the operating system's files; it writes by
//! `io_uring(7)` or by plain system calls, past the page cache or through it,
//! as [`Storage::write_path`] tells) and [`SimStorage`] (a simulated disk that
//! loses, tears and fails on demand, public so that users can test their own
//! engines on it).

#![deny(missing_docs)]

/// The crate whose types [`Ring`] takes and gives.
#[cfg(target_os = "linux")]
pub use io_uring;

mod buffer;
mod os;
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only io_uring registers memory"))]
mod place;
#[cfg(target_os = "linux")]
pub mod raw;
mod sim;
mod storage;
mod write;

pub use buffer::AlignedBuf;
pub use os::{Backend, BlockingIo, FileIo, FileLock, FileStorage, OsFile, give_way};
#[cfg(target_os = "linux")]
pub use os::{Ring, UringIo};
pub use sim::{
    CrashImage, CrashImages, CrashKind, Fault, FaultKind, ImageLimits, OperationKind, SimFile, SimLock, SimOptions,
    SimSnapshot, SimStorage, SimStorageIo,
};
pub use storage::{
    BLOCK_SIZE, Completion, DirEntry, EntryKind, OpenMode, Operation, ReadPace, Storage, StorageIo, Token, Wait,
    WritePath,
};
