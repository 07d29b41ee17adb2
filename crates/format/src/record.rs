//! Records: what a frame holds.

use std::fmt;

use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::commit::CommitRef;
use crate::frame::FrameHeader;
use crate::limit::{BLOCK_LEN, MAX_BASE_LSN, MAX_EPOCH, MAX_KEY_LEN, MAX_VALUE_LEN};
use crate::{Epoch, Lsn, SegmentId, Sequence};

/// Bytes of a record's header: operation, a zero, key length, value length.
pub const RECORD_HEADER_LEN: usize = 8;

const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_COMMIT: u8 = 3;
const OP_PAYLOAD: u8 = 4;
const OP_BARRIER: u8 = 5;
const OP_CHECKPOINT_MARK: u8 = 6;
const OP_PARK: u8 = 7;
const OP_UNPARK: u8 = 8;
const OP_OPEN: u8 = 9;
const OP_CLOSE: u8 = 10;
const OP_ROLLBACK: u8 = 11;
const OP_RELEASE: u8 = 12;
const OP_REPAIR: u8 = 13;
const OP_SEAL: u8 = 14;

/// One record. The first four are the user's data, the others steer the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Sets a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Bytes whose meaning is the user's.
    Payload(&'a [u8]),
    /// Ends a batch: the records since the last commit, these offsets and this
    /// watermark count together or not at all.
    Commit(CommitRef<'a>),
    /// Ends an epoch in this core's log, and any before it that had not ended.
    Barrier {
        /// The epoch that ends.
        epoch: Epoch,
        /// The newest epoch the writer knew to be complete, 0 if none: it
        /// proves to recovery what every core's log must still hold.
        complete: Epoch,
    },
    /// Says that a checkpoint outside the log covers all that came before.
    CheckpointMark {
        /// The user's number for it.
        id: u64,
    },
    /// The core takes no part from this epoch on; it counts as ended here.
    Park {
        /// The first epoch that does not wait for the core.
        epoch: Epoch,
    },
    /// The core takes part again.
    Unpark {
        /// The first epoch that waits for the core again.
        epoch: Epoch,
    },
    /// The log was opened for writing. Always the first record of its opening.
    Open {
        /// The epoch that is current from here on; a parked core is unparked.
        epoch: Epoch,
    },
    /// The log was closed in order; all before it is durable.
    Close {
        /// As in [`Record::Barrier`].
        complete: Epoch,
    },
    /// The records from `to` up to this one do not count.
    Rollback {
        /// First position that does not count. At the end of a batch.
        to: Lsn,
        /// The last epoch whose barrier counts.
        epoch: Epoch,
    },
    /// The log begins at `to`: segments wholly below may be gone.
    Release {
        /// First position of the log, the base LSN of a segment.
        to: Lsn,
        /// The last epoch that ended in what was released, 0 if none had: what
        /// its barrier proved is not lost with it.
        epoch: Epoch,
    },
    /// A repair cut the log here: it goes on in another segment, at a position
    /// no byte was ever given.
    Repair {
        /// The segment in which the log goes on.
        segment: SegmentId,
        /// Its base LSN.
        base_lsn: Lsn,
        /// Sequence of the first record there.
        sequence: Sequence,
        /// What other logs say of epochs up to this one no longer binds this
        /// log: the repair gave them up.
        forgiven: Epoch,
    },
    /// The segment is full: the log goes on in the next one.
    Seal {
        /// The base LSN of the next segment, not below the end of this frame.
        /// The positions between are given to nothing.
        base_lsn: Lsn,
    },
}

/// Why the bytes behind an intact header are not the records it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// A record runs over the end of the frame, or bytes are left behind the
    /// last one.
    Overrun,
    /// No such operation.
    UnknownOperation {
        /// The number found.
        found: u8,
    },
    /// A length or a value that no writer produces.
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overrun => write!(f, "the frame's records do not fill it exactly"),
            Self::UnknownOperation { found } => write!(f, "unknown operation {found}"),
            Self::Malformed { what } => write!(f, "malformed record: {what}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl<'a> Record<'a> {
    /// Stable name of the operation, as `dump` prints it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Payload(_) => "payload",
            Self::Commit(_) => "commit",
            Self::Barrier { .. } => "barrier",
            Self::CheckpointMark { .. } => "checkpoint_mark",
            Self::Park { .. } => "park",
            Self::Unpark { .. } => "unpark",
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Rollback { .. } => "rollback",
            Self::Release { .. } => "release",
            Self::Repair { .. } => "repair",
            Self::Seal { .. } => "seal",
        }
    }

    /// Bytes of the record on disk, its header included.
    #[must_use]
    #[inline(always)]
    pub fn encoded_len(&self) -> usize {
        RECORD_HEADER_LEN
            + match self {
                Self::Put { key, value } => key.len() + value.len(),
                Self::Delete { key } => key.len(),
                Self::Payload(bytes) => bytes.len(),
                Self::Commit(commit) => commit.as_bytes().len(),
                Self::Barrier { .. } | Self::Rollback { .. } | Self::Release { .. } => 16,
                Self::Repair { .. } => 32,
                Self::Close { .. }
                | Self::CheckpointMark { .. }
                | Self::Park { .. }
                | Self::Unpark { .. }
                | Self::Open { .. }
                | Self::Seal { .. } => 8,
            }
    }

    /// Encodes the record at the beginning of `out` and returns its length.
    ///
    /// # Panics
    /// If `out` is too short or a field is over its limit; the writer checks
    /// both on append.
    #[inline(always)]
    pub fn encode(&self, out: &mut [u8]) -> usize {
        match *self {
            Self::Put { key, value } => encode(out, OP_PUT, key, value),
            Self::Delete { key } => encode(out, OP_DELETE, key, &[]),
            Self::Payload(bytes) => encode(out, OP_PAYLOAD, &[], bytes),
            Self::Commit(commit) => encode(out, OP_COMMIT, &[], commit.as_bytes()),
            Self::Barrier { epoch, complete } => encode(out, OP_BARRIER, &[], &pair_body(epoch.0, complete.0)),
            Self::CheckpointMark { id } => encode(out, OP_CHECKPOINT_MARK, &[], &id.to_le_bytes()),
            Self::Park { epoch } => encode(out, OP_PARK, &[], &epoch.0.to_le_bytes()),
            Self::Unpark { epoch } => encode(out, OP_UNPARK, &[], &epoch.0.to_le_bytes()),
            Self::Open { epoch } => encode(out, OP_OPEN, &[], &epoch.0.to_le_bytes()),
            Self::Close { complete } => encode(out, OP_CLOSE, &[], &complete.0.to_le_bytes()),
            Self::Rollback { to, epoch } => encode(out, OP_ROLLBACK, &[], &pair_body(to.0, epoch.0)),
            Self::Release { to, epoch } => encode(out, OP_RELEASE, &[], &pair_body(to.0, epoch.0)),
            Self::Repair { segment, base_lsn, sequence, forgiven } => {
                let mut body = [0; 32];
                put(&mut body, 0, &segment.0.to_le_bytes());
                put(&mut body, 8, &base_lsn.0.to_le_bytes());
                put(&mut body, 16, &sequence.0.to_le_bytes());
                put(&mut body, 24, &forgiven.0.to_le_bytes());
                encode(out, OP_REPAIR, &[], &body)
            }
            Self::Seal { base_lsn } => encode(out, OP_SEAL, &[], &base_lsn.0.to_le_bytes()),
        }
    }

    /// Decodes the record at the beginning of `bytes`; gives it with its
    /// length.
    ///
    /// # Errors
    /// [`RecordError`], for anything [`Record::encode`] does not produce.
    #[inline(always)]
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let Some(header) = bytes.first_chunk::<RECORD_HEADER_LEN>() else {
            return Err(RecordError::Overrun);
        };
        let key_len = u16_at(header, 2) as usize;
        let value_len = u32_at(header, 4) as usize;
        if value_len > MAX_VALUE_LEN {
            return Err(RecordError::Malformed { what: "a value over the limit" });
        }
        let len = RECORD_HEADER_LEN + key_len + value_len;
        let Some(body) = bytes.get(RECORD_HEADER_LEN..len) else {
            return Err(RecordError::Overrun);
        };
        if header[1] != 0 {
            return Err(RecordError::Malformed { what: "the reserved byte is not zero" });
        }
        let (key, value) = body.split_at(key_len);
        let record = match header[0] {
            OP_PUT => Self::Put { key, value },
            OP_DELETE if value.is_empty() => Self::Delete { key },
            OP_DELETE => return Err(RecordError::Malformed { what: "a delete with a value" }),
            op => Self::decode_keyless(op, key, value)?,
        };
        Ok((record, len))
    }

    /// The rarer records: apart, so that the loops over puts stay small.
    #[inline(never)]
    fn decode_keyless(op: u8, key: &[u8], body: &'a [u8]) -> Result<Self, RecordError> {
        if !key.is_empty() {
            return Err(RecordError::Malformed { what: "a key where none belongs" });
        }
        let sized = |len: usize| {
            if body.len() == len { Ok(()) } else { Err(RecordError::Malformed { what: "a body of the wrong length" }) }
        };
        let number = || sized(8).map(|()| u64_at(body, 0));
        // "None yet" is 0 where an epoch is looked back at, and nothing else is.
        let past = |epoch| match Epoch(epoch) {
            epoch if epoch > MAX_EPOCH => Err(RecordError::Malformed { what: "an epoch out of range" }),
            epoch => Ok(epoch),
        };
        // As in the header of the segment that it leads to.
        let base = |base: u64| match base {
            base if base > MAX_BASE_LSN.0 || !base.is_multiple_of(BLOCK_LEN as u64) => {
                Err(RecordError::Malformed { what: "a base LSN out of range" })
            }
            base => Ok(Lsn(base)),
        };
        let named = |epoch| match epoch {
            0 => Err(RecordError::Malformed { what: "epoch 0" }),
            epoch => past(epoch),
        };
        Ok(match op {
            OP_PAYLOAD => Self::Payload(body),
            OP_COMMIT => Self::Commit(CommitRef::parse(body)?),
            OP_CHECKPOINT_MARK => Self::CheckpointMark { id: number()? },
            OP_PARK => Self::Park { epoch: named(number()?)? },
            OP_UNPARK => Self::Unpark { epoch: named(number()?)? },
            OP_OPEN => Self::Open { epoch: named(number()?)? },
            OP_CLOSE => Self::Close { complete: past(number()?)? },
            OP_SEAL => Self::Seal { base_lsn: base(number()?)? },
            OP_BARRIER | OP_ROLLBACK | OP_RELEASE => {
                sized(16)?;
                let (first, second) = (u64_at(body, 0), u64_at(body, 8));
                match op {
                    OP_ROLLBACK => Self::Rollback { to: Lsn(first), epoch: past(second)? },
                    OP_RELEASE => Self::Release { to: Lsn(first), epoch: past(second)? },
                    _ => Self::Barrier { epoch: named(first)?, complete: past(second)? },
                }
            }
            OP_REPAIR => {
                sized(32)?;
                Self::Repair {
                    segment: SegmentId(u64_at(body, 0)),
                    base_lsn: base(u64_at(body, 8))?,
                    sequence: Sequence(u64_at(body, 16)),
                    forgiven: past(u64_at(body, 24))?,
                }
            }
            found => return Err(RecordError::UnknownOperation { found }),
        })
    }

    /// The epoch that is current after this record, if `current` was before it.
    #[must_use]
    #[inline(always)]
    pub fn epoch_after(&self, current: Epoch) -> Epoch {
        match *self {
            Self::Barrier { epoch, .. } => epoch.next(),
            Self::Unpark { epoch } | Self::Open { epoch } => epoch,
            _ => current,
        }
    }
}

