//! Appending: records go into the frame at hand; a full one is finished and
//! waits. Nothing here calls the operating system.

use corewal_format::{BLOCK_LEN, Epoch, FRAME_HEADER_LEN, Lsn, MAX_KEY_LEN, MAX_VALUE_LEN, Record, SegmentIdentity};
use corewal_io::{Storage, StorageIo};

use super::building::{Building, FrameParts};
use super::{Look, NextFrame, Writer};
use crate::commit::Commit;
use crate::error::{Error, Result};

/// Frames whose number of records is kept until they are durable.
const NOTES_MAX: usize = 1024;

impl<S: Storage> Writer<S> {
    /// Appends a put. It counts once a commit follows. Returns the record's
    /// position.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over [`MAX_KEY_LEN`] or [`MAX_VALUE_LEN`],
    /// [`Error::Full`], [`Error::Latched`]; nothing is appended.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Lsn> {
        within("the key", key.len(), MAX_KEY_LEN)?;
        within("the value", value.len(), MAX_VALUE_LEN)?;
        let lsn = self.push(&Record::Put { key, value })?;
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
        let lsn = self.push(&Record::Delete { key })?;
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
        let lsn = self.push(&Record::Payload(bytes))?;
        self.batch_open = true;
        Ok(lsn)
    }

    /// Ends the batch: all records since the last commit, the offsets and the
    /// watermark come back together or not at all. Returns the position after
    /// the commit: it is durable once [`Writer::durable_lsn`] has reached it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the commit has too many or too long offsets,
    /// [`Error::Full`], [`Error::Latched`]; nothing is appended and the batch
    /// stays open. If [`GroupCommit`](crate::GroupCommit) starts a sync here,
    /// its failures too, and then the commit is appended: [`Error::Latched`],
    /// or [`Error::Io`] after which [`Writer::poll`] tries the sync again.
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
    /// [`Error::OpenBatch`] within a batch, [`Error::Full`], [`Error::Latched`].
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
    /// ended already, [`Error::Full`], [`Error::Latched`].
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

    pub(super) fn between_batches(&self, action: &'static str) -> Result<()> {
        if self.batch_open { Err(Error::OpenBatch { action }) } else { Ok(()) }
    }

    /// Appends a record to the frame at hand, or to the next one if it is full.
    #[inline]
    pub(super) fn push(&mut self, record: &Record<'_>) -> Result<Lsn> {
        let len = record.encoded_len();
        if !self.building.as_ref().is_some_and(|building| building.has_room(len)) || self.latched.is_some() {
            self.make_room(len)?;
        }
        let building = self.building.as_mut().expect("there is room");
        building.set_epoch(match *record {
            // An opening states its epoch before its first record does.
            Record::Open { epoch } | Record::Unpark { epoch } => epoch,
            _ => self.epoch,
        });
        let lsn = building.push(record);
        self.epoch = record.epoch_after(self.epoch);
        self.sequence.0 += 1;
        self.records_appended += 1;
        Ok(lsn)
    }

    #[cold]
    fn make_room(&mut self, len: usize) -> Result<()> {
        self.check_latch()?;
        if self.building.as_ref().is_some_and(|building| !building.is_empty()) {
            if self.spare.is_empty() {
                return Err(Error::Full);
            }
            self.finish();
        }
        let needed = FRAME_HEADER_LEN + len;
        let mut buffer = match self.building.take() {
            Some(building) => building.into_buffer(),
            None => self.spare.pop().ok_or(Error::Full)?,
        };
        if buffer.capacity() < needed {
            // A record that no pooled buffer holds gets one of its own. It
            // takes the place of a pooled one until it is written.
            buffer = self.io.buffer(needed);
        }
        self.building = Some(Building::new(buffer, self.next.lsn, self.epoch, self.sequence));
        Ok(())
    }

    /// Notes how many records are durable once everything up to `end` is. Where
    /// nobody ever syncs, the newest notes are merged.
    fn note_records(&mut self, end: Lsn) {
        if self.records_durable.len() == NOTES_MAX {
            self.records_durable.pop_back();
        }
        self.records_durable.push_back((end, self.records_appended));
    }

    /// Finishes the frame at hand, if it holds anything. No system call.
    pub(super) fn finish(&mut self) {
        self.finish_as(false);
    }

    /// Finishes the frame at hand and, if asked to or if the next frame might
    /// not fit, seals the segment with it.
    pub(super) fn finish_as(&mut self, seal: bool) {
        let Some(building) = self.building.take_if(|building| !building.is_empty()) else {
            return;
        };
        let len = building.padded_len() as u64;
        let end = self.next.lsn.plus(len);
        let used = end.0 - self.next.base_lsn.0;
        let sealed = seal || used + self.tuning.buffer_bytes as u64 > self.tuning.segment_bytes;
        // The clock may step back; what is recorded does not.
        self.timestamp = self.timestamp.max(self.clock.now());
        let parts =
            FrameParts { durable_lsn: self.ledger.durable(), timestamp: self.timestamp, opening: self.opening, sealed };
        let identity = SegmentIdentity {
            log_id: self.log.log_id,
            core: self.log.core,
            segment: self.next.segment,
            base_lsn: self.next.base_lsn,
        };
        self.finished.push_back(building.finish(parts, identity.checksum_seed()));
        self.finished_end = end;
        self.note_records(end);
        self.next = if sealed {
            let segment = self.next.segment.next();
            NextFrame { segment, base_lsn: end, lsn: end.plus(BLOCK_LEN as u64) }
        } else {
            NextFrame { lsn: end, ..self.next }
        };
    }
}

#[inline]
fn within(what: &'static str, len: usize, limit: usize) -> Result<()> {
    if len > limit { Err(Error::TooLarge { what, len, limit }) } else { Ok(()) }
}
