//! Where the power is cut, and what of the writes that no flush had covered is
//! on the disk then.

use std::ops::Range;

use crate::log::{Entry, SECTOR};

/// The disk writes blocks of so many bytes whole: file systems need that of
/// their superblocks. Blocks torn at any 8 bytes are the simulated disk's part.
const BLOCK: u64 = 4096 / SECTOR;

/// The time from the completion of a flush to just before that of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The entries before this one are durable. It is the flush itself.
    pub(crate) durable: usize,
    /// The power is cut before this one.
    pub(crate) end: usize,
}

/// All of a record; behind the last flush as well.
pub(crate) fn windows(entries: &[Entry]) -> Vec<Window> {
    let flushes = entries.iter().enumerate().filter(|(_, entry)| entry.flushes()).map(|(at, _)| at);
    let mut borders: Vec<_> = std::iter::once(0).chain(flushes).chain([entries.len()]).collect();
    borders.dedup();
    borders.windows(2).map(|pair| Window { durable: pair[0], end: pair[1] }).collect()
}

impl Window {
    /// The writes below `limit` bytes of the disk that may be lost.
    pub(crate) fn pending(&self, entries: &[Entry], limit: u64) -> Vec<usize> {
        (self.durable..self.end)
            .filter(|at| entries[*at].sectors > 0 && !entries[*at].forced() && entries[*at].offset() < limit)
            .collect()
    }

    /// The writes below `limit` that were durable by themselves.
    pub(crate) fn forced(&self, entries: &[Entry], limit: u64) -> impl Iterator<Item = usize> {
        (self.durable..self.end).filter(move |at| entries[*at].forced() && entries[*at].offset() < limit)
    }
}

/// A part of a write, in sectors of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    /// The entry.
    pub(crate) entry: usize,
    /// Which of its sectors.
    pub(crate) sectors: Range<u64>,
}

/// How it was chosen what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// Nothing.
    Nothing,
    /// What completed first.
    Prefix,
    /// All but one write.
    OneMissing,
    /// One write.
    OneAlone,
    /// Each with an even chance.
    Random,
    /// As before, and of one write only some blocks.
    Torn,
}

/// Chooses among `pending`; `None` if the choice is all of them, whole: the
/// next window keeps that at least.
pub(crate) fn choose(entries: &[Entry], pending: &[usize], random: &mut fastrand::Rng) -> Option<(Kept, Vec<Piece>)> {
    let whole = |at: &usize| Piece { entry: *at, sectors: 0..entries[*at].sectors };
    if pending.is_empty() {
        return Some((Kept::Nothing, Vec::new()));
    }
    let one = pending[random.usize(0..pending.len())];
    let kept = match random.u8(0..16) {
        0 => Kept::Nothing,
        1..=3 => Kept::Prefix,
        4..=6 => Kept::OneMissing,
        7..=8 => Kept::OneAlone,
        9..=11 => Kept::Random,
        _ => Kept::Torn,
    };
    let lost = random.u8(0..4);
    let chosen: Vec<Piece> = pending
        .iter()
        .filter(|at| match kept {
            Kept::Nothing => false,
            Kept::Prefix => **at < one,
            Kept::OneMissing => **at != one,
            Kept::OneAlone => **at == one,
            Kept::Random => random.bool(),
            Kept::Torn => **at == one || random.u8(0..4) >= lost,
        })
        .map(whole)
        .collect();
    if kept == Kept::Torn {
        return Some((kept, tear(&entries[one], one, chosen, random)));
    }
    (chosen.len() < pending.len()).then_some((kept, chosen))
}

/// Leaves of the write `torn` some blocks and not all: its first ones, or any.
fn tear(entry: &Entry, torn: usize, chosen: Vec<Piece>, random: &mut fastrand::Rng) -> Vec<Piece> {
    let blocks = blocks(entry);
    let (first, border) = (random.bool(), random.usize(0..blocks.len()));
    let mut left = Vec::new();
    for piece in chosen {
        if piece.entry != torn {
            left.push(piece);
            continue;
        }
        for (at, sectors) in blocks.iter().enumerate() {
            if if first { at < border } else { at != border && random.bool() } {
                left.push(Piece { entry: torn, sectors: sectors.clone() });
            }
        }
    }
    left
}

/// The sectors of a write, by the blocks of the disk.
fn blocks(entry: &Entry) -> Vec<Range<u64>> {
    let mut blocks = Vec::new();
    let mut from = 0;
    while from < entry.sectors {
        let to = ((entry.sector + from) / BLOCK * BLOCK + BLOCK - entry.sector).min(entry.sectors);
        blocks.push(from..to);
        from = to;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn a_window_reaches_from_a_flush_to_the_next_and_leaves_out_what_lies_beyond_the_file_system() {
        let entries = [
            Entry::write(0, 1),
            Entry::flush(),
            Entry::write(8, 8),
            Entry::forced_write(16, 1),
            Entry::write(LIMIT / SECTOR, 8),
            Entry::write(24, 8),
            Entry::flush(),
        ];
        let windows = windows(&entries);
        let ends: Vec<_> = windows.iter().map(|window| (window.durable, window.end)).collect();
        assert_eq!(ends, [(0, 1), (1, 6), (6, 7)]);
        assert_eq!(windows[0].pending(&entries, LIMIT), [0]);
        assert_eq!(windows[1].pending(&entries, LIMIT), [2, 5]);
        assert_eq!(windows[1].forced(&entries, LIMIT).collect::<Vec<_>>(), [3]);
        assert_eq!(windows[2].pending(&entries, LIMIT), [] as [usize; 0]);
    }

    #[test]
    fn choices_are_in_order_within_the_pending_writes_and_of_every_kind() {
        let entries = [Entry::write(0, 8), Entry::write(4, 20), Entry::write(64, 1), Entry::write(72, 64)];
        let mut kinds = BTreeSet::new();
        let mut different = BTreeSet::new();
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let chosen = choose(&entries, &[0, 1, 3], &mut random);
            assert_eq!(chosen, choose(&entries, &[0, 1, 3], &mut fastrand::Rng::with_seed(seed)));
            let Some((kept, pieces)) = chosen else { continue };
            let order: Vec<_> = pieces.iter().map(|piece| (piece.entry, piece.sectors.start)).collect();
            assert!(order.is_sorted() && order.iter().all(|(entry, _)| [0, 1, 3].contains(entry)), "{order:?}");
            let kept_sectors: u64 = pieces.iter().map(|piece| piece.sectors.end - piece.sectors.start).sum();
            assert!(kept_sectors < 92, "{kept:?} keeps everything");
            kinds.insert(kept);
            different.insert(order);
        }
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        assert!(different.len() > 100, "{}", different.len());
    }

    #[test]
    fn a_write_is_torn_at_the_blocks_of_the_disk() {
        assert_eq!(blocks(&Entry::write(4, 20)), [0..4, 4..12, 12..20]);
        assert_eq!(blocks(&Entry::write(8, 9)), [0..8, 8..9]);
        assert_eq!(blocks(&Entry::write(6, 3)), [0..2, 2..3]);
    }
}
