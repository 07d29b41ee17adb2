//! One simulated file: what readers see, what the medium has, and the changes
//! between the two.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::content::Content;
use crate::BLOCK_SIZE;

/// The unit, in bytes, in which the medium keeps or loses what was written.
pub(super) const SECTOR: usize = 512;

/// A completed change that no sync has made durable yet.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// When it completed, in the disk's order of completions.
    pub(super) sequence: u64,
    pub(super) kind: ChangeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// `set_len` to no less than the length then.
    Grow(u64),
    /// `set_len` to less than the length then.
    Cut(u64),
}

impl ChangeKind {
    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, bytes } => content.write(*offset, bytes),
            Self::Grow(len) => content.grow(*len),
            Self::Cut(len) => content.cut(*len),
        }
    }
}

/// A simulated file.
///
/// `pending` is in order of completion. After a failed sync `cache` and
/// `durable` may differ although nothing is pending: those bytes look written
/// and no sync will ever write them.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub(super) cache: Content,
    pub(super) durable: Content,
    pub(super) pending: Vec<Change>,
}

impl FileNode {
    /// A file that the medium already has.
    pub(super) fn settled(content: Content) -> Self {
        Self { cache: content.clone(), durable: content, pending: Vec::new() }
    }

    /// A change reaches the cache.
    pub(super) fn change(&mut self, sequence: u64, kind: ChangeKind) {
        debug_assert!(self.pending.last().is_none_or(|last| last.sequence < sequence));
        kind.apply(&mut self.cache);
        self.pending.push(Change { sequence, kind });
    }

    /// `set_len`, in the cache.
    pub(super) fn set_len(&mut self, sequence: u64, len: u64) {
        let cut = len < self.cache.len();
        let kind = if cut { ChangeKind::Cut(len) } else { ChangeKind::Grow(len) };
        self.change(sequence, kind);
        assert_eq!(self.cache.len(), len);
    }

    /// A write that is durable when it completes, and the length it needs.
    /// Nothing else becomes durable, except an older cut that the write goes
    /// beyond: a journal writes lengths in order, and without the cut the
    /// bytes would lie in a file that still had its old end.
    pub(super) fn write_durably(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        self.settle_cuts_before(end);
        // The page has one content: what is pending for these bytes is gone.
        for change in &mut self.pending {
            debug_assert!(!matches!(change.kind, ChangeKind::Cut(len) if len < end));
        }
        self.drop_pending(offset, end, u64::MAX);
        self.cache.write(offset, bytes);
        self.durable.write(offset, bytes);
        assert!(self.durable.len() >= end);
    }

    /// Makes durable the pending changes of length up to the last cut below
    /// `end`.
    fn settle_cuts_before(&mut self, end: u64) {
        let cut_below = |change: &Change| matches!(change.kind, ChangeKind::Cut(len) if len < end);
        let Some(last) = self.pending.iter().rposition(cut_below) else {
            return;
        };
        let last = self.pending[last].sequence;
        let lengths: Vec<Change> = self
            .pending
            .extract_if(.., |change| change.sequence <= last && !matches!(change.kind, ChangeKind::Write { .. }))
            .collect();
        for change in lengths {
            change.kind.apply(&mut self.durable);
            if let ChangeKind::Cut(len) = change.kind {
                // Pages beyond a cut are thrown away, not written.
                self.drop_pending(len, u64::MAX, change.sequence);
            }
        }
    }

    /// Takes the bytes `start..end` out of the pending writes older than
    /// `before`.
    fn drop_pending(&mut self, start: u64, end: u64, before: u64) {
        let mut kept = Vec::with_capacity(self.pending.len());
        for change in self.pending.drain(..) {
            let ChangeKind::Write { offset, bytes } = &change.kind else {
                kept.push(change);
                continue;
            };
            let write_end = offset + bytes.len() as u64;
            if change.sequence >= before || write_end <= start || *offset >= end {
                kept.push(change);
                continue;
            }
            for (from, to) in [(*offset, start), (end, write_end)] {
                if from < to {
                    kept.push(Change {
                        sequence: change.sequence,
                        kind: ChangeKind::Write {
                            offset: from,
                            bytes: bytes[index(from - offset)..index(to - offset)].into(),
                        },
                    });
                }
            }
        }
        self.pending = kept;
    }

