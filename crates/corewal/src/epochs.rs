//! Which epochs are asked for, ended and complete: the only thing the cores of
//! a store share while it runs. A few atomics, touched once an epoch.

use corewal_format::{CoreId, Epoch, Lsn};

use crate::sync::{AtomicU64, Ordering};

/// Set in `ended` of a parked core: it holds no epoch back.
const PARKED: u64 = 1 << 63;

/// The board on which the store announces epochs and the shards report theirs.
#[derive(Debug)]
pub(crate) struct EpochBoard {
    /// The newest epoch that shards end on their own at their next poll.
    announced: AtomicU64,
    /// The newest epoch that anybody has given a number to.
    highest: AtomicU64,
    /// By core: the newest epoch whose end is durable.
    ended: Box<[AtomicU64]>,
    /// By core: no checkpoint needs what stands below in its log.
    floors: Box<[AtomicU64]>,
    /// The newest epoch that anybody was told is complete. It stays so, also
    /// while a core that takes part again is not sure of its first epoch yet.
    complete: AtomicU64,
    /// No epoch behind this one is complete, whatever the cores have ended:
    /// others have a say in it.
    confirmed: AtomicU64,
}

impl EpochBoard {
    /// A board on which `current` is the first epoch not ended, and `confirmed`
    /// the last that can be complete before others confirm more.
    pub(crate) fn new(current: Epoch, ended: impl Iterator<Item = Epoch>, confirmed: Epoch) -> Self {
        let before = current.0 - 1;
        let ended: Box<[_]> = ended.map(|epoch| AtomicU64::new(epoch.0)).collect();
        Self {
            announced: AtomicU64::new(before),
            highest: AtomicU64::new(before),
            floors: ended.iter().map(|_| AtomicU64::new(0)).collect(),
            ended,
            complete: AtomicU64::new(0),
            confirmed: AtomicU64::new(confirmed.0),
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

    /// What stands in a core's log below `lsn` may be released.
    pub(crate) fn may_release(&self, core: CoreId, lsn: Lsn) {
        self.floors[core.index()].store(lsn.0, Ordering::Release);
    }

    pub(crate) fn floor(&self, core: CoreId) -> Lsn {
        Lsn(self.floors[core.index()].load(Ordering::Acquire))
    }

    pub(crate) fn parked(&self, core: CoreId) {
        self.ended[core.index()].fetch_or(PARKED, Ordering::AcqRel);
    }

    /// Epochs wait for the core again, from the one after its last on.
    pub(crate) fn resumed(&self, core: CoreId) {
        self.ended[core.index()].fetch_and(!PARKED, Ordering::AcqRel);
    }

    /// Up to `epoch` nobody else holds an epoch back.
    pub(crate) fn confirm(&self, epoch: Epoch) {
        self.confirmed.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// The newest epoch whose end is durable on every core that takes part; 0
    /// if there is none. If none takes part, the newest that one of them ended:
    /// an epoch that stands in no log would be forgotten by the next open.
    pub(crate) fn complete(&self) -> Epoch {
        let (mut slowest, mut newest) = (None, 0);
        for ended in &self.ended {
            let ended = ended.load(Ordering::Acquire);
            newest = newest.max(ended & !PARKED);
            if ended & PARKED == 0 {
                slowest = Some(slowest.map_or(ended, |slowest: u64| slowest.min(ended)));
            }
        }
        let most = self.highest.load(Ordering::Acquire).min(self.confirmed.load(Ordering::Acquire));
        let complete = slowest.unwrap_or(newest).min(most);
        Epoch(self.complete.fetch_max(complete, Ordering::AcqRel).max(complete))
    }
}

#[cfg(test)]
mod tests {
    use corewal_format::MAX_EPOCH;

    use super::*;

    #[test]
    fn complete_is_what_the_slowest_has_ended_and_the_parked_do_not_count() {
        let board = EpochBoard::new(Epoch(4), [Epoch(3), Epoch(3)].into_iter(), MAX_EPOCH);
        assert_eq!(board.complete(), Epoch(3));
        let epoch = board.number();
        assert_eq!(epoch, Epoch(4));
        board.ended(CoreId(0), epoch);
        assert_eq!(board.complete(), Epoch(3));
        board.parked(CoreId(1));
        assert_eq!(board.complete(), Epoch(4));
        board.parked(CoreId(0));
        assert_eq!(board.complete(), Epoch(4));
    }

    #[test]
    fn an_epoch_that_stands_in_no_log_is_not_complete() {
        // The crash loop found it: with all cores parked every number given was
        // called complete, and the next open knew nothing of it.
        let board = EpochBoard::new(Epoch(4), [Epoch(3), Epoch(3)].into_iter(), MAX_EPOCH);
        board.parked(CoreId(0));
        board.parked(CoreId(1));
        board.number();
        assert_eq!(board.complete(), Epoch(3));
    }

    #[test]
    fn what_was_complete_stays_so_while_a_core_takes_part_again() {
        let board = EpochBoard::new(Epoch(4), [Epoch(3), Epoch(3)].into_iter(), MAX_EPOCH);
        board.parked(CoreId(1));
        board.ended(CoreId(0), board.number());
        assert_eq!(board.complete(), Epoch(4));
        board.resumed(CoreId(1));
        assert_eq!(board.complete(), Epoch(4));
    }

    #[test]
    fn no_epoch_is_complete_before_it_is_confirmed() {
        let board = EpochBoard::new(Epoch(4), [Epoch(3)].into_iter(), Epoch(3));
        board.ended(CoreId(0), board.number());
        board.ended(CoreId(0), board.number());
        assert_eq!(board.complete(), Epoch(3));
        board.confirm(Epoch(4));
        assert_eq!(board.complete(), Epoch(4));
        board.confirm(Epoch(9));
        assert_eq!(board.complete(), Epoch(5));
    }
}
