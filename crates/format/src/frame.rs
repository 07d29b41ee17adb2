//! The frame: header, records, one checksum over all of it. The atomic unit of
//! a log: all of it is there or none of it counts.

use std::fmt;

use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::checksum::crc32c_append;
use crate::limit::{MAX_EPOCH, MAX_FRAME_LEN};
use crate::record::{Entries, RECORD_HEADER_LEN};
use crate::{Epoch, Lsn, Opening, Sequence, TimestampNs};

/// Bytes of a frame's header; the records follow.
pub const FRAME_HEADER_LEN: usize = 64;

const MAGIC: u16 = 0xF7C3;
const CHECKSUM_AT: usize = 0;
const MAGIC_AT: usize = 4;
const FLAGS_AT: usize = 6;
const LENGTH_AT: usize = 8;
const RECORDS_AT: usize = 12;
const LSN_AT: usize = 16;
const DURABLE_LSN_AT: usize = 24;
const EPOCH_AT: usize = 32;
const SEQUENCE_AT: usize = 40;
const TIMESTAMP_AT: usize = 48;
const OPENING_AT: usize = 56;
const RESERVED_AT: usize = 60;

/// The frame is the last of its segment.
const FLAG_SEALED: u16 = 1;

const _: () = assert!(RESERVED_AT + 4 == FRAME_HEADER_LEN);

/// What a writer knows of a frame besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFields {
    /// Position of the frame's first byte.
    pub lsn: Lsn,
    /// Everything below was durable when the frame was written.
    pub durable_lsn: Lsn,
    /// Epoch of the first record.
    pub epoch: Epoch,
    /// Sequence of the first record.
    pub sequence: Sequence,
    /// When the frame was finished.
    pub timestamp: TimestampNs,
    /// The opening of the log that wrote it.
    pub opening: Opening,
    /// Whether it is the last frame of its segment.
    pub sealed: bool,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the writer knew.
    pub fields: FrameFields,
    /// Bytes of header and records, without padding.
    pub len: usize,
    /// Number of records, at least 1.
    pub records: u32,
}

/// Why bytes at a position of a log are not a frame of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The header is all zero: nothing was ever written here.
    Zeroed,
    /// The magic is not that of a frame.
    Magic,
    /// The length is below the smallest or above the largest frame.
    Length {
        /// The length it states.
        found: u32,
    },
    /// The frame states another position than the one it stands at.
    Lsn {
        /// The position it states.
        found: Lsn,
    },
    /// The bytes end before the frame does.
    Incomplete {
        /// Bytes the frame takes.
        needed: usize,
    },
    /// The checksum does not match: damage, an unfinished write, or a frame of
    /// another segment.
    Checksum,
    /// The checksum matches and yet a field is out of range.
    Field {
        /// The name of the field.
        name: &'static str,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeroed => write!(f, "no frame, only zeros"),
            Self::Magic => write!(f, "no frame: the magic does not match"),
            Self::Length { found } => write!(f, "the frame's length {found} is out of range"),
            Self::Lsn { found } => write!(f, "the frame states LSN {found}, which is not where it stands"),
            Self::Incomplete { needed } => write!(f, "the file ends within the frame, which takes {needed} bytes"),
            Self::Checksum => write!(f, "the frame's checksum does not match"),
            Self::Field { name } => write!(f, "field `{name}` of the frame is out of range"),
        }
    }
}

impl std::error::Error for FrameError {}

impl FrameHeader {
    /// Reads a header and judges what can be judged without the records. What
    /// it gives is not to be trusted before [`Frame::decode`] has seen the
    /// checksum; the length is within bounds, so it is safe to read that much.
    ///
    /// # Errors
    /// [`FrameError`]; `Incomplete` if there are fewer bytes than a header has.
    pub fn peek(bytes: &[u8], lsn: Lsn) -> Result<Self, FrameError> {
        let Some(bytes) = bytes.get(..FRAME_HEADER_LEN) else {
            return Err(FrameError::Incomplete { needed: FRAME_HEADER_LEN });
        };
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(FrameError::Zeroed);
        }
        if u16_at(bytes, MAGIC_AT) != MAGIC {
            return Err(FrameError::Magic);
        }
        let found = u32_at(bytes, LENGTH_AT);
        let len = found as usize;
        if !(FRAME_HEADER_LEN + RECORD_HEADER_LEN..=MAX_FRAME_LEN).contains(&len) {
            return Err(FrameError::Length { found });
        }
        let stated = Lsn(u64_at(bytes, LSN_AT));
        if stated != lsn {
            return Err(FrameError::Lsn { found: stated });
        }
        Ok(Self {
            fields: FrameFields {
                lsn,
                durable_lsn: Lsn(u64_at(bytes, DURABLE_LSN_AT)),
                epoch: Epoch(u64_at(bytes, EPOCH_AT)),
                sequence: Sequence(u64_at(bytes, SEQUENCE_AT)),
                timestamp: TimestampNs(u64_at(bytes, TIMESTAMP_AT)),
                opening: Opening(u32_at(bytes, OPENING_AT)),
                sealed: u16_at(bytes, FLAGS_AT) & FLAG_SEALED != 0,
            },
            len,
            records: u32_at(bytes, RECORDS_AT),
        })
    }
}

