//! How a store is opened.

use std::path::Path;
use std::sync::Arc;

use corewal_format::{BLOCK_LEN, Epoch, LogId, MAX_CORES, MAX_EPOCH, block_align};
use corewal_io::{FileStorage, Storage};

use crate::checkpoint::Checkpoints;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::group::GroupCommit;
use crate::planted::Planted;
use crate::recovery::{self, OpenedLogs};
use crate::report::RecoveryReport;
use crate::reshard::reshard_on;
use crate::space::Budget;
use crate::state::{Keyed, State};
use crate::store::Opened;
use crate::writer::Writer;

/// What opening gives back of a log that goes on after its last complete epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recover {
    /// The newest epoch that every core finished, and nothing after it: state,
    /// offsets and watermark of all cores agree. What was durable but lies
    /// after that epoch is rolled back: it stays in the log and no longer
    /// counts.
    #[default]
    CompleteEpoch,
    /// All of each core's own durable commits; for cores that are independent
    /// of each other.
    Latest,
}

/// Sizes and limits that a writer works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) segment_bytes: u64,
    pub(crate) buffer_bytes: usize,
    pub(crate) buffers: usize,
    pub(crate) group: GroupCommit,
}

/// The size of a log's first segments, in bytes.
const FIRST_SEGMENT: u64 = 1 << 20;

/// Up to this size, in bytes, each segment of a log is twice as large as the one
/// before, and from then on by a quarter larger. What is made ahead is written
/// once in vain if the log ends, and read at each opening, so that it is in
/// proportion to the log.
const DOUBLED_MAX: u64 = 16 << 20;

impl Tuning {
    /// The size of a log's first segment: as little as lets a frame fit well.
    pub(crate) fn first(&self) -> u64 {
        self.segment_bytes.min(FIRST_SEGMENT.max(4 * block_align(self.buffer_bytes) as u64))
    }

    /// Keeps segments so small that several of each core fit in `budget`.
    pub(crate) fn fit(&mut self, budget: Budget, cores: u16) -> Result<()> {
        let least = 4 * block_align(self.buffer_bytes) as u64;
        self.segment_bytes = budget.segment_bytes(cores, self.segment_bytes, least);
        budget.check(cores, self.first())
    }

    /// The size of the segment behind one of `capacity` bytes: segments grow
    /// with use, so that a log that is little used stays small.
    pub(crate) fn grown(&self, capacity: u64) -> u64 {
        let more = if capacity < DOUBLED_MAX { capacity } else { capacity / 4 };
        let grown = capacity.saturating_add(more) / BLOCK_LEN as u64 * BLOCK_LEN as u64;
        self.segment_bytes.min(grown).max(self.first())
    }
}