fn pair_body(first: u64, second: u64) -> [u8; 16] {
    let mut body = [0; 16];
    put(&mut body, 0, &first.to_le_bytes());
    put(&mut body, 8, &second.to_le_bytes());
    body
}

#[inline(always)]
fn encode(out: &mut [u8], op: u8, key: &[u8], value: &[u8]) -> usize {
    assert!(key.len() <= MAX_KEY_LEN && value.len() <= MAX_VALUE_LEN, "the writer checks sizes on append");
    let out = &mut out[..RECORD_HEADER_LEN + key.len() + value.len()];
    let (header, body) = out.split_at_mut(RECORD_HEADER_LEN);
    #[expect(clippy::cast_possible_truncation, reason = "both lengths are asserted above")]
    let (key_len, value_len) = (key.len() as u16, value.len() as u32);
    header[0] = op;
    header[1] = 0;
    header[2..4].copy_from_slice(&key_len.to_le_bytes());
    header[4..8].copy_from_slice(&value_len.to_le_bytes());
    let (key_at, value_at) = body.split_at_mut(key.len());
    key_at.copy_from_slice(key);
    value_at.copy_from_slice(value);
    out.len()
}

/// A record with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Position of the record's first byte.
    pub lsn: Lsn,
    /// Position after its last byte.
    pub end: Lsn,
    /// Its number in the core's log.
    pub sequence: Sequence,
    /// The epoch it belongs to. A barrier belongs to the epoch it ends.
    pub epoch: Epoch,
    /// The record.
    pub record: Record<'a>,
}

