//! The frame being built: records are encoded straight into the aligned buffer
//! that will be written.

use corewal_format::{
    BLOCK_LEN, Epoch, FRAME_HEADER_LEN, FrameFields, Lsn, Record, Sequence, block_align, finish_frame,
};
use corewal_io::AlignedBuf;

use crate::planted::{Planted, PlantedBug};

/// A frame that still takes records.
#[derive(Debug)]
pub(crate) struct Building {
    buffer: AlignedBuf,
    /// The most that the frame may take, padding included: what the buffer
    /// holds, or what is left of the segment.
    limit: usize,
    /// Bytes of header and records.
    len: usize,
    records: u32,
    /// Position of the frame's first byte.
    pub(crate) lsn: Lsn,
    /// Epoch and sequence of the first record.
    epoch: Epoch,
    sequence: Sequence,
}

/// A finished frame: whole blocks, ready to be written.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) buffer: AlignedBuf,
    /// Bytes to write, padding included.
    pub(crate) len: usize,
    pub(crate) lsn: Lsn,
}

impl Building {
    /// A frame in `buffer`, of which it may take at most `room` bytes.
    pub(crate) fn new(buffer: AlignedBuf, room: u64, lsn: Lsn, epoch: Epoch, sequence: Sequence) -> Self {
        assert!(lsn.0.is_multiple_of(BLOCK_LEN as u64), "a frame starts on a fresh block");
        let limit = usize::try_from(room).map_or(buffer.capacity(), |room| room.min(buffer.capacity()));
        assert!(limit >= BLOCK_LEN && limit.is_multiple_of(BLOCK_LEN));
        Self { buffer, limit, len: FRAME_HEADER_LEN, records: 0, lsn, epoch, sequence }
    }

    #[inline]
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.len + len <= self.limit
    }

    /// Position of the next record.
    #[inline]
    pub(crate) fn position(&self) -> Lsn {
        self.lsn.plus(self.len as u64)
    }

    /// Encodes a record; the caller has checked that there is room.
    #[inline(always)]
    pub(crate) fn push(&mut self, record: &Record<'_>) -> Lsn {
        let lsn = self.position();
        self.len += record.encode(&mut self.buffer.as_mut_slice()[self.len..]);
        self.records += 1;
        lsn
    }

    /// The frame's length with its padding.
    pub(crate) fn padded_len(&self) -> usize {
        block_align(self.len)
    }

    /// Zeroes the padding, so that no byte of a buffer's earlier use reaches
    /// the disk, fills the header in and computes the checksum. Gives back what
    /// the frame leaves of its buffer.
    pub(crate) fn finish(mut self, fields: FrameParts, planted: Planted, seed: u32) -> (Finished, Option<AlignedBuf>) {
        assert!(self.records > 0, "an empty frame is never written");
        let padded = self.padded_len();
        let bytes = self.buffer.as_mut_slice();
        if !planted.has(PlantedBug::PaddingNotZeroed) {
            bytes[self.len..padded].fill(0);
        }
        let FrameParts { durable_lsn, timestamp, opening, sealed } = fields;
        let fields = FrameFields {
            lsn: self.lsn,
            durable_lsn,
            epoch: self.epoch,
            sequence: self.sequence,
            timestamp,
            opening,
            sealed,
        };
        finish_frame(&mut bytes[..self.len], self.records, &fields, seed);
        let rest = (padded < self.buffer.capacity()).then(|| self.buffer.split_off(padded));
        (Finished { buffer: self.buffer, len: padded, lsn: self.lsn }, rest)
    }

    /// An empty frame takes the epoch of its first record.
    #[inline]
    pub(crate) fn set_epoch(&mut self, epoch: Epoch) {
        if self.records == 0 {
            self.epoch = epoch;
        }
    }
}

/// What the writer adds to a frame when it finishes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameParts {
    pub(crate) durable_lsn: Lsn,
    pub(crate) timestamp: corewal_format::TimestampNs,
    pub(crate) opening: corewal_format::Opening,
    pub(crate) sealed: bool,
}
