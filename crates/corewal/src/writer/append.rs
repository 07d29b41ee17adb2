//! Appending: records go into the frame at hand; a full one is finished and
//! waits. Nothing here calls the operating system.

use corewal_format::{
    BLOCK_LEN, Epoch, FRAME_HEADER_LEN, Lsn, MAX_KEY_LEN, MAX_VALUE_LEN, Record, SegmentIdentity, block_align,
};
use corewal_io::{AlignedBuf, Storage, StorageIo};

use super::building::{Building, FrameParts};
use super::{Look, NOTES_MAX, NextFrame, Writer};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::planted::PlantedBug;

/// The most that is kept at the end of a log's last segment, in bytes.
const KEPT_MAX: u64 = 256 << 10;

impl<S: Storage> Writer<S> {
    /// Appends a put. It counts once a commit follows. Returns the record's
    /// position.
    ///
    /// # Errors
    /// Nothing is appended, and what was before stands. [`Error::TooLarge`] over
    /// [`MAX_KEY_LEN`] or [`MAX_VALUE_LEN`]. [`Error::Full`]: wait, then append
    /// again. [`Error::OutOfSpace`] if there is no space for the next segment,
    /// [`Error::Io`] if it cannot be made for another reason; appending again
    /// tries again, beginning with [`Error::Full`]. [`Error::Latched`].
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Lsn> {
        within("the key", key.len(), MAX_KEY_LEN)?;
        within("the value", value.len(), MAX_VALUE_LEN)?;
        let lsn = self.push_here(&Record::Put { key, value })?;
        self.batch_open = true;
        Ok(lsn)
    }

    /// Appends a delete. It counts once a commit follows.
    ///
    /// # Errors
    /// As [`Writer::put`].
    #[inline]
    pub fn delete(&mut self, key: &[u8]) -> Result<Lsn> {
        within("the key", key.len(), MAX_KEY_LEN)?;
        let lsn = self.push_here(&Record::Delete { key })?;
        self.batch_open = true;
        Ok(lsn)
    }

    /// Appends bytes whose meaning is the user's. They count once a commit
    /// follows.
    ///
    /// # Errors
    /// As [`Writer::put`].
    #[inline]
    pub fn payload(&mut self, bytes: &[u8]) -> Result<Lsn> {
        within("the payload", bytes.len(), MAX_VALUE_LEN)?;
        let lsn = self.push_here(&Record::Payload(bytes))?;
        self.batch_open = true;
        Ok(lsn)
    }

    /// Ends the batch: all records since the last commit, the offsets and the
    /// watermark come back together or not at all. Returns the position after
    /// the commit: it is durable once [`Writer::durable_lsn`] has reached it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the commit has too many or too long offsets;
    /// [`Error::Full`] and [`Error::Io`] as [`Writer::put`]: nothing is appended
    /// and the batch stays open. [`Error::Latched`], also from the sync that
    /// [`GroupCommit`](crate::GroupCommit) starts here: whether the commit
    /// survives only reopening tells.
    pub fn commit(&mut self, commit: &Commit) -> Result<Lsn> {
        let end = self.append_commit(commit)?;
        self.group_commit(Look::Away)?;
        Ok(end)
    }

    /// Ends the batch, and leaves the group-commit policy to the caller.
    pub(crate) fn append_commit(&mut self, commit: &Commit) -> Result<Lsn> {
        let mut body = std::mem::take(&mut self.commit_body);
        body.clear();
        let appended = commit.encode_into(&mut body).and_then(|commit| self.push(&Record::Commit(commit)));
        self.commit_body = body;
        appended?;
        self.batch_open = false;
        self.count_commit();
        Ok(self.appended_lsn())
    }

    /// Notes that a checkpoint outside the log, which the user calls `id`,
    /// covers all that came before.
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch; otherwise as [`Writer::put`].
    pub fn checkpoint_mark(&mut self, id: u64) -> Result<Lsn> {
        self.between_batches("a checkpoint mark")?;
        self.push(&Record::CheckpointMark { id })
    }

