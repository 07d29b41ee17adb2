//! A simulated disk: deterministic, in memory, and as bad as a disk may be.
//!
//! # The model
//!
//! A file has two states: what readers see (the page cache) and what the
//! medium has. A write changes the first when it completes; a sync carries
//! over to the second what had completed **before the sync was submitted**. A
//! directory is the same for names, with
//! [`sync_dir`](crate::Storage::sync_dir). [`SimSnapshot::crash`] decides what
//! is left when the process or the power goes, by chance: see [`CrashKind`].
//! [`SimSnapshot::images`] goes through what can be left, one image after the
//! other.
//!
//! # Steps
//!
//! Each submitted operation, each completion and each `create`, `create_dir`,
//! `rename`, `remove`, `set_len`, `sync_dir` and `settle`, also one that
//! fails, is one step. Reading is none. With
//! [`SimStorage::record_snapshots`] the disk is kept as it was after every
//! step, so that a test can crash it at each of them.
//!
//! # Determinism
//!
//! There is no clock, no thread and no hash order in it. The same seed and the
//! same calls in the same order give the same results, the same completions
//! and the same crashes. Calls from several threads at once have no order of
//! their own, so a test that must repeat makes them from one.

mod content;
mod crash;
mod directory;
mod disk;
mod fate;
mod fault;
mod file;
mod handle;
mod image;
mod io;
mod names;
mod snapshot;
mod state;
mod storage;

pub use crash::CrashKind;
pub use fault::{Fault, FaultKind, OperationKind};
pub use handle::{SimFile, SimLock};
pub use image::{CrashImage, CrashImages, ImageLimits};
pub use io::SimStorageIo;
pub use snapshot::SimSnapshot;
pub use storage::{SimOptions, SimStorage};