/// A frame whose checksum has been verified.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The header.
    pub header: FrameHeader,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Verifies the frame at the beginning of `bytes`, which stands at `lsn`
    /// of the segment `seed` belongs to ([`SegmentIdentity::checksum_seed`](crate::SegmentIdentity::checksum_seed)).
    ///
    /// # Errors
    /// [`FrameError`], for anything but a whole frame of this very place.
    pub fn decode(bytes: &'a [u8], seed: u32, lsn: Lsn) -> Result<Self, FrameError> {
        let header = FrameHeader::peek(bytes, lsn)?;
        let Some(frame) = bytes.get(..header.len) else {
            return Err(FrameError::Incomplete { needed: header.len });
        };
        if u32_at(frame, CHECKSUM_AT) != checksum(seed, frame) {
            return Err(FrameError::Checksum);
        }
        let field = |name| Err(FrameError::Field { name });
        let end = lsn.checked_add(header.len as u64);
        match () {
            () if end.is_none() => field("LSN"),
            () if header.records == 0 => field("records"),
            () if header.fields.durable_lsn > lsn => field("durable LSN"),
            () if header.fields.epoch.0 == 0 || header.fields.epoch > MAX_EPOCH => field("epoch"),
            () if header.fields.opening.0 == 0 => field("opening"),
            () if u16_at(frame, FLAGS_AT) & !FLAG_SEALED != 0 => field("flags"),
            () if u32_at(frame, RESERVED_AT) != 0 => field("reserved"),
            () => Ok(Self { header, bytes: frame }),
        }
    }

    /// The frame itself, without its padding.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, each with its LSN, sequence and epoch.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries::new(&self.header, &self.bytes[FRAME_HEADER_LEN..])
    }
}

/// Makes a frame of `frame`, whose records stand behind an empty header.
///
/// # Panics
/// If there is no record, the frame is too long, or the fields contradict each
/// other: errors of the program, not of the operation.
pub fn finish_frame(frame: &mut [u8], records: u32, fields: &FrameFields, seed: u32) {
    assert!(frame.len() >= FRAME_HEADER_LEN + RECORD_HEADER_LEN, "a frame holds at least one record");
    assert!(frame.len() <= MAX_FRAME_LEN, "the writer checks sizes on append");
    assert!(records > 0 && fields.epoch.0 > 0 && fields.opening.0 > 0, "counted from 1");
    assert!(fields.durable_lsn <= fields.lsn, "a frame cannot know itself durable");
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME_LEN, which fits")]
    let len = frame.len() as u32;
    put(frame, MAGIC_AT, &MAGIC.to_le_bytes());
    put(frame, FLAGS_AT, &(if fields.sealed { FLAG_SEALED } else { 0 }).to_le_bytes());
    put(frame, LENGTH_AT, &len.to_le_bytes());
    put(frame, RECORDS_AT, &records.to_le_bytes());
    put(frame, LSN_AT, &fields.lsn.0.to_le_bytes());
    put(frame, DURABLE_LSN_AT, &fields.durable_lsn.0.to_le_bytes());
    put(frame, EPOCH_AT, &fields.epoch.0.to_le_bytes());
    put(frame, SEQUENCE_AT, &fields.sequence.0.to_le_bytes());
    put(frame, TIMESTAMP_AT, &fields.timestamp.0.to_le_bytes());
    put(frame, OPENING_AT, &fields.opening.0.to_le_bytes());
    put(frame, RESERVED_AT, &[0; 4]);
    let checksum = checksum(seed, frame);
    put(frame, CHECKSUM_AT, &checksum.to_le_bytes());
}

#[cfg(not(feature = "planted-bugs"))]
#[inline]
fn checksum(seed: u32, frame: &[u8]) -> u32 {
    crc32c_append(seed, &frame[MAGIC_AT..])
}

/// The same, or as a bug would have it that a test plants: of whole blocks, in
/// which the frame's length does not count.
#[cfg(feature = "planted-bugs")]
fn checksum(seed: u32, frame: &[u8]) -> u32 {
    static PLANTED: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var("COREWAL_PLANT").is_ok_and(|name| name == "ChecksumWithoutLength"));
    if !*PLANTED {
        return crc32c_append(seed, &frame[MAGIC_AT..]);
    }
    let before = crc32c_append(seed, &frame[MAGIC_AT..LENGTH_AT]);
    let behind = crc32c_append(before, &frame[RECORDS_AT..]);
    crc32c_append(behind, &vec![0; crate::block_align(frame.len()) - frame.len()])
}