    /// Ends `epoch`, and with it every epoch from the current one on. `complete`
    /// is the newest epoch known to have ended durably on all cores, 0 if none:
    /// recovery holds every core's log to it, so it must be true.
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch, [`Error::EpochOver`] if `epoch` has
    /// ended already; otherwise as [`Writer::put`].
    pub fn barrier(&mut self, epoch: Epoch, complete: Epoch) -> Result<Lsn> {
        self.between_batches("an epoch barrier")?;
        if epoch < self.epoch {
            return Err(Error::EpochOver { asked: epoch, current: self.epoch });
        }
        assert!(complete < epoch, "an epoch is complete only after its barriers");
        self.push(&Record::Barrier { epoch, complete })
    }

    /// Says that no epoch from the current one on waits for this core.
    pub(crate) fn park(&mut self) -> Result<Lsn> {
        self.between_batches("parking")?;
        self.push(&Record::Park { epoch: self.epoch })
    }

    /// Says that epochs from `epoch` on wait for this core.
    pub(crate) fn unpark(&mut self, epoch: Epoch) -> Result<Lsn> {
        assert!(epoch >= self.epoch, "epochs never go back");
        self.push(&Record::Unpark { epoch })
    }

    /// Begins a batch whose changes are appended later: whether that may be done
    /// at all.
    #[inline]
    pub(crate) fn open_batch(&mut self) -> Result<()> {
        self.check_latch()?;
        self.batch_open = true;
        Ok(())
    }

    pub(super) fn between_batches(&self, action: &'static str) -> Result<()> {
        if self.batch_open { Err(Error::OpenBatch { action }) } else { Ok(()) }
    }

    /// Appends a record to the frame at hand, or to the next one if it is full.
    #[inline(never)]
    pub(super) fn push(&mut self, record: &Record<'_>) -> Result<Lsn> {
        self.push_here(record)
    }

    /// The same, in the caller's own code, which knows the kind of record: what
    /// is left of it is a bound, a copy and some sums, with hardly a word on
    /// the stack. (What that is worth stands in docs/PERFORMANCE.md.)
    #[inline(always)]
    fn push_here(&mut self, record: &Record<'_>) -> Result<Lsn> {
        let len = record.encoded_len();
        if !self.building.as_ref().is_some_and(|building| building.has_room(len)) || self.latched.is_some() {
            self.make_room(len, self.kept_from(record))?;
        }
        let building = self.building.as_mut().expect("there is room");
        building.set_epoch(match *record {
            // An opening states its epoch before its first record does.
            Record::Open { epoch } | Record::Unpark { epoch } => epoch,
            _ => self.epoch,
        });
        let lsn = building.push(record);
        self.coverage.take(self.epoch, record);
        self.epoch = record.epoch_after(self.epoch);
        self.sequence = self.sequence.plus(1);
        self.records_appended += 1;
        Ok(lsn)
    }

    /// Appends a record after which the caller waits anyway: waits for a buffer
    /// and for the next segment as often as it takes.
    pub(super) fn push_waiting(&mut self, record: &Record<'_>) -> Result<Lsn> {
        self.waiting(|writer| writer.push(record))
    }

    /// Does what may say [`Error::Full`] until it does not.
    pub(super) fn waiting<T>(&mut self, append: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        loop {
            match append(self) {
                Err(error) if error.is_full() => {
                    self.submit()?;
                    self.wait()?;
                }
                other => return other,
            }
        }
    }

    #[cold]
    fn make_room(&mut self, len: usize, kept: u64) -> Result<()> {
        self.check_latch()?;
        self.finish();
        let needed = block_align(FRAME_HEADER_LEN + len);
        let (room, block) = (self.room(), needed as u64);
        let mut limit = room;
        // Where this segment is the last, its end is kept for what frees space.
        let last = !self.supply.is_ready();
        if room < block || (last && room < block + kept) {
            self.rotate(block)?;
            limit = self.room();
        } else if last {
            // Neither may what shares the frame take more of it.
            limit = block.max(room.saturating_sub(self.kept_blocks()));
        }
        let buffer = self.take_buffer(needed).ok_or(Error::Full)?;
        self.building = Some(Building::new(buffer, limit, self.next.lsn, self.epoch, self.sequence));
        Ok(())
    }

    /// Bytes at the end of a segment that are kept, while there is no next one,
    /// for what frees space.
    fn kept_blocks(&self) -> u64 {
        (self.next.capacity / 8).min(KEPT_MAX) / BLOCK_LEN as u64 * BLOCK_LEN as u64
    }