    /// The pending changes that had completed by `upto`, taken out.
    pub(super) fn take_covered(&mut self, upto: u64) -> Vec<Change> {
        let covered = self.pending.partition_point(|change| change.sequence <= upto);
        self.pending.drain(..covered).collect()
    }

    /// A sync: what had completed by `upto` becomes durable, nothing else.
    pub(super) fn sync(&mut self, upto: u64) {
        for change in self.take_covered(upto) {
            change.kind.apply(&mut self.durable);
        }
        debug_assert!(self.pending.iter().all(|change| change.sequence > upto));
    }

    /// A failed sync after which the system threw the dirty pages away.
    pub(super) fn drop_pages(&mut self, upto: u64) {
        drop(self.take_covered(upto));
        self.cache = self.durable.clone();
        for change in &self.pending {
            change.kind.apply(&mut self.cache);
        }
    }

    /// A failed sync after which the pages look clean though the medium never
    /// got them.
    pub(super) fn forget_pages(&mut self, upto: u64) {
        drop(self.take_covered(upto));
    }

    /// A failed sync that had written a part, chosen by `rng`, sector by
    /// sector; the rest looks clean.
    pub(super) fn sync_half(&mut self, upto: u64, rng: &mut fastrand::Rng) {
        self.write_half(upto, rng);
    }

    /// As [`FileNode::sync_half`], and the system threw some of the pages away,
    /// also chosen by `rng`, and kept the others.
    pub(super) fn mix_pages(&mut self, upto: u64, rng: &mut fastrand::Rng) {
        let page = BLOCK_SIZE as u64;
        for number in self.write_half(upto, rng) {
            let start = number * page;
            let len = index(self.cache.len().saturating_sub(start).min(page));
            if rng.bool() {
                let mut old = vec![0; len];
                self.durable.read(start, &mut old);
                self.cache.write(start, &old);
            }
        }
        for change in &self.pending {
            change.kind.apply(&mut self.cache);
        }
    }

    /// Writes some of the sectors that had completed by `upto`, and gives the
    /// numbers of all pages of which there were any. None is pending any more.
    fn write_half(&mut self, upto: u64, rng: &mut fastrand::Rng) -> BTreeSet<u64> {
        let mut pages = BTreeSet::new();
        for change in self.take_covered(upto) {
            let ChangeKind::Write { offset, bytes } = &change.kind else {
                if rng.bool() {
                    change.kind.apply(&mut self.durable);
                }
                continue;
            };
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                let position = offset + (number * SECTOR) as u64;
                pages.insert(position / BLOCK_SIZE as u64);
                if rng.bool() {
                    self.durable.write(position, sector);
                }
            }
        }
        pages
    }
}

