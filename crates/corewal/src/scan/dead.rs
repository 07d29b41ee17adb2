//! The parts of a log that rollbacks took back.

use corewal_format::Lsn;

/// Ranges of positions whose records do not count; ascending and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeadRanges {
    ranges: Vec<(Lsn, Lsn)>,
}

impl DeadRanges {
    /// The records from `from` up to `to` do not count. `to` is never below the
    /// end of an earlier range: rollbacks come in log order.
    pub(crate) fn add(&mut self, from: Lsn, to: Lsn) {
        let mut from = from.min(to);
        while let Some(last) = self.ranges.last() {
            if last.1 < from {
                break;
            }
            from = from.min(last.0);
            self.ranges.pop();
        }
        self.ranges.push((from, to));
    }

    pub(crate) fn contains(&self, lsn: Lsn) -> bool {
        let next = self.ranges.partition_point(|range| range.0 <= lsn);
        next > 0 && lsn < self.ranges[next - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_rollback_swallows_what_it_reaches_over() {
        let mut dead = DeadRanges::default();
        dead.add(Lsn(500), Lsn(1000));
        dead.add(Lsn(1500), Lsn(2000));
        assert_eq!(dead.ranges.len(), 2);
        dead.add(Lsn(700), Lsn(3000));
        assert_eq!(dead.ranges, [(Lsn(500), Lsn(3000))]);
        for (lsn, expected) in [(499, false), (500, true), (2999, true), (3000, false)] {
            assert_eq!(dead.contains(Lsn(lsn)), expected, "{lsn}");
        }
    }
}
