//! The writer: one core's way into its log.
//!
//! Records are encoded into the frame at hand; a full frame is finished and
//! waits, [`Writer::submit`] hands finished frames to the backend,
//! [`Writer::poll`] takes completions in and moves the written and the durable
//! position. It must never: call the operating system from `append`, move
//! `durable_lsn` over bytes whose write or sync has not completed, or go on
//! after a failure.

mod building;
mod files;
mod ledger;
mod surgery;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use corewal_format::{
    BLOCK_LEN, CoreId, Epoch, FRAME_HEADER_LEN, Lsn, MAX_KEY_LEN, MAX_VALUE_LEN, Opening, Record, Sequence,
    TimestampNs, block_align,
};
use corewal_io::{AlignedBuf, Completion, Operation, Storage, StorageIo, SyncStorage, Token, Wait};

use self::building::{Building, Finished, FrameParts};
use self::files::Files;
use self::ledger::{Ledger, Role};
use crate::clock::Clock;
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::Tuning;
use crate::planted::Planted;
use crate::scan::LogIdentity;

pub(crate) use files::{OpenSegment, create_segment};

/// One core's way into its log.
///
/// Made by opening a store and by nothing else: see [`Options`](crate::Options).
/// Not shared between threads; it may move from one to another.
///
/// After an error of kind [`Error::Latched`] or a failed write or sync, every
/// further call that would write is refused. Dropping a writer loses what is
/// not durable, as a crash does; [`Writer::close`] loses nothing.
pub struct Writer<S: Storage = SyncStorage> {
    layout: Layout<S>,
    log: LogIdentity,
    io: S::Io,
    clock: Arc<dyn Clock>,
    tuning: Tuning,
    files: Files<S::File>,
    building: Option<Building>,
    /// Finished frames that have not been submitted, oldest first.
    finished: VecDeque<Finished>,
    /// Buffers that hold nothing.
    spare: Vec<AlignedBuf>,
    ledger: Ledger,
    /// Where the writes in flight go, to write the rest of a short one.
    destinations: Vec<Destination<S::File>>,
    completions: Vec<Completion>,
    /// Identity of the segment the next finished frame goes to.
    next: NextFrame,
    opening: Opening,
    epoch: Epoch,
    sequence: Sequence,
    timestamp: TimestampNs,
    last_sync: Option<TimestampNs>,
    records_appended: u64,
    records_durable: VecDeque<(Lsn, u64)>,
    records_synced: u64,
    batch_open: bool,
    start: Lsn,
    commit_body: Vec<u8>,
    latched: Option<String>,
    planted: Planted,
    /// Keeps other processes out for as long as the writer lives.
    _lock: Arc<S::Lock>,
}

/// Where the frame at hand will stand. Known without the file, so that
/// `append` needs none.
#[derive(Clone, Copy, Debug)]
struct NextFrame {
    segment: corewal_format::SegmentId,
    base_lsn: Lsn,
    lsn: Lsn,
}

#[derive(Debug)]
struct Destination<F> {
    token: Token,
    file: F,
    /// File position of the buffer's first byte.
    offset: u64,
    written: usize,
    len: usize,
    data_sync: bool,
}

/// Where a writer takes up a log: what recovery found.
pub(crate) struct TakeUp<S: Storage> {
    pub(crate) layout: Layout<S>,
    pub(crate) log: LogIdentity,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tuning: Tuning,
    pub(crate) spans: Vec<crate::scan::SegmentSpan>,
    pub(crate) active: OpenSegment<S::File>,
    pub(crate) end: Lsn,
    pub(crate) start: Lsn,
    pub(crate) opening: Opening,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
    pub(crate) timestamp: TimestampNs,
    pub(crate) planted: Planted,
    pub(crate) lock: Arc<S::Lock>,
}

