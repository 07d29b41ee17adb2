//! The writer: one core's way into its log.
//!
//! Records are encoded into the frame at hand; a full frame is finished and
//! waits, [`Writer::submit`] hands finished frames to the backend,
//! [`Writer::poll`] takes completions in and moves the written and the durable
//! position. It must never: call the operating system from `append`, move
//! `durable_lsn` over bytes whose write or sync has not completed, or go on
//! after a failure.

mod append;
mod building;
mod drive;
mod files;
mod group;
mod ledger;
mod pace;
mod pool;
mod supply;
mod surgery;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use corewal_format::{
    BLOCK_LEN, CoreId, Epoch, Lsn, Opening, Record, SegmentIdentity, Sequence, TimestampNs, block_align,
};
use corewal_io::{Completion, FileStorage, Storage, StorageIo, Token, WritePath};

pub(crate) use self::append::within;
use self::building::{Building, Finished};
use self::files::Files;
use self::ledger::Ledger;
use self::pool::Pool;
use self::supply::Supply;
use self::surgery::Releasing;
use crate::clock::Clock;
use crate::durable::Publisher;
use crate::error::{Error, Result};
use crate::group::Pending;
use crate::layout::Layout;
use crate::options::Tuning;
use crate::planted::{Planted, PlantedBug};
use crate::scan::{Coverage, LogIdentity};
use crate::segments::{Want, Workshop};

pub(crate) use files::OpenSegment;
pub(crate) use group::Look;
pub(crate) use supply::Crew;

/// Frames whose number of records is kept until they are durable.
const NOTES_MAX: usize = 1024;

/// One core's way into its log.
///
/// Made by opening a store and by nothing else: see [`Options`](crate::Options).
/// Not shared between threads; it may move from one to another.
///
/// After an error of kind [`Error::Latched`] or a failed write or sync, every
/// further call that would write is refused. Dropping a writer loses what is
/// not durable, as a crash does; [`Writer::close`] loses nothing.
pub struct Writer<S: Storage = FileStorage> {
    layout: Layout<S>,
    log: LogIdentity,
    io: S::Io,
    clock: Arc<dyn Clock>,
    tuning: Tuning,
    files: Files<S::File>,
    supply: Supply<S>,
    /// Writes go past the cache, and each carries its own sync.
    direct: bool,
    /// The frame at hand. It holds a record but while the first is pushed.
    building: Option<Building>,
    /// Finished frames that have not been submitted, oldest first.
    finished: VecDeque<Finished>,
    pool: Pool,
    ledger: Ledger,
    /// Where the writes in flight go, to write the rest of a short one.
    destinations: Vec<Destination<S::File>>,
    completions: Vec<Completion>,
    /// Where the frame at hand will stand.
    next: NextFrame,
    /// The end of the last finished frame. The next one may stand behind the
    /// header of another segment.
    finished_end: Lsn,
    opening: Opening,
    epoch: Epoch,
    /// Which epochs count as ended in the log.
    coverage: Coverage,
    sequence: Sequence,
    timestamp: TimestampNs,
    last_sync: Option<TimestampNs>,
    records_appended: u64,
    records_durable: VecDeque<(Lsn, u64)>,
    records_synced: u64,
    batch_open: bool,
    start: Lsn,
    releasing: Option<Releasing>,
    commit_body: Vec<u8>,
    latched: Option<(io::ErrorKind, String)>,
    /// Commits that no sync has been asked for.
    pending: Pending,
    /// Tells others how far the log is durable; its drop, that the writer is
    /// gone.
    publisher: Publisher,
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
    /// Size of the segment.
    capacity: u64,
}