/// How a store is opened. Opening is the only way to a [`Store`](crate::Store),
/// a [`Shard`](crate::Shard) or a [`Writer`]: it creates the store or recovers
/// it, and there is no way around the scan.
///
/// ```
/// # fn main() -> corewal::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let opened = corewal::Options::new().cores(2).open(dir.path())?;
/// assert!(opened.report.created);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) cores: Option<u16>,
    pub(crate) recover: Recover,
    pub(crate) tuning: Tuning,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log_id: Option<LogId>,
    pub(crate) create: bool,
    pub(crate) inline: bool,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) reshard: bool,
    /// The newest epoch that opening looks at.
    pub(crate) until: Epoch,
    pub(crate) coordinated: bool,
    pub(crate) budget: Option<Budget>,
    pub(crate) planted: Planted,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults: as many cores as the store has (a new one: as the machine
    /// has), the newest complete epoch, segments of 64 MiB, four buffers of
    /// 128 KiB a core.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cores: None,
            recover: Recover::default(),
            tuning: Tuning {
                segment_bytes: 64 << 20,
                buffer_bytes: 128 << 10,
                buffers: 4,
                group: GroupCommit::manual(),
            },
            clock: Arc::new(SystemClock),
            log_id: None,
            create: true,
            inline: false,
            checkpoints: Checkpoints::default(),
            reshard: false,
            until: MAX_EPOCH,
            coordinated: false,
            budget: None,
            planted: Planted::by_environment(),
        }
    }

    /// The number of cores, 1 to 1,024. An existing store with another number
    /// refuses to open, unless it may be [resharded](Options::reshard).
    #[must_use]
    pub fn cores(mut self, cores: u16) -> Self {
        self.cores = Some(cores);
        self
    }

    /// What to give back of a log that goes on after its last complete epoch.
    #[must_use]
    pub fn recover(mut self, recover: Recover) -> Self {
        self.recover = recover;
        self
    }

    /// The size of a segment, in bytes, at least four buffers' worth, rounded up
    /// to whole blocks of 4 KiB. The first ones of a log are smaller, from 1 MiB
    /// on (or four buffers): each twice as large as the one before up to 16 MiB,
    /// and then by a quarter larger. A segment is larger only to hold a record
    /// that is. Every log has one segment more than it uses, ready to be written
    /// to.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.tuning.segment_bytes = bytes.checked_next_multiple_of(BLOCK_LEN as u64).unwrap_or(bytes);
        self
    }

    /// The size of a buffer, and so of the largest frame of small records, in
    /// bytes; 4 KiB to 16 MiB, rounded up to whole blocks of 4 KiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.tuning.buffer_bytes = bytes;
        self
    }

    /// Buffers a core, at least 2. When all wait for the disk, appending says
    /// [`Error::Full`].
    #[must_use]
    pub fn buffers(mut self, buffers: usize) -> Self {
        self.tuning.buffers = buffers;
        self
    }

    /// When commits become durable without being asked to; never, by default.
    #[must_use]
    pub fn group_commit(mut self, policy: GroupCommit) -> Self {
        self.tuning.group = policy;
        self
    }

    /// When checkpoints are made on their own, and how many are kept. They bound
    /// the log and the time that opening takes; see [`Checkpoints`] for the
    /// default. They need complete epochs, and a state that
    /// [folds](State::FOLDS).
    #[must_use]
    pub fn checkpoints(mut self, policy: Checkpoints) -> Self {
        self.checkpoints = policy;
        self
    }

    /// How much space the store may take; without end, by default. Over the
    /// soft mark a checkpoint is made at the next complete epoch. Where the next
    /// segment of a log would pass the hard mark, appending says
    /// [`Error::OutOfSpace`] until a checkpoint, or a larger budget at the next
    /// opening, has made room; the space that a checkpoint needs for that is
    /// kept free. Segments are made small enough for several to fit: at most a
    /// sixteenth of the budget, divided by the cores.
    ///
    /// It must hold eight of the smallest segments a core (4 MiB, with the
    /// default sizes), or opening says [`Error::BadOption`]. A store that
    /// already takes more opens, and says so when it needs a segment.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// The store is one of several whose epochs are complete together: somebody
    /// who knows them all says when ([`Store::confirm_epoch`]), and `epoch` is
    /// what they said last, 0 if nothing. Opening goes back to just that epoch,
    /// whatever the logs of this store hold behind it; from then on none is
    /// complete here, goes into a checkpoint or is released before it is
    /// confirmed.
    ///
    /// [`Store::confirm_epoch`]: crate::Store::confirm_epoch
    ///
    /// ```
    /// use corewal::{Commit, Epoch, Options};
    ///
    /// # fn main() -> corewal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut opened = Options::new().cores(1).coordinated(Epoch(0)).open(dir.path())?;
    /// for epoch in [1, 2] {
    ///     opened.shards[0].put(b"epoch", &[epoch])?;
    ///     opened.shards[0].commit(&Commit::new())?;
    ///     opened.shards[0].end_epoch(Epoch(epoch.into()))?;
    /// }
    /// opened.shards[0].sync()?;
    /// assert_eq!(opened.store.complete_epoch(), Epoch(0));
    /// // All the others have ended the first epoch as well, but not the second.
    /// opened.store.confirm_epoch(Epoch(1));
    /// assert_eq!(opened.store.complete_epoch(), Epoch(1));
    /// drop(opened);
    ///
    /// let opened = Options::new().coordinated(Epoch(1)).open(dir.path())?;
    /// assert_eq!(opened.shards[0].get(b"epoch"), Some(&[1][..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Opening says [`Error::BadOption`], and changes nothing but to create a
    /// store where there is none, if the store does not hold the end of `epoch`
    /// on every core, or if it is to recover to the latest.
    #[must_use]
    pub fn coordinated(mut self, epoch: Epoch) -> Self {
        (self.until, self.coordinated) = (epoch, true);
        self
    }

    /// Whether a store with another number of cores than asked for is changed to
    /// have that many, before it is opened (see [`reshard`](crate::reshard())).
    /// It is not, by default: `open` says [`Error::CoreCount`].
    #[must_use]
    pub fn reshard(mut self, reshard: bool) -> Self {
        self.reshard = reshard;
        self
    }

    /// Whether a store is created where there is none; it is by default.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Where time is taken from; for tests and simulations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The identity of a new store, which is random otherwise; for tests and
    /// simulations.
    #[must_use]
    pub fn log_id(mut self, log_id: LogId) -> Self {
        self.log_id = Some(log_id);
        self
    }

    /// Recovers the cores one after the other on the calling thread instead of
    /// on a thread each, so that a simulation sees one order of steps.
    #[must_use]
    pub fn single_threaded(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Plants a known fault; see [`PlantedBug`](crate::PlantedBug).
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn plant(mut self, bug: crate::planted::PlantedBug) -> Self {
        self.planted = Planted::with(bug);
        self
    }

    /// Opens the store in `dir`, or creates it, with the built-in keyed state
    /// on the best backend that the system has; see [`FileStorage`].
    ///
    /// # Errors
    /// Nothing is changed unless the error says so.
    /// [`Error::Locked`] if somebody else has it open; [`Error::Damaged`] if
    /// durable data is damaged, missing or foreign; [`Error::Unsupported`] if
    /// it is of a newer version; [`Error::CoreCount`] if it has another number
    /// of cores; [`Error::NotAStore`] if it is none and may not be created;
    /// [`Error::BadOption`]; [`Error::Io`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Opened> {
        // Compiled here, for all callers.
        fn on_files(options: Options, dir: &Path) -> Result<Opened> {
            options.open_dyn(FileStorage::new(), dir, &|_| Keyed::default())
        }
        on_files(self, dir.as_ref())
    }

    /// As [`Options::open`], with a state of the user's: `state` makes the empty
    /// state of each core, which opening then brings up to date by
    /// [`State::apply`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_with<T: State>(
        self,
        dir: impl AsRef<Path>,
        state: impl Fn(corewal_format::CoreId) -> T + Send + Sync,
    ) -> Result<Opened<T>> {
        self.open_on(FileStorage::new(), dir, state)
    }

    /// As [`Options::open_with`], on another backend.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_on<S: Storage, T: State>(
        self,
        storage: S,
        dir: impl AsRef<Path>,
        state: impl Fn(corewal_format::CoreId) -> T + Send + Sync,
    ) -> Result<Opened<T, S>> {
        self.open_dyn(storage, dir.as_ref(), &state)
    }

    /// One function for all callers: a closure's own type would have all of the
    /// recovery compiled once more for each place that opens a store.
    fn open_dyn<S: Storage, T: State>(
        self,
        storage: S,
        dir: &Path,
        state: recovery::NewState<'_, T>,
    ) -> Result<Opened<T, S>> {
        let (policy, inline) = (self.checkpoints, self.inline);
        let confirmed = if self.coordinated { self.until } else { MAX_EPOCH };
        let logs = match recovery::open(self.clone(), storage.clone(), dir, state) {
            Err(Error::CoreCount { asked, .. }) if self.reshard => {
                reshard_on(storage.clone(), dir, asked, self.clone())?;
                recovery::open(self, storage, dir, state)?
            }
            opened => opened?,
        };
        Opened::new(logs, policy, inline, confirmed)
    }

    /// As [`Options::open_on`], without state: the bare logs, one writer a
    /// core.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_writers<S: Storage>(
        self,
        storage: S,
        dir: impl AsRef<Path>,
    ) -> Result<(Vec<Writer<S>>, RecoveryReport)> {
        // Nobody makes checkpoints of bare logs.
        let options = Self { budget: self.budget.map(Budget::bare), ..self };
        let OpenedLogs { cores, report, .. } = recovery::open(options, storage, dir.as_ref(), &|_| ())?;
        Ok((cores.into_iter().map(|core| core.writer).collect(), report))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Tuning { segment_bytes, buffer_bytes, buffers, .. } = self.tuning;
        let bad = |name, must: &str| Err(Error::BadOption { name, must: must.to_owned() });
        match () {
            () if self.cores.is_some_and(|cores| cores == 0 || cores > MAX_CORES) => bad("cores", "from 1 to 1024"),
            () if !(BLOCK_LEN..=16 << 20).contains(&buffer_bytes) => bad("buffer_bytes", "from 4 KiB to 16 MiB"),
            () if buffers < 2 => bad("buffers", "at least 2"),
            () if segment_bytes < 4 * block_align(buffer_bytes) as u64 => {
                bad("segment_bytes", "at least four times buffer_bytes")
            }
            () if self.coordinated && self.recover != Recover::CompleteEpoch => {
                bad("recover", "the complete epoch, where epochs are coordinated")
            }
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_from_a_mebibyte_to_their_size() {
        let tuning = Options::new().tuning;
        let sizes = std::iter::successors(Some(tuning.first()), |&size| Some(tuning.grown(size)));
        let sizes: Vec<u64> = sizes.take(13).map(|size| size >> 20).collect();
        assert_eq!(sizes, [1, 2, 4, 8, 16, 20, 25, 31, 39, 48, 61, 64, 64]);
        // To whole blocks, also behind one that was made for a large record.
        assert_eq!(tuning.grown((20 << 20) + 4096), (25 << 20) + 4096);
        assert_eq!(tuning.grown(1 << 30), 64 << 20);
        assert_eq!(tuning.grown(4096), 1 << 20);
    }
}