impl<S: Storage> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("core", &self.core())
            .field("epoch", &self.epoch)
            .field("sequence", &self.sequence)
            .field("appended_lsn", &self.appended_lsn())
            .field("written_lsn", &self.written_lsn())
            .field("durable_lsn", &self.durable_lsn())
            .field("latched", &self.latched)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Writer<S> {
    /// Takes a log up at its end, writes the record of the new opening (and of
    /// the rollback, if there is one) and makes it durable before anything
    /// else can be appended.
    pub(crate) fn take_up(take_up: TakeUp<S>, rollback: Option<(Lsn, Epoch)>) -> Result<Self> {
        let TakeUp { layout, log, clock, tuning, spans, active, end, start, .. } = take_up;
        let io = layout.storage.io().map_err(|error| Error::io("start writing to", &layout.dir, error))?;
        let next = NextFrame { segment: active.identity.segment, base_lsn: active.identity.base_lsn, lsn: end };
        let mut writer = Self {
            layout,
            log,
            io,
            clock,
            files: Files::new(spans, active),
            building: None,
            finished: VecDeque::with_capacity(tuning.buffers),
            spare: Vec::with_capacity(tuning.buffers),
            ledger: Ledger::new(end),
            destinations: Vec::with_capacity(tuning.buffers),
            completions: Vec::with_capacity(tuning.buffers),
            tuning,
            next,
            opening: take_up.opening,
            epoch: take_up.epoch,
            sequence: take_up.sequence,
            timestamp: take_up.timestamp,
            last_sync: None,
            records_appended: 0,
            records_durable: VecDeque::with_capacity(16),
            records_synced: 0,
            batch_open: false,
            start,
            commit_body: Vec::new(),
            latched: None,
            planted: take_up.planted,
            _lock: take_up.lock,
        };
        for _ in 0..tuning.buffers {
            let buffer = writer.io.buffer(tuning.buffer_bytes);
            writer.spare.push(buffer);
        }
        writer.push(&Record::Open { epoch: writer.epoch })?;
        if let Some((to, epoch)) = rollback {
            writer.push(&Record::Rollback { to, epoch })?;
        }
        writer.sync()?;
        Ok(writer)
    }

    /// The core whose log this is.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.log.core
    }

    /// The current epoch: the one that the next barrier ends.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The sequence of the next record.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The end of what has been appended: position of the next record.
    #[must_use]
    pub fn appended_lsn(&self) -> Lsn {
        match &self.building {
            Some(building) if !building.is_empty() => building.position(),
            _ => self.next.lsn,
        }
    }

    /// Everything below is accepted by the operating system.
    #[must_use]
    pub fn written_lsn(&self) -> Lsn {
        self.ledger.written()
    }

    /// Everything below survives a power loss.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.ledger.durable()
    }

    /// The first position of the log that has not been released.
    #[must_use]
    pub fn start_lsn(&self) -> Lsn {
        self.start
    }

    /// Records appended that are not durable yet.
    #[must_use]
    pub fn records_since_sync(&self) -> u64 {
        self.records_appended - self.records_synced
    }

    /// When the last sync completed, by the store's clock; `None` before the
    /// first of this opening.
    #[must_use]
    pub fn last_sync(&self) -> Option<TimestampNs> {
        self.last_sync
    }

    /// Whether a sync is in flight.
    #[must_use]
    pub fn sync_in_flight(&self) -> bool {
        self.ledger.sync_in_flight()
    }

    /// Whether records have been appended since the last commit.
    #[must_use]
    pub fn batch_open(&self) -> bool {
        self.batch_open
    }

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
    /// stays open.
    pub fn commit(&mut self, commit: &Commit) -> Result<Lsn> {
        let mut body = std::mem::take(&mut self.commit_body);
        body.clear();
        let appended = commit.encode_into(&mut body).and_then(|commit| self.push(&Record::Commit(commit)));
        self.commit_body = body;
        appended?;
        self.batch_open = false;
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

    fn between_batches(&self, action: &'static str) -> Result<()> {
        if self.batch_open { Err(Error::OpenBatch { action }) } else { Ok(()) }
    }

    /// Appends a record to the frame at hand, or to the next one if it is full.
    #[inline]
    fn push(&mut self, record: &Record<'_>) -> Result<Lsn> {
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

    /// Finishes the frame at hand, if it holds anything. No system call.
    fn finish(&mut self) {
        self.finish_as(false);
    }

    /// Finishes the frame at hand and, if asked to or if the next frame might
    /// not fit, seals the segment with it.
    fn finish_as(&mut self, seal: bool) {
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
        let identity = corewal_format::SegmentIdentity {
            log_id: self.log.log_id,
            core: self.log.core,
            segment: self.next.segment,
            base_lsn: self.next.base_lsn,
        };
        self.finished.push_back(building.finish(parts, identity.checksum_seed()));
        self.records_durable.push_back((end, self.records_appended));
        self.next = if sealed {
            let segment = self.next.segment.next();
            NextFrame { segment, base_lsn: end, lsn: end.plus(BLOCK_LEN as u64) }
        } else {
            NextFrame { lsn: end, ..self.next }
        };
    }

    /// Hands everything appended to the backend and returns without waiting
    /// for it to become durable. (A blocking backend has written it by then.)
    ///
    /// # Errors
    /// [`Error::Latched`]; [`Error::Io`] if the next segment cannot be created:
    /// nothing is lost, and calling again tries again.
    pub fn submit(&mut self) -> Result<()> {
        self.check_latch()?;
        self.finish();
        self.submit_finished(false)
    }

    fn submit_finished(&mut self, data_sync: bool) -> Result<()> {
        while let Some(frame) = self.finished.front() {
            // The successor is durable before the seal can be: a sealed segment
            // without successor is never the work of a crash.
            let end = frame.lsn.plus(frame.len as u64);
            let sealed = frame.sealed;
            let planted = sealed && self.planted.seal_before_successor();
            let successor = if sealed && !planted { Some(self.create_successor(end)?) } else { None };
            let frame = self.finished.pop_front().expect("peeked above");
            self.submit_frame(frame, data_sync)?;
            let successor = if planted { Some(self.create_successor(end)?) } else { successor };
            if let Some(segment) = successor {
                self.files.push(segment);
            }
        }
        Ok(())
    }

    fn create_successor(&self, end: Lsn) -> Result<OpenSegment<S::File>> {
        create_segment(&self.layout, self.log, self.files.active().identity.segment.next(), end)
    }

    fn submit_frame(&mut self, frame: Finished, data_sync: bool) -> Result<()> {
        let Finished { buffer, len, lsn, .. } = frame;
        let active = self.files.active();
        let offset = lsn.0 - active.identity.base_lsn.0;
        assert!(offset >= BLOCK_LEN as u64 && len == block_align(len));
        let file = active.file.clone();
        let operation = Operation::Write { file: file.clone(), offset, buffer, range: 0..len, data_sync };
        let token = match self.io.submit(operation) {
            Ok(token) => token,
            Err(error) => return Err(self.latch("submit a write", &error)),
        };
        self.ledger.write_submitted(token, lsn, lsn.plus(len as u64), data_sync);
        self.destinations.push(Destination { token, file, offset, written: 0, len, data_sync });
        Ok(())
    }

    /// Asks for everything appended so far to become durable, without waiting:
    /// [`Writer::poll`] drives it on.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub fn request_sync(&mut self) -> Result<()> {
        self.check_latch()?;
        self.finish();
        // A single frame behind a durable log can carry its own sync.
        let alone = self.finished.len() == 1 && self.ledger.settled() && !self.finished[0].sealed;
        self.submit_finished(alone)?;
        self.ledger.want_durable(self.ledger.submitted());
        self.start_sync()?;
        Ok(())
    }

    /// Takes in what has completed, without blocking, and starts the sync that
    /// is due. Returns the durable position.
    ///
    /// # Errors
    /// [`Error::Latched`], now and from now on, if a write or a sync failed.
    pub fn poll(&mut self) -> Result<Lsn> {
        self.drive(Wait::No)
    }

    /// As [`Writer::poll`], but blocks until something in flight has completed.
    ///
    /// # Errors
    /// As [`Writer::poll`].
    pub fn wait(&mut self) -> Result<Lsn> {
        self.drive(Wait::One)
    }

    /// Makes everything appended so far durable and waits for it. Returns the
    /// durable position.
    ///
    /// # Errors
    /// As [`Writer::submit`] and [`Writer::poll`]. What was durable before
    /// stays so; whether the rest is, only reopening can tell.
    pub fn sync(&mut self) -> Result<Lsn> {
        self.request_sync()?;
        let target = self.ledger.submitted();
        while self.ledger.durable() < target {
            assert!(self.io.in_flight() > 0, "what is waited for is in flight");
            self.drive(Wait::One)?;
        }
        Ok(self.ledger.durable())
    }

    fn drive(&mut self, mut wait: Wait) -> Result<Lsn> {
        loop {
            self.take_completions(wait)?;
            if !self.start_sync()? {
                return Ok(self.ledger.durable());
            }
            // A blocking backend has the sync that was just started done.
            wait = Wait::No;
        }
    }

    fn take_completions(&mut self, wait: Wait) -> Result<()> {
        self.check_latch()?;
        let mut completions = std::mem::take(&mut self.completions);
        let polled = self.io.poll(wait, &mut completions);
        let mut outcome = polled.map_err(|error| self.latch("poll for completions", &error));
        // Every completion is looked at, even behind a failed one: buffers come
        // back and nothing is taken for durable by mistake.
        for completion in completions.drain(..) {
            let taken = self.take(completion);
            outcome = outcome.and(taken);
        }
        self.completions = completions;
        outcome
    }

    fn take(&mut self, completion: Completion) -> Result<()> {
        let Completion { token, result, buffer } = completion;
        match self.ledger.role(token) {
            Role::Unknown => {
                let error = std::io::Error::other(format!("a completion for {token:?}, which is not in flight"));
                Err(self.latch("match a completion", &error))
            }
            Role::Write => self.take_write(token, result, buffer),
            Role::Sync => match result {
                Ok(_) => {
                    if self.latched.is_none() && self.ledger.sync_completed(token).is_some() {
                        self.durable_moved();
                    }
                    Ok(())
                }
                Err(error) => Err(self.latch("sync", &error)),
            },
        }
    }

    fn take_write(&mut self, token: Token, result: std::io::Result<usize>, buffer: Option<AlignedBuf>) -> Result<()> {
        let at = self.destinations.iter().position(|destination| destination.token == token);
        let mut destination = self.destinations.swap_remove(at.expect("every write in flight has a destination"));
        let written = match result {
            Ok(written) => written,
            Err(error) => return Err(self.latch("write", &error)),
        };
        // Only whole blocks count: the rest of a short write starts aligned.
        destination.written += written - written % BLOCK_LEN;
        if destination.written > destination.len || (written < BLOCK_LEN && destination.written < destination.len) {
            let error = std::io::Error::new(std::io::ErrorKind::WriteZero, format!("wrote {written} bytes"));
            return Err(self.latch("write", &error));
        }
        let buffer = buffer.expect("a write gives its buffer back");
        if destination.written < destination.len {
            return self.write_rest(destination, buffer);
        }
        self.recycle(buffer);
        let before = self.ledger.durable();
        self.ledger.write_completed(token);
        if self.ledger.durable() > before {
            self.durable_moved();
        }
        Ok(())
    }

    fn write_rest(&mut self, mut destination: Destination<S::File>, buffer: AlignedBuf) -> Result<()> {
        let operation = Operation::Write {
            file: destination.file.clone(),
            offset: destination.offset + destination.written as u64,
            buffer,
            range: destination.written..destination.len,
            data_sync: destination.data_sync,
        };
        let token = self.io.submit(operation).map_err(|error| self.latch("submit the rest of a write", &error))?;
        self.ledger.write_resubmitted(destination.token, token);
        destination.token = token;
        self.destinations.push(destination);
        Ok(())
    }

    fn recycle(&mut self, buffer: AlignedBuf) {
        let pooled = if buffer.capacity() == block_align(self.tuning.buffer_bytes) {
            buffer
        } else {
            self.io.buffer(self.tuning.buffer_bytes)
        };
        self.spare.push(pooled);
    }

    fn durable_moved(&mut self) {
        let durable = self.ledger.durable();
        while let Some((_, records)) = self.records_durable.pop_front_if(|(end, _)| *end <= durable) {
            self.records_synced = records;
        }
        self.files.retire(durable);
        self.last_sync = Some(self.clock.now());
    }

    /// Starts the sync that is due; `false` if none is.
    fn start_sync(&mut self) -> Result<bool> {
        let Some((from, to)) = self.ledger.sync_due() else {
            return Ok(false);
        };
        let files: Vec<_> = self.files.touched(from, to).cloned().collect();
        let mut tokens = Vec::with_capacity(files.len());
        for file in files {
            match self.io.submit(Operation::Sync { file }) {
                Ok(token) => tokens.push(token),
                Err(error) => return Err(self.latch("submit a sync", &error)),
            }
        }
        self.ledger.sync_submitted(tokens);
        if self.planted.sync_acknowledged_early() {
            self.planted_early_acknowledgement();
        }
        Ok(true)
    }

    #[cfg(feature = "planted-bugs")]
    fn planted_early_acknowledgement(&mut self) {
        self.ledger.acknowledge_early();
        self.durable_moved();
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn planted_early_acknowledgement(&mut self) {}

    fn check_latch(&self) -> Result<()> {
        match &self.latched {
            Some(cause) => Err(Error::Latched { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn latch(&mut self, action: &str, error: &std::io::Error) -> Error {
        let cause = self.latched.get_or_insert_with(|| format!("core {}: cannot {action}: {error}", self.log.core));
        Error::Latched { cause: cause.clone() }
    }

    /// Makes everything durable, writes the record of an orderly close and
    /// makes that durable too, so that the next open has nothing to doubt.
    /// `complete` is as in [`Writer::barrier`].
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch; otherwise as [`Writer::sync`].
    pub fn close(mut self, complete: Epoch) -> Result<()> {
        self.between_batches("closing")?;
        self.sync()?;
        self.push(&Record::Close { complete })?;
        self.sync()?;
        Ok(())
    }
}

#[inline]
fn within(what: &'static str, len: usize, limit: usize) -> Result<()> {
    if len > limit { Err(Error::TooLarge { what, len, limit }) } else { Ok(()) }
}