/// A position inside a buffer that exists, so it fits.
fn index(position: u64) -> usize {
    usize::try_from(position).expect("inside a buffer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    fn write(block: u64, byte: u8) -> ChangeKind {
        ChangeKind::Write { offset: block * BLOCK, bytes: vec![byte; 4096].into() }
    }

    fn blocks(content: &Content) -> Vec<u8> {
        content.to_vec().chunks(4096).map(|block| block[0]).collect()
    }

    #[test]
    fn a_sync_makes_durable_what_had_completed_by_its_sequence() {
        let mut file = FileNode::default();
        file.change(1, write(0, 1));
        file.change(2, write(1, 2));
        file.change(3, write(0, 3));
        file.sync(2);
        assert_eq!(blocks(&file.durable), [1, 2]);
        assert_eq!(blocks(&file.cache), [3, 2]);
        file.sync(3);
        assert_eq!(blocks(&file.durable), [3, 2]);
    }

    #[test]
    fn a_durable_write_replaces_what_was_pending_for_its_bytes() {
        let mut file = FileNode::default();
        file.change(1, ChangeKind::Write { offset: 0, bytes: vec![1; 3 * 4096].into() });
        file.write_durably(BLOCK, &[2; 4096]);
        assert_eq!(blocks(&file.durable), [0, 2]);
        file.sync(1);
        assert_eq!(blocks(&file.durable), [1, 2, 1]);
        assert_eq!(blocks(&file.cache), [1, 2, 1]);
    }

    #[test]
    fn a_durable_write_leaves_an_older_growth_pending() {
        let mut file = FileNode::default();
        file.set_len(1, 8 * BLOCK);
        file.write_durably(0, &[1; 4096]);
        assert_eq!(file.durable.len(), BLOCK);
        assert_eq!(file.cache.len(), 8 * BLOCK);
        file.sync(1);
        assert_eq!(file.durable.len(), 8 * BLOCK);
    }

    #[test]
    fn a_durable_write_beyond_an_older_cut_makes_the_cut_durable() {
        let mut file = FileNode::settled(Content::from_bytes(&[9; 4 * 4096]));
        file.change(1, write(3, 8));
        file.set_len(2, 0);
        file.write_durably(BLOCK, &[1; 4096]);
        assert_eq!(blocks(&file.durable), [0, 1]);
        file.sync(2);
        assert_eq!(blocks(&file.durable), [0, 1]);
        assert_eq!(blocks(&file.cache), [0, 1]);
    }

    #[test]
    fn an_older_cut_beyond_the_durable_write_stays_pending() {
        let mut file = FileNode::settled(Content::from_bytes(&[9; 4 * 4096]));
        file.set_len(1, BLOCK);
        file.write_durably(0, &[1; 4096]);
        assert_eq!(blocks(&file.durable), [1, 9, 9, 9]);
        file.sync(1);
        assert_eq!(blocks(&file.durable), [1]);
    }

    #[test]
    fn dropped_pages_leave_only_what_completed_after_the_sync_was_submitted() {
        let mut file = FileNode::settled(Content::from_bytes(&[9; 4096]));
        file.change(1, write(0, 1));
        file.change(2, write(1, 2));
        file.drop_pages(1);
        assert_eq!(blocks(&file.cache), [9, 2]);
        file.sync(2);
        assert_eq!(blocks(&file.durable), [9, 2]);
    }

    #[test]
    fn forgotten_pages_are_read_but_never_written() {
        let mut file = FileNode::default();
        file.change(1, write(0, 1));
        file.forget_pages(1);
        file.sync(u64::MAX);
        assert_eq!(blocks(&file.cache), [1]);
        assert_eq!(file.durable.len(), 0);
    }

    #[test]
    fn mixed_pages_are_some_new_and_some_old_and_what_came_later_is_seen() {
        let mut file = FileNode::settled(Content::from_bytes(&[9; 16 * 4096]));
        for block in 0..16 {
            file.change(block + 1, write(block, 1));
        }
        file.change(17, write(3, 2));
        file.mix_pages(16, &mut fastrand::Rng::with_seed(1));
        let cache = file.cache.to_vec();
        assert!(cache.len() == 16 * 4096 && blocks(&file.cache)[3] == 2);
        let new = cache.chunks(4096).filter(|page| page.iter().all(|byte| *byte == 1)).count();
        let old = cache.chunks(4096).filter(|page| page.contains(&9)).count();
        assert!(new > 2 && old > 2 && new + old == 15, "{new} new, {old} old");
        assert!(file.durable.to_vec().contains(&1) && file.durable.to_vec().contains(&9));
        assert_eq!(file.pending.len(), 1);
    }

    #[test]
    fn half_a_sync_writes_some_sectors_and_not_others() {
        let mut file = FileNode::default();
        for block in 0..4 {
            file.change(block + 1, write(block, 1));
        }
        file.sync_half(4, &mut fastrand::Rng::with_seed(1));
        let durable = file.durable.to_vec();
        let kept = durable.chunks(SECTOR).filter(|sector| sector[0] == 1).count();
        assert!(kept > 0 && kept < 4 * 4096 / SECTOR, "{kept}");
        assert!(file.pending.is_empty());
    }
}
