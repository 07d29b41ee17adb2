//! The keeper: when the logs have grown enough, it has a checkpoint made, on a
//! thread of its own, and tells the cores how far they may release.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use corewal_format::{Epoch, Lsn};
use corewal_io::Storage;

use super::{Backlog, CheckpointMade, Checkpointer, Checkpoints};
use crate::clock::Clock;
use crate::durable::DurableLsn;
use crate::epochs::EpochBoard;
use crate::error::{Error, Result};
use crate::parallel;
use crate::planted::PlantedBug;
use crate::space::Space;

/// How the checkpoints of a store are getting on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointStatus {
    /// Epoch of the newest; 0 if there is none.
    pub epoch: Epoch,
    /// Checkpoints made since the store was opened.
    pub made: u64,
    /// Bytes of runs written for them.
    pub written: u64,
    /// Bytes of log that the newest does not cover, over all cores.
    pub behind: u64,
    /// How many new segments had to wait because checkpoints did not keep up
    /// with the cores; see [`Checkpoints::bytes`].
    pub held: u64,
    /// Why the last try failed, if it did, or what could not be done behind it:
    /// runs merged, or an old one removed. It is tried again.
    pub error: Option<String>,
}

/// Has checkpoints made. One a store.
pub(crate) struct Keeper<S: Storage> {
    shared: Arc<Shared<S>>,
    /// `None` where checkpoints are made on the thread that finds them due.
    thread: Option<parallel::Background>,
    /// Dropped last: nothing may change in the directory once it is free.
    _lock: Arc<S::Lock>,
}

struct Shared<S: Storage> {
    maker: Mutex<Checkpointer<S>>,
    board: Arc<EpochBoard>,
    clock: Arc<dyn Clock>,
    policy: Checkpoints,
    backlog: Arc<Backlog>,
    /// Epoch and time of the newest, or of the opening.
    epoch: AtomicU64,
    time: AtomicU64,
    /// After a try that failed: not again before the logs' positions sum up to
    /// this.
    not_before: AtomicU64,
    /// The epoch of the last try that failed: where space is scarce, each epoch
    /// is tried once.
    failed: AtomicU64,
    space: Arc<Space>,
    /// Runs are still to be merged, for which there was no space.
    owed: AtomicBool,
    /// The store is being closed: no more runs are merged, unless they are small.
    stop: AtomicBool,
    /// Somebody found one to be due.
    due: Mutex<bool>,
    rings: Condvar,
    status: Mutex<CheckpointStatus>,
}

impl<S: Storage> std::fmt::Debug for Keeper<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Storage> Keeper<S> {
    pub(crate) fn start(
        maker: Checkpointer<S>,
        durable: Vec<DurableLsn>,
        board: Arc<EpochBoard>,
        policy: Checkpoints,
        inline: bool,
        lock: Arc<S::Lock>,
    ) -> Result<Self> {
        let clock = Arc::clone(&maker.clock);
        let dir = maker.layout.dir.clone();
        let backlog = Arc::new(Backlog::new(durable, policy));
        maker.layout.space.set_backlog(Arc::clone(&backlog));
        let shared = Arc::new(Shared {
            board,
            policy,
            backlog,
            epoch: AtomicU64::new(0),
            time: AtomicU64::new(clock.now().0),
            not_before: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            space: Arc::clone(&maker.layout.space),
            owed: AtomicBool::new(false),
            clock,
            maker: Mutex::new(maker),
            stop: AtomicBool::new(false),
            due: Mutex::new(false),
            rings: Condvar::new(),
            status: Mutex::default(),
        });
        shared.note(&locked(&shared.maker));
        let acts = shared.acts();
        let thread = if inline || !acts {
            None
        } else {
            let shared = Arc::clone(&shared);
            let thread = parallel::background("corewal-checkpoints", move || shared.work());
            Some(thread.map_err(|error| Error::io("start a thread for", &dir, error))?)
        };
        Ok(Self { shared, thread, _lock: lock })
    }

    /// Makes a checkpoint of the newest complete epoch now, on this thread.
    pub(crate) fn checkpoint(&self) -> Result<Option<CheckpointMade>> {
        self.shared.make(false)
    }

    /// There is no space for a segment: has a checkpoint made of what is
    /// complete, on this thread, or waits for the one under way.
    pub(crate) fn relieve(&self) {
        let shared = &self.shared;
        let before = shared.epoch.load(Ordering::Relaxed);
        let complete = shared.board.complete().0;
        if shared.acts() && complete > before.max(shared.failed.load(Ordering::Relaxed)) {
            // What went wrong stands in the status.
            drop(shared.make(false));
        } else {
            shared.backlog.set_patient(false);
            drop(locked(&shared.maker));
        }
    }

    /// Moves the newest checkpoint to another number of cores; see
    /// [`Checkpointer::reshard`].
    pub(crate) fn reshard(&self, cores: u16, base: Lsn) -> Result<u64> {
        locked(&self.shared.maker).reshard(cores, base)
    }

    pub(crate) fn status(&self) -> CheckpointStatus {
        let (behind, held) = (self.shared.backlog.bytes(), self.shared.backlog.held());
        CheckpointStatus { behind, held, ..locked(&self.shared.status).clone() }
    }

    /// A core has ended an epoch, durably: a checkpoint may be due.
    pub(crate) fn ended(&self) {
        if !self.shared.is_due() {
            return;
        }
        match &self.thread {
            Some(_) => {
                let mut due = locked(&self.shared.due);
                *due = true;
                self.shared.backlog.set_busy(true);
                drop(due);
                self.shared.rings.notify_one();
            }
            // What went wrong stands in the status.
            None => drop(self.shared.make(false)),
        }
    }
}

