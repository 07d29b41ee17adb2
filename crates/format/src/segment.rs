//! The segment header: the first block of every segment file.

use std::fmt;

use crate::bytes::{array_at, put, u16_at, u32_at, u64_at};
use crate::checksum::{crc32c, crc32c_append};
use crate::limit::{BLOCK_LEN, MAX_BASE_LSN, MAX_CORES};
use crate::{CoreId, FORMAT_VERSION, LogId, Lsn, RunId, SegmentId};

const MAGIC: [u8; 8] = *b"corewal\0";
const VERSION_AT: usize = 8;
const CHECKSUM_AT: usize = 12;
const LOG_ID_AT: usize = 16;
const CORE_AT: usize = 32;
const CORES_AT: usize = 34;
const BLOCK_LEN_AT: usize = 36;
const SEGMENT_AT: usize = 40;
const BASE_LSN_AT: usize = 48;
const FLAGS_AT: usize = 56;
const RESERVED_AT: usize = 60;
const HEADER_LEN: usize = 64;

const _: () = assert!(RESERVED_AT + 4 == HEADER_LEN);

const FLAG_RECYCLED: u32 = 1;
const FLAG_RUN: u32 = 2;

/// Which segment of which log a frame belongs to. Part of every frame's
/// checksum, so a frame in a foreign, swapped or recycled file never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// The store.
    pub log_id: LogId,
    /// The core.
    pub core: CoreId,
    /// The number of the segment in the core's log.
    pub segment: SegmentId,
    /// LSN of the file's first byte.
    pub base_lsn: Lsn,
}

impl SegmentIdentity {
    /// Where the checksum of every frame in this segment starts from.
    #[must_use]
    pub fn checksum_seed(&self) -> u32 {
        let mut bytes = [0; 34];
        put(&mut bytes, 0, &self.log_id.0);
        put(&mut bytes, 16, &self.core.0.to_le_bytes());
        put(&mut bytes, 18, &self.segment.0.to_le_bytes());
        put(&mut bytes, 26, &self.base_lsn.0.to_le_bytes());
        crc32c(&bytes)
    }
}

/// The decoded first block of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which segment of which log.
    pub identity: SegmentIdentity,
    /// Number of cores of the store when the segment was created.
    pub cores: u16,
    /// The file held another segment before: where this one has no frames, it
    /// may hold bytes of that life. Otherwise it holds zeros there.
    pub recycled: bool,
    /// It is a run of a checkpoint and no segment of a log.
    pub run: bool,
}

impl SegmentIdentity {
    /// The identity of a run. Its positions are those in its own file; no
    /// segment but the first has base 0, and runs are counted from 1.
    #[must_use]
    pub fn of_run(log_id: LogId, core: CoreId, run: RunId) -> Self {
        assert!(run.0 > 0, "counted from 1");
        Self { log_id, core, segment: SegmentId(run.0), base_lsn: Lsn(0) }
    }
}

/// Why the first block of a file is not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentError {
    /// Fewer bytes than one block.
    Short {
        /// Bytes there are.
        len: usize,
    },
    /// All zero: a file that was created but never became a segment.
    Zeroed,
    /// The magic is not that of a segment.
    NotASegment,
    /// The checksum does not match.
    Checksum,
    /// Intact, but of a newer format.
    Version {
        /// The version it states.
        found: u32,
    },
    /// The checksum matches and yet a field is out of range.
    Field {
        /// The name of the field.
        name: &'static str,
    },
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { len } => write!(f, "the file has {len} bytes, a segment header takes {BLOCK_LEN}"),
            Self::Zeroed => write!(f, "the segment header is all zero"),
            Self::NotASegment => write!(f, "the file does not begin with a segment's magic"),
            Self::Checksum => write!(f, "the checksum of the segment header does not match"),
            Self::Version { found } => {
                write!(f, "unsupported version {found} (this program reads up to {FORMAT_VERSION})")
            }
            Self::Field { name } => write!(f, "field `{name}` of the segment header is out of range"),
        }
    }
}

impl std::error::Error for SegmentError {}

