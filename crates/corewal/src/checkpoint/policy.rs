//! When a checkpoint is made, how many are kept, and which runs are merged.
//! Values and pure decisions.

use std::time::Duration;

use corewal_format::RunRef;

/// When checkpoints are made on their own, and how many are kept.
///
/// By default one is made for every 64 MiB of log, and the newest is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    pub(crate) bytes: Option<u64>,
    pub(crate) every: Option<Duration>,
    pub(crate) keep: usize,
    pub(crate) keep_for: Duration,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { bytes: Some(64 << 20), every: None, keep: 1, keep_for: Duration::ZERO }
    }
}

impl Checkpoints {
    /// None on their own, only by [`Store::checkpoint`](crate::Store::checkpoint);
    /// the newest is kept.
    #[must_use]
    pub fn manual() -> Self {
        Self { bytes: None, ..Self::default() }
    }

    /// One when the logs of all cores together have grown by so many bytes
    /// since the last, at the next complete epoch.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// One when the last is so old, at the next complete epoch.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = Some(time);
        self
    }

    /// Keeps the newest `count` checkpoints, at least one, and the logs from
    /// the oldest of them on: if the newest is damaged, opening takes the one
    /// before it and loses nothing. What they have in common is kept once.
    #[must_use]
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// Keeps checkpoints that are younger than `time` beyond those of
    /// [`Checkpoints::keep`].
    #[must_use]
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.keep_for = time;
        self
    }
}

/// Runs that a core's part of a checkpoint consists of at most.
const RUNS_MAX: usize = 8;

/// How many of the newest of `runs` (oldest first) to merge into one: 0 for
/// none. Sizes then grow geometrically towards the oldest, so each byte is
/// rewritten a logarithmic number of times, and what is newer than the oldest
/// run never takes more than half of its size.
pub(crate) fn to_merge(runs: &[RunRef]) -> usize {
    let Some((oldest, newer)) = runs.split_first() else { return 0 };
    let changed: u64 = newer.iter().map(|run| run.bytes).sum();
    let removed: u64 = newer.iter().map(|run| run.deletes).sum();
    // Half as large, or half of its keys are gone.
    if !newer.is_empty() && (changed > oldest.bytes / 2 || removed > oldest.puts / 2) {
        return runs.len();
    }
    let mut count = 1;
    let mut bytes = runs[runs.len() - 1].bytes;
    while count < newer.len() {
        let next = newer[newer.len() - 1 - count].bytes;
        if next > 2 * bytes && newer.len() - count < RUNS_MAX {
            break;
        }
        bytes += next;
        count += 1;
    }
    if count > 1 { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use corewal_format::RunId;

    use super::*;

    fn runs(sizes: &[u64]) -> Vec<RunRef> {
        sizes.iter().map(|&bytes| RunRef { run: RunId(1), bytes, puts: bytes, deletes: 0, crc: 0 }).collect()
    }

    #[test]
    fn which_runs_are_merged() {
        for (sizes, expected) in [
            (&[] as &[u64], 0),
            (&[100], 0),
            (&[100, 10], 0),
            (&[100, 51], 2),
            (&[100, 30, 21], 3),
            (&[1000, 10, 10], 2),
            (&[1000, 40, 10], 0),
            (&[1000, 40, 20], 2),
            (&[1000, 100, 10, 5], 2),
            (&[1000, 100, 15, 5, 5], 3),
        ] {
            assert_eq!(to_merge(&runs(sizes)), expected, "{sizes:?}");
        }
        let mut removed = runs(&[1000, 10]);
        removed[1].deletes = 501;
        assert_eq!(to_merge(&removed), 2, "half of the keys are gone");
    }

    #[test]
    fn space_and_runs_stay_bounded_and_rewriting_is_logarithmic() {
        for size in [1, 7, 100, 100_000] {
            let (mut at_hand, mut rewritten) = (runs(&[1_000_000]), 0);
            for _ in 0..3_000 {
                at_hand.extend(runs(&[size]));
                let count = to_merge(&at_hand);
                if count > 0 {
                    let merged: u64 = at_hand.drain(at_hand.len() - count..).map(|run| run.bytes).sum();
                    // The same keys over and over: what is whole stays as large.
                    let merged = if at_hand.is_empty() { 1_000_000 } else { merged };
                    rewritten += merged;
                    at_hand.extend(runs(&[merged]));
                }
                let bytes: u64 = at_hand.iter().map(|run| run.bytes).sum();
                assert!(bytes <= 1_500_000 + size && at_hand.len() <= RUNS_MAX + 2, "{}", at_hand.len());
            }
            assert!(rewritten < 3_000 * size * 15, "each byte of {size} rewritten {} times", rewritten / size / 3_000);
        }
    }
}