impl<S: Storage> Drop for Keeper<S> {
    /// Waits for the thread, and for a checkpoint that is due.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.backlog.set_patient(false);
        *locked(&self.shared.due) = true;
        self.shared.rings.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// Says at its end that no checkpoint is being made.
struct Idle<'b>(&'b Backlog);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

impl<S: Storage> Shared<S> {
    fn work(&self) {
        // Nobody waits for a thread that has ended, however it did.
        let _idle = Idle(&self.backlog);
        loop {
            let mut due = locked(&self.due);
            let too_long = || self.backlog.is_over() && self.is_due();
            while !*due && !too_long() {
                // Under the lock, so that nobody finds one due in between.
                self.backlog.set_busy(false);
                due = self.rings.wait(due).unwrap_or_else(PoisonError::into_inner);
            }
            *due = false;
            drop(due);
            let stop = self.stop.load(Ordering::Relaxed);
            // At the end too: what is in a checkpoint, no opening replays.
            if !stop || self.is_due() {
                // What went wrong stands in the status.
                let _ = self.make(true);
            }
            if stop {
                return;
            }
        }
    }

    /// Whether checkpoints are made without being asked for.
    fn acts(&self) -> bool {
        self.policy.bytes.is_some() || self.policy.every.is_some() || self.space.has_budget()
    }

    fn is_due(&self) -> bool {
        let Checkpoints { bytes, every, .. } = self.policy;
        if self.owed.load(Ordering::Relaxed) && self.acts() {
            let to_merge = self.space.merging();
            if self.space.may_merge(to_merge) {
                return true;
            }
        }
        if self.board.complete().0 <= self.epoch.load(Ordering::Relaxed) {
            return false;
        }
        if self.backlog.appended() < self.not_before.load(Ordering::Relaxed) {
            // Out of space, the logs do not grow.
            return self.space.is_scarce() && self.board.complete().0 > self.failed.load(Ordering::Relaxed);
        }
        let behind = self.backlog.bytes();
        if self.space.worth_freeing().is_some_and(|least| behind >= least) {
            return true;
        }
        // Sooner at the end: what closing folds, no opening replays.
        let part = if self.stop.load(Ordering::Relaxed) { 4 } else { 1 };
        if bytes.is_some_and(|bytes| behind >= bytes / part) {
            return true;
        }
        every.is_some_and(|every| {
            let now = self.clock.now().0;
            // A clock that steps back starts the time anew: what it said before
            // may be years ahead.
            let last = self.time.fetch_min(now, Ordering::Relaxed).min(now);
            u128::from(now - last) >= every.as_nanos()
        })
    }

    /// Makes one, if the newest complete epoch has none: `patient` if nobody
    /// waits for it.
    fn make(&self, patient: bool) -> Result<Option<CheckpointMade>> {
        let mut maker = locked(&self.maker);
        self.backlog.set_patient(patient && !self.stop.load(Ordering::Relaxed));
        let epoch = self.board.complete();
        // Read behind the epoch: all of it is durable by now.
        let durable = self.backlog.durable();
        let mut made = maker.make(epoch, &durable);
        // The segments go before runs are merged, which can take longer.
        self.note(&maker);
        // Without space for it runs are merged once the segments have gone.
        let owed = self.owed.load(Ordering::Relaxed);
        if let Ok(new) = &mut made
            && (new.is_some() || owed)
            && maker.newest().is_some()
        {
            let never = AtomicBool::new(false);
            let stop = if maker.bytes() <= self.policy.merged_at_close() { &never } else { &self.stop };
            let fits = !stop.load(Ordering::Relaxed) && self.space.may_merge(self.space.merging());
            let mut none = CheckpointMade::default();
            let merged = fits && maker.compact(new.as_mut().unwrap_or(&mut none), stop);
            self.owed.store(!merged, Ordering::Relaxed);
            self.space.set_merging(maker.to_merge());
        }
        if maker.layout.planted.has(PlantedBug::ReleasedBeforeManifest) && matches!(made, Err(Error::Io { .. })) {
            // What was told before the manifest was written stays said.
            for (core, durable) in durable.into_iter().enumerate() {
                self.board.may_release(super::core_id(core), durable);
            }
        }
        let mut status = locked(&self.status);
        match &made {
            Ok(made) => {
                status.made += u64::from(made.is_some());
                status.written += made.map_or(0, |made| made.written);
                status.error = maker.complaint().map(|error| error.to_string());
                self.not_before.store(0, Ordering::Relaxed);
            }
            Err(error) => {
                status.error = Some(error.to_string());
                self.failed.store(epoch.0, Ordering::Relaxed);
                let more = self.policy.bytes.unwrap_or(64 << 20) / 8;
                self.not_before.store(self.backlog.appended().saturating_add(more), Ordering::Relaxed);
            }
        }
        made
    }

    /// Tells what the checkpoints at hand cover.
    fn note(&self, maker: &Checkpointer<S>) {
        self.space.set_merging(maker.to_merge());
        for (core, floor) in maker.floors().into_iter().enumerate() {
            self.board.may_release(super::core_id(core), floor);
        }
        if let Some(newest) = maker.newest() {
            let covered = newest.cores.iter().map(|core| core.lsn.0).fold(0, u64::saturating_add);
            self.backlog.set_covered(covered);
            self.epoch.store(newest.epoch.0, Ordering::Relaxed);
            self.time.store(newest.time.0, Ordering::Relaxed);
            locked(&self.status).epoch = newest.epoch;
        }
    }
}