/// Iterator over the records of a frame, made by [`Frame::entries`](crate::Frame::entries).
///
/// It ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    lsn: Lsn,
    sequence: Sequence,
    epoch: Epoch,
    left: u32,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(header: &FrameHeader, records: &'a [u8]) -> Self {
        Self {
            rest: records,
            lsn: header.fields.lsn.plus(crate::FRAME_HEADER_LEN as u64),
            sequence: header.fields.sequence,
            epoch: header.fields.epoch,
            left: header.records,
        }
    }

    // Part of the caller's loop: a walk through checked frames takes a tenth less
    // time to read them, which is most of it, included (docs/PERFORMANCE.md).
    #[inline(always)]
    fn step(&mut self) -> Result<Entry<'a>, RecordError> {
        let (record, len) = Record::decode(self.rest)?;
        let next_epoch = record.epoch_after(self.epoch);
        let epoch = match record {
            Record::Barrier { epoch, .. } | Record::Open { epoch } | Record::Unpark { epoch } => epoch,
            _ => self.epoch,
        };
        if epoch < self.epoch {
            return Err(RecordError::Malformed { what: "the epoch goes back" });
        }
        let entry = Entry { lsn: self.lsn, end: self.lsn.plus(len as u64), sequence: self.sequence, epoch, record };
        self.rest = &self.rest[len..];
        self.lsn = entry.end;
        self.sequence = self.sequence.plus(1);
        self.epoch = next_epoch;
        self.left -= 1;
        if (self.left == 0) != self.rest.is_empty() {
            return Err(RecordError::Overrun);
        }
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, RecordError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let entry = self.step();
        if entry.is_err() {
            self.left = 0;
        }
        Some(entry)
    }
}
