//! The on-disk format of corewal: bytes to values and back.
//!
//! `docs/FORMAT.md` in the repository is the normative description; this crate
//! is its mirror. Nothing here opens a file, reads a clock or allocates by a
//! length it has not checked: every decoder takes any bytes and gives a value
//! or a typed error.
//!
//! | module | what is in it |
//! |---|---|
//! | `types` | [`Lsn`], [`CoreId`], [`Epoch`], … |
//! | `segment` | [`SegmentHeader`], the first block of every file |
//! | `frame` | [`FrameHeader`], [`Frame`]: the atomic unit of a log |
//! | `record` | [`Record`]: what a frame holds |
//! | `commit` | [`CommitRef`]: offsets and watermark of a batch |
//! | `manifest` | [`Manifest`]: the root that says what a store is |
//! | `checksum` | CRC-32C |
//! | `name` | the grammar of file names |
//! | `limit` | size limits, the same for writing and reading |

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "small numbers"))]

mod bytes;
mod checksum;
mod commit;
mod frame;
mod limit;
mod manifest;
pub mod name;
mod record;
mod segment;
mod types;

pub use checksum::crc32c_append;
pub use commit::{CommitRef, OffsetRef, Offsets, encode_commit_body};
pub use frame::{FRAME_HEADER_LEN, Frame, FrameError, FrameFields, FrameHeader, finish_frame};
pub use limit::{
    BLOCK_LEN, MAX_BASE_LSN, MAX_CORES, MAX_EPOCH, MAX_FRAME_LEN, MAX_KEY_LEN, MAX_OFFSET_FIELD_LEN, MAX_OFFSETS,
    MAX_VALUE_LEN, block_align,
};
pub use manifest::{Checkpoint, CoreCheckpoint, MAX_MANIFEST_LEN, Manifest, ManifestError, ManifestState, RunRef};
pub use record::{Entries, Entry, RECORD_HEADER_LEN, Record, RecordError};
pub use segment::{SegmentError, SegmentHeader, SegmentIdentity};
pub use types::{CoreId, Epoch, LogId, Lsn, Opening, RunId, SegmentId, Sequence, TimestampNs};

/// Version of the format that this crate writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
