//! Size limits. One set, for the writer and the reader alike: what the writer
//! accepts, the reader accepts.

use crate::frame::FRAME_HEADER_LEN;
use crate::record::RECORD_HEADER_LEN;
use crate::{Epoch, Lsn};

/// Every frame starts on a multiple of this many bytes in its file, and the
/// segment header fills the first.
pub const BLOCK_LEN: usize = 4096;

/// Longest key, in bytes.
pub const MAX_KEY_LEN: usize = u16::MAX as usize;

/// Longest value, payload or commit body, in bytes: 16 MiB.
pub const MAX_VALUE_LEN: usize = 16 << 20;

/// Longest frame, in bytes, without its padding: one record of the largest key
/// and value fits, rounded up to whole blocks.
pub const MAX_FRAME_LEN: usize = block_align(FRAME_HEADER_LEN + RECORD_HEADER_LEN + MAX_KEY_LEN + MAX_VALUE_LEN);

/// Most source offsets in one commit.
pub const MAX_OFFSETS: usize = 4096;

/// Longest name, and longest value, of a source offset, in bytes.
pub const MAX_OFFSET_FIELD_LEN: usize = 1024;

/// The greatest position at which a segment may begin: what is counted on from
/// there has to fit, and be a position that a checkpoint can cover. No log comes
/// near it.
pub const MAX_BASE_LSN: Lsn = Lsn(u64::MAX / 4);

/// The last epoch. Far out of reach, and low enough that arithmetic on epochs
/// cannot overflow.
pub const MAX_EPOCH: Epoch = Epoch(u64::MAX >> 1);

/// Most cores of one store.
pub const MAX_CORES: u16 = 1024;

/// `len` rounded up to whole blocks.
#[must_use]
pub const fn block_align(len: usize) -> usize {
    len.div_ceil(BLOCK_LEN) * BLOCK_LEN
}

// A commit body at its limits must fit a value.
const _: () = assert!(11 + MAX_OFFSETS * (4 + 2 * MAX_OFFSET_FIELD_LEN) <= MAX_VALUE_LEN);
const _: () = assert!(MAX_FRAME_LEN <= u32::MAX as usize);