#[derive(Debug)]
struct Destination<F> {
    token: Token,
    file: F,
    lsn: Lsn,
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
    /// The segment behind the active one, if it was made before.
    pub(crate) successor: Option<OpenSegment<S::File>>,
    pub(crate) workshop: Workshop<S>,
    pub(crate) crew: Arc<Crew<S>>,
    pub(crate) end: Lsn,
    pub(crate) start: Lsn,
    pub(crate) opening: Opening,
    pub(crate) epoch: Epoch,
    pub(crate) coverage: Coverage,
    pub(crate) sequence: Sequence,
    pub(crate) timestamp: TimestampNs,
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
        let failed = |error| Error::io("start writing to", &layout.dir, error);
        let mut io = layout.storage.io(log.core.index()).map_err(failed)?;
        let direct = layout.storage.write_path(&active.file).direct;
        let SegmentIdentity { segment, base_lsn, .. } = active.identity;
        let next = NextFrame { segment, base_lsn, lsn: end, capacity: active.capacity };
        let (capacity, least) = (tuning.grown(active.capacity), tuning.first());
        let want = Want {
            segment: segment.next(),
            base_lsn: active.next_base(),
            capacity,
            least,
            must: false,
            hurried: false,
        };
        let pool = Pool::new((0..tuning.buffers).map(|_| io.buffer(tuning.buffer_bytes)).collect());
        // Nothing grows while it runs: so many frames can wait or be in flight.
        let frames = (tuning.buffers * (block_align(tuning.buffer_bytes) / BLOCK_LEN)).min(NOTES_MAX);
        let mut writer = Self {
            layout,
            log,
            io,
            files: Files::new(spans, active),
            supply: Supply::new(take_up.crew, take_up.workshop, Arc::clone(&clock), take_up.successor, want),
            clock,
            direct,
            building: None,
            finished: VecDeque::with_capacity(frames),
            pool,
            ledger: Ledger::new(end, frames),
            destinations: Vec::with_capacity(frames),
            completions: Vec::with_capacity(frames),
            tuning,
            next,
            finished_end: end,
            opening: take_up.opening,
            epoch: take_up.epoch,
            coverage: take_up.coverage,
            sequence: take_up.sequence,
            timestamp: take_up.timestamp,
            last_sync: None,
            records_appended: 0,
            records_durable: VecDeque::with_capacity(frames + 1),
            records_synced: 0,
            releasing: None,
            batch_open: false,
            start,
            commit_body: Vec::new(),
            latched: None,
            pending: Pending::default(),
            publisher: Publisher::new(end),
            _lock: take_up.lock,
        };
        writer.begin(rollback)?;
        Ok(writer)
    }

    /// Writes the first frame of an opening.
    fn begin(&mut self, rollback: Option<(Lsn, Epoch)>) -> Result<()> {
        // In a segment that is full the frame takes the block that is kept for
        // the seal, and is the seal.
        let full = self.room() < BLOCK_LEN as u64;
        if full {
            // Without it there is no way in, to free space: the budget waits.
            self.supply.insist();
            while self.supply.ready(4 * BLOCK_LEN as u64)?.is_none() {
                self.supply.flush();
                self.supply.wait();
            }
            let buffer = self.pool.take(BLOCK_LEN, |_| unreachable!("any buffer holds a block"));
            let buffer = buffer.expect("none is in use");
            self.building = Some(Building::new(buffer, BLOCK_LEN as u64, self.next.lsn, self.epoch, self.sequence));
        }
        self.push(&Record::Open { epoch: self.epoch })?;
        if let Some((to, epoch)) = rollback {
            self.push(&Record::Rollback { to, epoch })?;
        }
        if full {
            self.seal();
        }
        self.sync()?;
        Ok(())
    }

    /// The core whose log this is.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.log.core
    }

    /// How its writes reach the medium.
    #[must_use]
    pub fn write_path(&self) -> WritePath {
        self.layout.storage.write_path(&self.files.active().file)
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

    /// The end of what has been appended. Equal to [`Writer::durable_lsn`] once
    /// all of it is durable.
    #[must_use]
    pub fn appended_lsn(&self) -> Lsn {
        self.building.as_ref().map_or(self.finished_end, Building::position)
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

    /// The fault that a test has planted, if any.
    pub(crate) fn planted(&self) -> Planted {
        self.layout.planted
    }

    fn check_latch(&self) -> Result<()> {
        match &self.latched {
            _ if self.layout.planted.has(PlantedBug::LatchIgnored) => Ok(()),
            Some((kind, cause)) => Err(Error::Latched { cause: cause.clone(), kind: *kind }),
            None => Ok(()),
        }
    }

    fn latch(&mut self, action: &str, error: &io::Error) -> Error {
        let core = self.log.core;
        let (kind, cause) =
            self.latched.get_or_insert_with(|| (error.kind(), format!("core {core}: cannot {action}: {error}")));
        self.publisher.latched(*kind, cause);
        Error::Latched { cause: cause.clone(), kind: *kind }
    }

    /// Makes everything durable, writes the record of an orderly close and
    /// makes that durable too, so that the next open has nothing to doubt.
    /// `complete` is as in [`Writer::barrier`].
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch; [`Error::Io`] if the record needs
    /// another segment and it cannot be made; [`Error::Latched`]. After one the
    /// log is as after a crash.
    pub fn close(mut self, complete: Epoch) -> Result<()> {
        self.between_batches("closing")?;
        self.sync()?;
        self.push_waiting(&Record::Close { complete })?;
        self.sync()?;
        Ok(())
    }
}
