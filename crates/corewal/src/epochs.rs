//! Which epochs are asked for, ended and complete: the only thing the cores of
//! a store share while it runs. A few atomics, touched once an epoch.

use std::sync::atomic::{AtomicU64, Ordering};

use corewal_format::{CoreId, Epoch};

/// What `ended` of a parked core says: it holds no epoch back.
const PARKED: u64 = u64::MAX;

/// The board on which the store announces epochs and the shards report theirs.
#[derive(Debug)]
pub(crate) struct EpochBoard {
    /// The newest epoch that shards end on their own at their next poll.
    announced: AtomicU64,
    /// The newest epoch that anybody has given a number to.
    highest: AtomicU64,
    /// By core: the newest epoch whose end is durable.
    ended: Box<[AtomicU64]>,
}

impl EpochBoard {
    /// A board on which `current` is the first epoch not ended.
    pub(crate) fn new(current: Epoch, ended: impl Iterator<Item = Epoch>) -> Self {
        let before = current.0 - 1;
        Self {
            announced: AtomicU64::new(before),
            highest: AtomicU64::new(before),
            ended: ended.map(|epoch| AtomicU64::new(epoch.0)).collect(),
        }
    }

    /// Gives the next epoch its number.
    pub(crate) fn number(&self) -> Epoch {
        Epoch(self.highest.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Notes that somebody uses `epoch`.
    pub(crate) fn used(&self, epoch: Epoch) {
        self.highest.fetch_max(epoch.0, Ordering::AcqRel);
    }

    pub(crate) fn highest(&self) -> Epoch {
        Epoch(self.highest.load(Ordering::Acquire))
    }

    pub(crate) fn announce(&self, epoch: Epoch) {
        self.announced.fetch_max(epoch.0, Ordering::AcqRel);
    }

    pub(crate) fn announced(&self) -> Epoch {
        Epoch(self.announced.load(Ordering::Acquire))
    }

    /// The end of `epoch` is durable in a core's log.
    pub(crate) fn ended(&self, core: CoreId, epoch: Epoch) {
        self.ended[core.index()].store(epoch.0, Ordering::Release);
    }

    pub(crate) fn parked(&self, core: CoreId) {
        self.ended[core.index()].store(PARKED, Ordering::Release);
    }

    /// The newest epoch whose end is durable on every core; 0 if there is none.
    pub(crate) fn complete(&self) -> Epoch {
        let slowest = self.ended.iter().map(|ended| ended.load(Ordering::Acquire)).min();
        Epoch(slowest.unwrap_or(0).min(self.highest.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_is_what_the_slowest_has_ended_and_the_parked_do_not_count() {
        let board = EpochBoard::new(Epoch(4), [Epoch(3), Epoch(3)].into_iter());
        assert_eq!(board.complete(), Epoch(3));
        let epoch = board.number();
        assert_eq!(epoch, Epoch(4));
        board.ended(CoreId(0), epoch);
        assert_eq!(board.complete(), Epoch(3));
        board.parked(CoreId(1));
        assert_eq!(board.complete(), Epoch(4));
        board.parked(CoreId(0));
        assert_eq!(board.complete(), Epoch(4), "never more than has been given a number");
    }
}
