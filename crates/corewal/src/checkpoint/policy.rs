//! When a checkpoint is made, how many are kept, and which runs are merged.
//! Values and pure decisions.

use std::time::Duration;

use corewal_format::RunRef;

/// One is made for so many bytes of log, unless another number is asked for.
const DEFAULT_BYTES: u64 = 64 << 20;

/// When checkpoints are made on their own, and how many are kept.
///
/// By default one is made for every 64 MiB of log, and the newest is kept. When
/// the last shard and the last [`Store`](crate::Store) go, a quarter of that is
/// enough for one to be made before they are gone, so that the next opening has
/// little to replay. Where it takes less than eight times as much as one is made
/// for, its runs are merged too; those of a larger one wait for the next
/// opening, so that closing takes no longer the larger the state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    pub(crate) bytes: Option<u64>,
    pub(crate) every: Option<Duration>,
    pub(crate) keep: usize,
    pub(crate) keep_for: Duration,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { bytes: Some(DEFAULT_BYTES), every: None, keep: 1, keep_for: Duration::ZERO }
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
    ///
    /// Where the cores write faster than checkpoints can be made, new segments
    /// wait from twice as many bytes on: appending says
    /// [`Error::Full`](crate::Error::Full), or waits, until the checkpoint under
    /// way is made. Without a complete epoch there is none to wait for, and the
    /// logs go on growing.
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
    /// [`Checkpoints::keep`]. (One whose time is as far ahead of the clock was
    /// made by a clock that was wrong, and is not kept for that.)
    #[must_use]
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.keep_for = time;
        self
    }

    /// A checkpoint of so many bytes has its runs merged while the store is
    /// closed. Of a larger one, what waits for the next opening is a small part.
    pub(crate) fn merged_at_close(&self) -> u64 {
        self.bytes.unwrap_or(DEFAULT_BYTES).saturating_mul(8)
    }
}

/// What part of the base all changes may take.
const CHANGES_PART: u64 = 3;

/// Runs of changes that a core's part of a checkpoint has at most.
const CHANGES_MAX: usize = 8;

/// What to do about a core's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compaction {
    Nothing,
    /// Merge the newest so many runs of changes into one.
    Changes(usize),
    /// Merge all changes into the base.
    Base,
}

/// What to do about `runs`, which are in the order of a checkpoint. Sizes of
/// changes grow geometrically towards the oldest, so each byte is rewritten a
/// logarithmic number of times, and all of them together never take more than
/// a third of the base: opening reads and merges them.
pub(crate) fn compaction(runs: &[RunRef]) -> Compaction {
    let (base, changes) = runs.split_at(runs.partition_point(|run| run.level > 0));
    let sum = |runs: &[RunRef], what: fn(&RunRef) -> u64| runs.iter().map(what).sum::<u64>();
    let Some(newest) = changes.last() else { return Compaction::Nothing };
    if sum(changes, |run| run.bytes) > sum(base, |run| run.bytes) / CHANGES_PART
        // Half of the keys are gone.
        || sum(changes, |run| run.deletes) > sum(base, |run| run.puts) / 2
    {
        return Compaction::Base;
    }
    let (mut count, mut bytes) = (1, newest.bytes);
    while count < changes.len() {
        let next = changes[changes.len() - 1 - count].bytes;
        if next > 2 * bytes && changes.len() - count < CHANGES_MAX {
            break;
        }
        bytes += next;
        count += 1;
    }
    if count > 1 { Compaction::Changes(count) } else { Compaction::Nothing }
}

#[cfg(test)]
mod tests {
    use corewal_format::RunId;

    use super::*;

    fn run(level: u8, bytes: u64) -> RunRef {
        RunRef { run: RunId(1), level, bytes, puts: bytes, deletes: 0, crc: 0 }
    }

    fn runs(base: u64, changes: &[u64]) -> Vec<RunRef> {
        std::iter::once(run(1, base)).chain(changes.iter().map(|&bytes| run(0, bytes))).collect()
    }

    #[test]
    fn what_is_merged() {
        for (changes, expected) in [
            (&[] as &[u64], Compaction::Nothing),
            (&[100], Compaction::Nothing),
            (&[333], Compaction::Nothing),
            (&[334], Compaction::Base),
            (&[200, 134], Compaction::Base),
            (&[10, 10], Compaction::Changes(2)),
            (&[40, 10], Compaction::Nothing),
            (&[40, 20], Compaction::Changes(2)),
            (&[100, 10, 5], Compaction::Changes(2)),
            (&[100, 15, 5, 5], Compaction::Changes(3)),
        ] {
            assert_eq!(compaction(&runs(1000, changes)), expected, "{changes:?}");
        }
        assert_eq!(compaction(&[]), Compaction::Nothing);
        assert_eq!(compaction(&[run(0, 5)]), Compaction::Base, "the first becomes the base");
        let mut removed = runs(1000, &[10]);
        removed[1].deletes = 501;
        assert_eq!(compaction(&removed), Compaction::Base, "half of the keys are gone");
    }

    #[test]
    fn space_and_runs_stay_bounded_and_rewriting_is_logarithmic() {
        const BASE: u64 = 1_000_000;
        for size in [1, 7, 100, 100_000] {
            let (mut at_hand, mut rewritten) = (runs(BASE, &[]), 0);
            for _ in 0..3_000 {
                at_hand.push(run(0, size));
                match compaction(&at_hand) {
                    Compaction::Nothing => {}
                    Compaction::Changes(count) => {
                        let merged: u64 = at_hand.drain(at_hand.len() - count..).map(|run| run.bytes).sum();
                        rewritten += merged;
                        at_hand.push(run(0, merged));
                    }
                    // The same keys over and over: the base stays as large.
                    Compaction::Base => {
                        rewritten += BASE;
                        at_hand = runs(BASE, &[]);
                    }
                }
                let bytes: u64 = at_hand.iter().map(|run| run.bytes).sum();
                assert!(bytes <= BASE * 4 / 3 + size && at_hand.len() <= CHANGES_MAX + 2, "{}", at_hand.len());
            }
            assert!(rewritten < 3_000 * size * 15, "each byte of {size} rewritten {} times", rewritten / size / 3_000);
        }
    }
}
