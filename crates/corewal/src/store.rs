//! The store: the directory, the lock and the epochs.

use std::fmt;
use std::sync::Arc;

use corewal_format::{CoreId, Epoch, LogId, Lsn};
use corewal_io::{FileStorage, Storage};

use crate::checkpoint::{CheckpointMade, CheckpointStatus, Checkpoints, Keeper};
use crate::epochs::EpochBoard;
use crate::error::{Error, Result};
use crate::recovery::OpenedLogs;
use crate::report::RecoveryReport;
use crate::route::Router;
use crate::shard::Shard;
use crate::space::Space;
use crate::state::{Keyed, State};

/// What opening a store gives.
#[derive(Debug)]
pub struct Opened<T: State = Keyed, S: Storage = FileStorage> {
    /// The directory and the epochs; clone it to where it is needed.
    pub store: Store<S>,
    /// One a core, in order; send each to its thread.
    pub shards: Vec<Shard<T, S>>,
    /// What opening found and did.
    pub report: RecoveryReport,
}

impl<T: State, S: Storage> Opened<T, S> {
    pub(crate) fn new(logs: OpenedLogs<S, T>, policy: Checkpoints, inline: bool, confirmed: Epoch) -> Result<Self> {
        let OpenedLogs { manifest, router, cores, report, lock, checkpointer, space } = logs;
        let current = cores.iter().map(|core| core.writer.epoch()).max().unwrap_or(Epoch(1));
        let ended = cores.iter().map(|core| core.ended);
        let board = Arc::new(EpochBoard::new(current, ended, confirmed));
        let durable = cores.iter().map(|core| core.writer.durable()).collect();
        let keeper = match T::FOLDS {
            true => Some(Arc::new(Keeper::start(
                checkpointer,
                durable,
                Arc::clone(&board),
                policy,
                inline,
                Arc::clone(&lock),
            )?)),
            false => None,
        };
        let shard = |core| Shard::new(core, router, Arc::clone(&board), keeper.clone());
        let shards = cores.into_iter().map(shard).collect();
        let (board, log_id) = (Arc::clone(&board), manifest.log_id);
        let store = Store { board, keeper: keeper.clone(), router, log_id, space, _lock: lock };
        Ok(Self { store, shards, report })
    }
}

/// A store: owns the directory, announces epochs and knows which are complete.
/// Cheap to clone; the directory stays locked until the last clone and the
/// last shard are gone.
pub struct Store<S: Storage = FileStorage> {
    board: Arc<EpochBoard>,
    keeper: Option<Arc<Keeper<S>>>,
    router: Router,
    log_id: LogId,
    space: Arc<Space>,
    _lock: Arc<S::Lock>,
}

impl<S: Storage> Clone for Store<S> {
    fn clone(&self) -> Self {
        Self {
            board: Arc::clone(&self.board),
            keeper: self.keeper.clone(),
            router: self.router,
            log_id: self.log_id,
            space: Arc::clone(&self.space),
            _lock: Arc::clone(&self._lock),
        }
    }
}

impl<S: Storage> fmt::Debug for Store<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("log_id", &self.log_id).field("router", &self.router).finish_non_exhaustive()
    }
}

impl<S: Storage> Store<S> {
    /// Identity of the store.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The number of cores.
    #[must_use]
    pub fn cores(&self) -> u16 {
        self.router.cores()
    }

    /// Which core owns which key.
    #[must_use]
    pub fn router(&self) -> Router {
        self.router
    }

    /// The core that owns `key`.
    #[must_use]
    pub fn route(&self, key: &[u8]) -> CoreId {
        self.router.route(key)
    }

    /// Asks all shards to end the current epoch, each at its next poll, sync or
    /// commit. Returns the epoch, which is complete once all of them have and
    /// that is durable: see [`Store::complete_epoch`].
    pub fn announce_epoch(&self) -> Epoch {
        let epoch = self.board.number();
        self.board.announce(epoch);
        epoch
    }

    /// Gives the next epoch its number, for those who tell the shards
    /// themselves when to end it ([`Shard::end_epoch`]).
    pub fn next_epoch(&self) -> Epoch {
        self.board.number()
    }

    /// Says that up to `epoch` no other store holds an epoch back; for stores
    /// whose epochs are [coordinated](crate::Options::coordinated). Of a lower
    /// epoch than before it changes nothing. A checkpoint may be due by it.
    pub fn confirm_epoch(&self, epoch: Epoch) {
        self.board.confirm(epoch);
        if let Some(keeper) = &self.keeper {
            keeper.ended();
        }
    }

    /// The newest epoch whose end is durable on every core, and that has been
    /// [confirmed](Store::confirm_epoch) where that is asked for; 0 if there is
    /// none.
    #[must_use]
    pub fn complete_epoch(&self) -> Epoch {
        self.board.complete()
    }

    /// Makes a checkpoint of the newest complete epoch now, on the calling
    /// thread, and waits for one that is under way. The cores go on meanwhile;
    /// they release what it covers at their next poll, sync or commit. `None`
    /// if no epoch has become complete since the last.
    ///
    /// It counts once the manifest names it. If runs could not be merged behind
    /// that, for want of space or else, [`Store::checkpoint_status`] says why,
    /// and the next one tries again.
    ///
    /// # Errors
    /// [`Error::NotFoldable`]; [`Error::Io`] and [`Error::Damaged`] (a run or
    /// a log that is needed for it): the checkpoints are as they were, nothing
    /// was released.
    pub fn checkpoint(&self) -> Result<Option<CheckpointMade>> {
        self.keeper.as_ref().ok_or(Error::NotFoldable)?.checkpoint()
    }

    /// Moves the newest checkpoint to `cores` cores, whose logs begin at `base`.
    /// Consumes the last handle: what is open is no longer what counts.
    pub(crate) fn reshard(self, cores: u16, base: Lsn) -> Result<u64> {
        self.keeper.as_ref().ok_or(Error::NotFoldable)?.reshard(cores, base)
    }

    /// Bytes that the store's files take: segments in use, made ahead and kept
    /// to be used again, runs, manifests.
    #[must_use]
    pub fn space_used(&self) -> u64 {
        self.space.used()
    }

    /// How the checkpoints are getting on.
    #[must_use]
    pub fn checkpoint_status(&self) -> CheckpointStatus {
        self.keeper.as_ref().map_or_else(CheckpointStatus::default, |keeper| keeper.status())
    }
}