    /// How much of that a record leaves for others. Deletes and commits come
    /// before the ends of epochs, which come before a release: without the one
    /// there is no checkpoint, without the other it frees nothing.
    fn kept_from(&self, record: &Record<'_>) -> u64 {
        let kept = self.kept_blocks();
        let part = match record {
            Record::Put { .. } | Record::Payload(_) => return kept,
            Record::Open { .. } | Record::Release { .. } => return 0,
            Record::Delete { .. } => kept / 2,
            Record::Commit(_) => kept / 8 * 3,
            _ => kept / 4,
        };
        part.max(BLOCK_LEN as u64).min(kept)
    }

    fn take_buffer(&mut self, needed: usize) -> Option<AlignedBuf> {
        let io = &mut self.io;
        self.pool.take(needed, |capacity| io.buffer(capacity))
    }

    /// Bytes that frames may still take of the segment. Its last block is kept
    /// for the frame that seals it.
    pub(super) fn room(&self) -> u64 {
        let used = self.next.lsn.0 - self.next.base_lsn.0;
        self.next.capacity.saturating_sub(used + BLOCK_LEN as u64)
    }

    /// Seals the segment and goes on in the next one, if that is ready for a
    /// frame of `needed` bytes.
    pub(super) fn rotate(&mut self, needed: u64) -> Result<()> {
        // Its header and its own seal take a block each.
        if self.supply.ready(needed + 2 * BLOCK_LEN as u64)?.is_none() {
            return Err(Error::Full);
        }
        let buffer = self.take_buffer(BLOCK_LEN).ok_or(Error::Full)?;
        self.building = Some(Building::new(buffer, BLOCK_LEN as u64, self.next.lsn, self.epoch, self.sequence));
        self.seal();
        Ok(())
    }

    /// Ends the frame at hand, and the segment with it. The next segment is
    /// ready, and so durable before this frame can be: a sealed segment without
    /// a successor is never the work of a crash.
    pub(super) fn seal(&mut self) {
        let next = self.supply.take(|capacity| self.tuning.grown(capacity));
        let SegmentIdentity { segment, base_lsn, .. } = next.identity;
        let building = self.building.as_mut().expect("the frame that seals");
        building.push(&Record::Seal { base_lsn });
        self.sequence = self.sequence.plus(1);
        self.records_appended += 1;
        self.finish_as(true);
        self.next = NextFrame { segment, base_lsn, lsn: base_lsn.plus(BLOCK_LEN as u64), capacity: next.capacity };
        self.files.push(next, self.finished_end, self.coverage.newest_named());
    }

    /// Notes how many records are durable once everything up to `end` is. Where
    /// nobody ever syncs, the newest notes are merged.
    fn note_records(&mut self, end: Lsn) {
        if self.records_durable.len() == NOTES_MAX {
            self.records_durable.pop_back();
        }
        self.records_durable.push_back((end, self.records_appended));
    }

    /// Finishes the frame at hand, if there is one. No system call.
    pub(super) fn finish(&mut self) {
        self.finish_as(false);
    }

    fn finish_as(&mut self, sealed: bool) {
        let Some(building) = self.building.take() else {
            return;
        };
        let len = building.padded_len();
        let end = self.next.lsn.plus(len as u64);
        // The clock may step back; what is recorded does not.
        let now = self.clock.now();
        let by_clock = self.layout.planted.has(PlantedBug::OrderByClock);
        self.timestamp = if by_clock { now } else { self.timestamp.max(now) };
        let parts =
            FrameParts { durable_lsn: self.ledger.durable(), timestamp: self.timestamp, opening: self.opening, sealed };
        let identity = SegmentIdentity {
            log_id: self.log.log_id,
            core: self.log.core,
            segment: self.next.segment,
            base_lsn: self.next.base_lsn,
        };
        let (finished, rest) = building.finish(parts, self.planted(), self.layout.checksum_seed(&identity));
        self.finished.push_back(finished);
        if let Some(rest) = rest {
            self.pool.keep_rest(rest, len);
        }
        self.finished_end = end;
        self.note_records(end);
        self.next.lsn = end;
    }
}

#[inline]
pub(crate) fn within(what: &'static str, len: usize, limit: usize) -> Result<()> {
    if len > limit { Err(Error::TooLarge { what, len, limit }) } else { Ok(()) }
}