impl SegmentHeader {
    /// Fills `block`, which is one block long; the rest of the block is zero.
    ///
    /// # Panics
    /// If `block` is not one block long.
    pub fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_LEN, "a segment header fills one block");
        block.fill(0);
        put(block, 0, &MAGIC);
        put(block, VERSION_AT, &FORMAT_VERSION.to_le_bytes());
        put(block, LOG_ID_AT, &self.identity.log_id.0);
        put(block, CORE_AT, &self.identity.core.0.to_le_bytes());
        put(block, CORES_AT, &self.cores.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "4096")]
        put(block, BLOCK_LEN_AT, &(BLOCK_LEN as u32).to_le_bytes());
        put(block, SEGMENT_AT, &self.identity.segment.0.to_le_bytes());
        put(block, BASE_LSN_AT, &self.identity.base_lsn.0.to_le_bytes());
        let flags = if self.recycled { FLAG_RECYCLED } else { 0 } | if self.run { FLAG_RUN } else { 0 };
        put(block, FLAGS_AT, &flags.to_le_bytes());
        let checksum = checksum(block);
        put(block, CHECKSUM_AT, &checksum.to_le_bytes());
    }

    /// Reads the first block of a file.
    ///
    /// The checksum is judged before the version: a damaged version field is
    /// damage, and only an intact header of a newer format is "unsupported".
    ///
    /// # Errors
    /// [`SegmentError`], for any other bytes than [`SegmentHeader::encode`]
    /// gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let Some(block) = bytes.get(..BLOCK_LEN) else {
            return Err(SegmentError::Short { len: bytes.len() });
        };
        if block.iter().all(|&byte| byte == 0) {
            return Err(SegmentError::Zeroed);
        }
        if block[..VERSION_AT] != MAGIC {
            return Err(SegmentError::NotASegment);
        }
        if u32_at(block, CHECKSUM_AT) != checksum(block) {
            return Err(SegmentError::Checksum);
        }
        let version = u32_at(block, VERSION_AT);
        if version > FORMAT_VERSION {
            return Err(SegmentError::Version { found: version });
        }
        let header = Self {
            identity: SegmentIdentity {
                log_id: LogId(array_at(block, LOG_ID_AT)),
                core: CoreId(u16_at(block, CORE_AT)),
                segment: SegmentId(u64_at(block, SEGMENT_AT)),
                base_lsn: Lsn(u64_at(block, BASE_LSN_AT)),
            },
            cores: u16_at(block, CORES_AT),
            recycled: u32_at(block, FLAGS_AT) & FLAG_RECYCLED != 0,
            run: u32_at(block, FLAGS_AT) & FLAG_RUN != 0,
        };
        let field = |name| Err(SegmentError::Field { name });
        match () {
            () if version == 0 => field("version"),
            () if u32_at(block, BLOCK_LEN_AT) as usize != BLOCK_LEN => field("block length"),
            () if header.cores == 0 || header.cores > MAX_CORES => field("cores"),
            () if header.identity.core.0 >= header.cores => field("core"),
            () if !header.identity.base_lsn.0.is_multiple_of(BLOCK_LEN as u64) => field("base LSN"),
            // No log comes that far, and no position in a file overflows.
            () if header.identity.base_lsn > MAX_BASE_LSN => field("base LSN"),
            () if u32_at(block, FLAGS_AT) & !(FLAG_RECYCLED | FLAG_RUN) != 0 => field("flags"),
            () if header.run && (header.recycled || header.identity.base_lsn.0 != 0) => field("flags"),
            () if header.run && header.identity.segment.0 == 0 => field("segment"),
            () if u32_at(block, RESERVED_AT) != 0 => field("reserved"),
            () => Ok(header),
        }
    }
}

/// Over the 64 bytes of the header, its own field left out.
fn checksum(block: &[u8]) -> u32 {
    let first = crc32c(&block[..CHECKSUM_AT]);
    crc32c_append(first, &block[LOG_ID_AT..HEADER_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: SegmentIdentity {
                log_id: LogId([7; 16]),
                core: CoreId(1),
                segment: SegmentId(3),
                base_lsn: Lsn(8192),
            },
            cores: 2,
            recycled: false,
            run: false,
        }
    }

    fn encoded() -> [u8; BLOCK_LEN] {
        let mut block = [0xAA; BLOCK_LEN];
        header().encode(&mut block);
        block
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(SegmentHeader::decode(&encoded()), Ok(header()));
        let recycled = SegmentHeader { recycled: true, ..header() };
        let mut block = [0; BLOCK_LEN];
        recycled.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(recycled));
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_noticed() {
        for bit in 0..HEADER_LEN * 8 {
            let mut block = encoded();
            block[bit / 8] ^= 1 << (bit % 8);
            let error = SegmentHeader::decode(&block).expect_err("a flipped bit passed");
            assert!(matches!(error, SegmentError::NotASegment | SegmentError::Checksum), "bit {bit}: {error}");
        }
    }

    #[test]
    fn an_intact_header_of_a_newer_version_is_unsupported_not_corrupt() {
        let mut block = encoded();
        put(&mut block, VERSION_AT, &2u32.to_le_bytes());
        let checksum = checksum(&block);
        put(&mut block, CHECKSUM_AT, &checksum.to_le_bytes());
        let error = SegmentHeader::decode(&block).unwrap_err();
        assert_eq!(error, SegmentError::Version { found: 2 });
        assert!(error.to_string().contains("unsupported version 2"));
    }

    #[test]
    fn nothing_and_zeros_are_told_apart_from_damage() {
        assert_eq!(SegmentHeader::decode(&[]), Err(SegmentError::Short { len: 0 }));
        assert_eq!(SegmentHeader::decode(&[0; BLOCK_LEN]), Err(SegmentError::Zeroed));
        assert_eq!(SegmentHeader::decode(&[1; BLOCK_LEN]), Err(SegmentError::NotASegment));
    }
}
