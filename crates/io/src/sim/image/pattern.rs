//! Which of the pending sectors survive.

use std::fmt;

use fastrand::Rng;

use super::ImageLimits;

/// A subset of so many sectors, each named by its place in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    None,
    All,
    /// Those whose bit is set.
    Mask(u32),
    /// The first so many.
    Prefix(u32),
    Missing(u32),
    Present(u32),
    PairMissing(u32, u32),
    PairPresent(u32, u32),
    /// Half of them, by this seed.
    Random(u32),
}

impl Pattern {
    pub(super) fn keeps(self, unit: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Mask(mask) => mask >> unit & 1 == 1,
            Self::Prefix(count) => unit < count,
            Self::Missing(one) => unit != one,
            Self::Present(one) => unit == one,
            Self::PairMissing(one, other) => unit != one && unit != other,
            Self::PairPresent(one, other) => unit == one || unit == other,
            Self::Random(seed) => {
                let mut rng = Rng::with_seed(seed.into());
                let mut words = std::iter::repeat_with(|| rng.u64(..));
                words.nth(unit as usize / 64).is_some_and(|word| word >> (unit % 64) & 1 == 1)
            }
        }
    }

    /// The subsets of `units` sectors that the limits ask for, none and all of
    /// them first.
    pub(super) fn all(units: u32, limits: &ImageLimits) -> Vec<Self> {
        let mut patterns = vec![Self::None];
        if units == 0 {
            return patterns;
        }
        patterns.push(Self::All);
        let all_subsets = limits.all_subsets.min(20);
        if units <= all_subsets {
            patterns.extend((1..(1 << units) - 1).map(Self::Mask));
            return patterns;
        }
        patterns.extend((1..units).map(Self::Prefix));
        // The last one missing and the first one present are prefixes.
        patterns.extend((0..units - 1).map(Self::Missing));
        patterns.extend((1..units).map(Self::Present));
        if limits.pairs {
            for one in 0..units {
                for other in one + 1..units {
                    patterns.extend([Self::PairMissing(one, other), Self::PairPresent(one, other)]);
                }
            }
        }
        patterns.extend((0..limits.random_subsets).map(Self::Random));
        patterns
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no sector"),
            Self::All => write!(f, "all sectors"),
            Self::Mask(mask) => write!(f, "sectors {mask:#b}"),
            Self::Prefix(count) => write!(f, "the first {count} sectors"),
            Self::Missing(one) => write!(f, "all sectors but {one}"),
            Self::Present(one) => write!(f, "sector {one} alone"),
            Self::PairMissing(one, other) => write!(f, "all sectors but {one} and {other}"),
            Self::PairPresent(one, other) => write!(f, "sectors {one} and {other} alone"),
            Self::Random(seed) => write!(f, "half of the sectors, by {seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn subsets(units: u32, limits: &ImageLimits) -> BTreeSet<Vec<bool>> {
        let patterns = Pattern::all(units, limits);
        patterns.iter().map(|pattern| (0..units).map(|unit| pattern.keeps(unit)).collect()).collect()
    }

    #[test]
    fn of_up_to_twelve_sectors_there_is_every_subset_once() {
        for units in 0..=12 {
            let count = 1 << units;
            assert_eq!(Pattern::all(units, &ImageLimits::FULL).len(), count);
            assert_eq!(subsets(units, &ImageLimits::FULL).len(), count);
        }
    }

    #[test]
    fn of_more_there_are_the_extremes_the_singles_the_pairs_and_some_by_chance() {
        let units = 13_usize;
        let subsets = subsets(13, &ImageLimits::FULL);
        let of = |set: &dyn Fn(usize) -> bool| (0..units).map(set).collect::<Vec<_>>();
        for one in 0..units {
            assert!(subsets.contains(&of(&|unit| unit < one)));
            for other in one..units {
                assert!(subsets.contains(&of(&|unit| unit != one && unit != other)));
                assert!(subsets.contains(&of(&|unit| unit == one || unit == other)));
            }
        }
        assert!(subsets.contains(&vec![true; units]));
        // 2 extremes, 12 prefixes, 12 missing, 12 present, 156 pairs, but the
        // prefixes of 2 and of 11 are pairs; and 200 by chance.
        assert!(subsets.len() > 192 + 190 && subsets.len() <= 192 + 200, "{}", subsets.len());
    }
}
