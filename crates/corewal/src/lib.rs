//! A per-core write-ahead log, and the durable state on top of it, for
//! thread-per-core programs.
//!
//! Each core owns its log and its keys; nothing is shared on the write path.
//! After any crash, opening the directory gives back exactly the state, the
//! source offsets and the watermark that were made durable.
//!
//! ```
//! use corewal::{Commit, Options};
//!
//! # fn main() -> corewal::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path();
//! let mut opened = Options::new().cores(1).open(dir)?;
//! let shard = &mut opened.shards[0];
//! shard.put(b"user:1", b"ada")?;
//! shard.commit(&Commit::new().offset_u64("signups", 1))?;
//! shard.end_epoch(opened.store.next_epoch())?;
//! shard.sync()?; // from here on it survives a power loss
//! drop(opened); // a crash would do the same
//!
//! let opened = Options::new().open(dir)?;
//! assert_eq!(opened.shards[0].get(b"user:1"), Some(&b"ada"[..]));
//! assert_eq!(opened.shards[0].offset_u64("signups"), Some(1));
//! # Ok(())
//! # }
//! ```
//!
//! # The way in
//!
//! [`Options::open`] is the only door: it creates the store or recovers it, and
//! gives a [`Store`] (the directory, the epochs), one [`Shard`] a core, and a
//! [`RecoveryReport`]. [`Options::open_on`] takes a state of your own
//! ([`State`]) and another backend; [`Options::open_writers`] gives the bare
//! logs. [`Reader`] looks into a store, beside a live writer too, and changes
//! nothing.
//!
//! # Words
//!
//! A **commit** ends a batch in one core; its records, offsets and watermark are
//! atomic together. An **epoch** is a cut across all cores; it is complete when
//! every core has its end durable. [`Recover`] says what opening gives back.
//! The on-disk format, the durability argument and what cannot be detected are
//! in `docs/FORMAT.md` and `docs/DURABILITY.md`.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "small numbers"))]

mod checkpoint;
mod clock;
mod commit;
mod durable;
mod entropy;
mod epochs;
mod error;
mod group;
mod layout;
mod lone_frame;
mod options;
mod parallel;
mod parts;
mod planted;
mod reader;
mod recovery;
mod repair;
mod report;
mod reshard;
mod route;
mod scan;
mod segments;
mod shard;
mod space;
mod state;
mod store;
mod sync;
mod verify;
mod writer;

pub use corewal_format as format;
pub use corewal_format::{CoreId, Epoch, LogId, Lsn, Offsets, SegmentId, Sequence, TimestampNs};
pub use corewal_io as io;

pub use checkpoint::{CheckpointMade, CheckpointStatus, Checkpoints, checkpoint, checkpoint_on};
pub use clock::{Clock, ManualClock, SystemClock};
pub use commit::Commit;
pub use durable::{DurableLsn, Reached, Ticket};
pub use error::{Damage, Error, Result};
pub use group::GroupCommit;
pub use options::{Options, Recover};
pub use parts::{Assembly, Parts, SealedSegment, Until, assemble, assemble_on, run_name, segment_name};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use reader::{CoreInfo, CoreView, Info, Reader, RecordView, Space};
pub use repair::{Repair, RepairStep, repair, repair_on};
pub use report::{CoreReport, Cut, RecoveryReport, RolledBack};
pub use reshard::{Resharded, reshard, reshard_on};
pub use route::Router;
pub use scan::Verdict;
pub use shard::{Entries, Entry, Shard};
pub use space::Budget;
pub use state::{Change, Keyed, Pair, State};
pub use store::{Opened, Store};
pub use verify::{Finding, Verification, verify, verify_on};
pub use writer::Writer;
