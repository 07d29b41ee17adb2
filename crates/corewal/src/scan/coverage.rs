//! Which epochs a core's log has ended.

use corewal_format::{Epoch, Record};

/// The epochs that count as ended in one core's log: by a barrier, or because
/// the core was parked. Kept as ranges, so it grows with the number of gaps
/// (openings and rollbacks), not with the number of epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Ascending, disjoint, both ends included.
    ranges: Vec<(u64, u64)>,
    /// The newest epoch that something names within a range that is left open.
    named: u64,
}

/// The end of a range that a parked core leaves open.
const OPEN_END: u64 = u64::MAX;

impl Coverage {
    /// What a record says of epochs; `current` is the current one before it.
    #[inline(always)]
    pub(crate) fn take(&mut self, current: Epoch, record: &Record<'_>) {
        match *record {
            Record::Barrier { epoch, .. } => self.ended(current, epoch),
            Record::Park { epoch } => self.parked(epoch),
            Record::Unpark { epoch } | Record::Open { epoch } => self.resumed(epoch),
            Record::Rollback { epoch, .. } => self.cut_after(epoch),
            Record::Release { epoch, .. } if epoch.0 > 0 => self.released(epoch),
            _ => {}
        }
    }

    /// `epoch` ended, and with it all from `current` on.
    fn ended(&mut self, current: Epoch, epoch: Epoch) {
        self.push(current.0.min(epoch.0), epoch.0);
        self.named = epoch.0;
    }

    /// The core was parked: `epoch` and all that follow do not wait for it.
    fn parked(&mut self, epoch: Epoch) {
        self.push(epoch.0, OPEN_END);
        self.named = epoch.0;
    }

    /// The core takes part again from `epoch` on.
    fn resumed(&mut self, epoch: Epoch) {
        if self.ranges.last().is_some_and(|range| range.1 == OPEN_END) {
            self.cut_after(Epoch(epoch.0.saturating_sub(1)));
        }
    }

    /// `epoch` ended in a part of the log that has been released.
    fn released(&mut self, epoch: Epoch) {
        if self.newest_up_to(epoch) != epoch {
            self.ranges.push((epoch.0, epoch.0));
            self.ranges.sort_unstable();
        }
    }

    /// No epoch after `epoch` counts as ended.
    fn cut_after(&mut self, epoch: Epoch) {
        self.ranges.retain_mut(|range| {
            range.1 = range.1.min(epoch.0);
            range.0 <= range.1
        });
    }

    /// The newest epoch not after `limit` that counts as ended; 0 if none.
    pub(crate) fn newest_up_to(&self, limit: Epoch) -> Epoch {
        let range = self.ranges.iter().rev().find(|range| range.0 <= limit.0);
        range.map_or(Epoch(0), |range| Epoch(range.1.min(limit.0)))
    }

    /// The newest epoch that something in the log names as ended.
    pub(crate) fn newest_named(&self) -> Epoch {
        let range = self.ranges.last();
        range.map_or(Epoch(0), |&(_, last)| Epoch(if last == OPEN_END { self.named } else { last }))
    }

    fn push(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last);
        match self.ranges.last_mut() {
            Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
            _ => self.ranges.push((first, last)),
        }
    }
}

/// The newest epoch, not after `limit`, that every core has ended; 0 if there
/// is none.
pub(crate) fn newest_common<'a>(cores: impl Iterator<Item = &'a Coverage> + Clone, limit: Epoch) -> Epoch {
    let mut epoch = cores.clone().map(Coverage::newest_named).max().unwrap_or(Epoch(0)).min(limit);
    loop {
        let common = cores.clone().map(|core| core.newest_up_to(epoch)).min().unwrap_or(Epoch(0));
        if common == epoch {
            return epoch;
        }
        debug_assert!(common < epoch, "the search only goes down");
        epoch = common;
    }
}

#[cfg(test)]
mod tests {
    use corewal_format::MAX_EPOCH;

    use super::*;

    fn barriers(epochs: &[u64]) -> Coverage {
        let mut coverage = Coverage::default();
        for &epoch in epochs {
            coverage.ended(Epoch(epoch), Epoch(epoch));
        }
        coverage
    }

    fn common(cores: &[Coverage]) -> u64 {
        newest_common(cores.iter(), MAX_EPOCH).0
    }

    #[test]
    fn complete_is_what_the_slowest_core_has_ended() {
        assert_eq!(common(&[barriers(&[1, 2, 3]), barriers(&[1, 2])]), 2);
        assert_eq!(common(&[barriers(&[1, 2, 3]), barriers(&[])]), 0);
    }

    #[test]
    fn an_epoch_that_one_core_never_ended_is_not_complete_though_it_ended_later_ones() {
        // Core 1 went from 2 to 4 over a reopening; 3 stands on core 0 alone.
        assert_eq!(common(&[barriers(&[1, 2, 3]), barriers(&[1, 2, 4])]), 2);
    }

    #[test]
    fn a_late_barrier_ends_what_it_skipped() {
        let mut late = barriers(&[1]);
        late.ended(Epoch(2), Epoch(4));
        assert_eq!(common(&[barriers(&[1, 2, 3]), late]), 3);
    }

    #[test]
    fn a_parked_core_holds_no_epoch_back_until_it_takes_part_again() {
        let mut parked = barriers(&[1]);
        parked.parked(Epoch(2));
        assert_eq!(common(&[barriers(&[1, 2, 3, 4]), parked.clone()]), 4);
        parked.resumed(Epoch(4));
        assert_eq!(common(&[barriers(&[1, 2, 3, 4]), parked]), 3);
    }

    #[test]
    fn a_rollback_takes_back_what_ended_after_it() {
        let mut core = barriers(&[1, 2, 3]);
        core.cut_after(Epoch(2));
        assert_eq!(core.ranges, barriers(&[1, 2]).ranges);
        core.cut_after(Epoch(0));
        assert_eq!(core.newest_named(), Epoch(0));
    }

    #[test]
    fn all_parked_means_the_newest_epoch_any_of_them_names() {
        let mut first = Coverage::default();
        first.parked(Epoch(3));
        let mut second = Coverage::default();
        second.parked(Epoch(5));
        assert_eq!(common(&[first, second]), 5);
    }

    #[test]
    fn parking_behind_a_barrier_does_not_forget_the_barrier() {
        // The crash loop found it: with all cores parked, the newest epoch was
        // taken from the beginning of the range that the barrier had begun.
        let mut core = barriers(&[1, 2, 3]);
        core.parked(Epoch(4));
        assert_eq!(core.newest_named(), Epoch(4));
        assert_eq!(common(&[core.clone(), core]), 4);
    }
}
