//! What becomes of the things that were under way when the power went.

use fastrand::Rng;

use super::file::SECTOR;

/// The unit, in bytes, in which a sector can be torn.
pub(super) const WORD: usize = 8;

/// What becomes of one written sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Lost,
    /// A part is new and a part old.
    Torn,
    /// Neither new nor old.
    Garbage,
}

/// Decides over `units` things in their order. The extremes are as likely as
/// the mixtures: that all is lost, that all is kept, that exactly one is
/// missing are the cases that reasoning in averages forgets.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    mode: Mode,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    AllLost,
    AllKept,
    /// Each is kept with this chance, or else lost, rarely torn.
    Each(f64),
    /// The first so many are kept; the one after them may be torn.
    Prefix(u64),
    /// Only this one is missing, or torn.
    OneMissing(u64),
    /// Only this one is there.
    OnePresent(u64),
}

impl Plan {
    pub(super) fn pick(units: u64, rng: &mut Rng) -> Self {
        let one = rng.u64(0..units.max(1));
        let mode = match rng.u8(0..8) {
            0 => Mode::AllLost,
            1 => Mode::AllKept,
            2 => Mode::Each(0.1),
            3 => Mode::Each(0.5),
            4 => Mode::Each(0.9),
            5 => Mode::Prefix(rng.u64(0..=units)),
            6 => Mode::OneMissing(one),
            _ => Mode::OnePresent(one),
        };
        Self { mode, next: 0 }
    }

    /// The fate of the next thing.
    pub(super) fn next(&mut self, rng: &mut Rng) -> Fate {
        let unit = self.next;
        self.next += 1;
        match self.mode {
            Mode::AllLost => Fate::Lost,
            Mode::AllKept => Fate::Kept,
            Mode::Each(chance) => match rng.u8(..) {
                0..16 => Fate::Torn,
                16..18 => Fate::Garbage,
                _ if rng.f64() < chance => Fate::Kept,
                _ => Fate::Lost,
            },
            Mode::Prefix(count) if unit < count => Fate::Kept,
            Mode::Prefix(count) if unit == count && rng.bool() => Fate::Torn,
            Mode::Prefix(_) => Fate::Lost,
            Mode::OneMissing(one) if unit == one => match rng.u8(0..4) {
                0 => Fate::Torn,
                _ => Fate::Lost,
            },
            Mode::OneMissing(_) => Fate::Kept,
            Mode::OnePresent(one) if unit == one => Fate::Kept,
            Mode::OnePresent(_) => Fate::Lost,
        }
    }

    /// Whether a change of a file's length survives.
    pub(super) fn keeps_length(&self, rng: &mut Rng) -> bool {
        match self.mode {
            Mode::AllLost => false,
            Mode::AllKept => true,
            _ => rng.bool(),
        }
    }

    /// The length a file is found with: `least` is what the medium had,
    /// `kept` what the surviving sectors need, `most` what readers saw.
    pub(super) fn length(&self, least: u64, kept: u64, most: u64, rng: &mut Rng) -> u64 {
        match self.mode {
            Mode::AllLost => return least,
            Mode::AllKept => return most,
            _ => {}
        }
        let (low, high) = (least.min(most), least.max(most).max(kept));
        let length = match rng.u8(0..16) {
            0..8 => kept,
            8..12 => most,
            12 => least,
            // File systems also write a length that is between.
            13..15 => {
                let sector = SECTOR as u64;
                rng.u64(low..=high).next_multiple_of(sector).min(high)
            }
            _ => rng.u64(low..=high),
        };
        assert!(low.min(kept) <= length && length <= high);
        length
    }
}

/// One sector (or the part of one at a file's end) as found after the crash.
pub(super) fn sector(fate: Fate, old: &[u8], new: &[u8], rng: &mut Rng) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    assert!(new.len() <= SECTOR);
    match fate {
        Fate::Kept => new.to_vec(),
        Fate::Lost => old.to_vec(),
        Fate::Garbage => garbage(new.len(), rng),
        Fate::Torn => {
            let at = (rng.usize(0..=new.len() / WORD) * WORD).min(new.len());
            let (first, last) = if rng.bool() { (new, old) } else { (old, new) };
            [&first[..at], &last[at..]].concat()
        }
    }
}

pub(super) fn garbage(len: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(mode: Mode, units: u64) -> Vec<Fate> {
        let mut rng = Rng::with_seed(7);
        let mut plan = Plan { mode, next: 0 };
        (0..units).map(|_| plan.next(&mut rng)).collect()
    }

    #[test]
    fn exactly_one_missing_is_exactly_one() {
        let fates = fates(Mode::OneMissing(3), 8);
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Kept).count(), 7);
        assert_ne!(fates[3], Fate::Kept);
    }

    #[test]
    fn exactly_one_present_is_exactly_one() {
        let fates = fates(Mode::OnePresent(2), 8);
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Kept).count(), 1);
        assert_eq!(fates[2], Fate::Kept);
    }

    #[test]
    fn a_prefix_has_no_survivor_behind_its_end() {
        let fates = fates(Mode::Prefix(5), 9);
        assert!(fates[..5].iter().all(|fate| *fate == Fate::Kept));
        assert!(fates[6..].iter().all(|fate| *fate == Fate::Lost));
    }

    #[test]
    fn the_mixture_knows_every_fate() {
        let fates = fates(Mode::Each(0.5), 2000);
        for fate in [Fate::Kept, Fate::Lost, Fate::Torn, Fate::Garbage] {
            assert!(fates.contains(&fate), "{fate:?}");
        }
    }

    #[test]
    fn every_mode_is_picked_often() {
        let mut rng = Rng::with_seed(1);
        let mut seen = [0; 6];
        for _ in 0..800 {
            seen[match Plan::pick(10, &mut rng).mode {
                Mode::AllLost => 0,
                Mode::AllKept => 1,
                Mode::Each(_) => 2,
                Mode::Prefix(_) => 3,
                Mode::OneMissing(_) => 4,
                Mode::OnePresent(_) => 5,
            }] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn a_torn_sector_changes_sides_at_one_word() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..100 {
            let torn = sector(Fate::Torn, &[1; SECTOR], &[2; SECTOR], &mut rng);
            let sides: Vec<usize> = (1..SECTOR).filter(|at| torn[*at] != torn[at - 1]).collect();
            assert!(sides.len() <= 1, "{sides:?}");
            assert!(sides.iter().all(|at| at % WORD == 0));
        }
    }
}
