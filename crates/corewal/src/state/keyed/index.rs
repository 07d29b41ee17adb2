//! Finding slots by the hashes of their keys.

/// Places that a table has at least.
const MIN: usize = 8;

/// Slots by hash: open addressing with linear probing (Knuth, "The Art of Computer
/// Programming", volume 3, section 6.4, algorithm L). Each place says all that is
/// needed, so that a look takes one load from memory, and few instructions: many
/// keys' loads overlap. Slots are not removed one by one, so nothing marks removed
/// ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// A power of two of them, or none. At most three of four are taken.
    places: Vec<u64>,
    len: usize,
}

/// What a place says: a hash and, one higher, a slot; 0 if it is free.
#[inline]
fn place(hash: u32, slot: u32) -> u64 {
    debug_assert!(slot < u32::MAX, "a core's state holds fewer keys");
    u64::from(hash) << 32 | (u64::from(slot) + 1)
}

/// What was put into a place.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn parts(place: u64) -> (u32, u32) {
    ((place >> 32) as u32, (place as u32).wrapping_sub(1))
}

impl Index {
    /// The first slot of a hash that is wanted.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let place = self.places[at];
            if place == 0 {
                return None;
            }
            let (its, slot) = parts(place);
            if its == hash && wanted(slot) {
                return Some(slot);
            }
            at = self.next(at);
        }
    }

    /// Adds a slot.
    #[inline]
    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        if self.len >= self.room() {
            self.grow_to(self.places.len() * 2);
        }
        self.put(place(hash, slot));
        self.len += 1;
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        let needed = (self.len + more).saturating_mul(4).div_ceil(3);
        if needed > self.places.len() {
            self.grow_to(needed);
        }
    }

    /// Numbers the slots anew: those without a new number go.
    pub(super) fn renumber(&mut self, new: impl Fn(u32) -> Option<u32>) {
        let old = std::mem::take(self);
        let kept = || {
            old.places.iter().filter(|&&place| place != 0).filter_map(|&place| {
                let (hash, slot) = parts(place);
                Some((hash, new(slot)?))
            })
        };
        self.reserve(kept().count());
        kept().for_each(|(hash, slot)| self.insert(hash, slot));
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.places.len() * size_of::<u64>()
    }

    /// How many slots it takes as it is.
    fn room(&self) -> usize {
        self.places.len() / 4 * 3
    }

    /// At least so many places. From the old to the new ones goes from one end to
    /// the other in both, since a place follows from the hash's high bits.
    #[cold]
    fn grow_to(&mut self, places: usize) {
        let places = places.next_power_of_two().max(MIN);
        let old = std::mem::replace(&mut self.places, vec![0; places]);
        old.into_iter().filter(|&place| place != 0).for_each(|place| self.put(place));
    }

    #[inline]
    fn put(&mut self, place: u64) {
        let mut at = self.home(parts(place).0);
        while self.places[at] != 0 {
            at = self.next(at);
        }
        self.places[at] = place;
    }

    /// Where the search for a hash begins. An odd multiplication gives all bits of
    /// the hash their share.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        let spread = u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((spread * self.places.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All slots of a hash, in no particular order.
    fn all_of(index: &Index, hash: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let none = index.find(hash, |slot| {
            found.push(slot);
            false
        });
        assert_eq!(none, None);
        found.sort_unstable();
        found
    }

    proptest! {
        /// Many hashes alike, and many that begin at the last places, so that searches go
        /// on at the first.
        #[test]
        fn each_slot_is_found_by_its_hash_alone(
            hashes in proptest::collection::vec(prop_oneof![0..4_u32, Just(u32::MAX), any::<u32>()], 0..200),
            reserved in 0..300_usize,
            kept in 1..4_u32,
        ) {
            let mut index = Index::default();
            index.reserve(reserved);
            for (&hash, slot) in hashes.iter().zip(0..) {
                index.insert(hash, slot);
                prop_assert!(index.len <= index.room());
            }
            let slots = |hash: u32, kept: u32| -> Vec<u32> {
                hashes.iter().zip(0..).filter(|&(&its, slot)| its == hash && slot % kept == 0).map(|(_, slot)| slot / kept).collect()
            };
            for &hash in hashes.iter().chain(&[5, 0x8000_0000]) {
                prop_assert_eq!(all_of(&index, hash), slots(hash, 1));
                prop_assert_eq!(index.find(hash, |_| true).is_some(), !slots(hash, 1).is_empty());
            }
            index.renumber(|slot| (slot % kept == 0).then_some(slot / kept));
            for &hash in &hashes {
                prop_assert_eq!(all_of(&index, hash), slots(hash, kept));
            }
        }
    }

    #[test]
    fn a_table_is_at_most_three_quarters_full_and_has_room_for_what_was_reserved() {
        let mut index = Index::default();
        assert_eq!(index.memory(), 0, "of nothing");
        index.reserve(6);
        assert_eq!(index.places.len(), 8);
        (0..6).for_each(|slot| index.insert(slot, slot));
        assert_eq!(index.places.len(), 8);
        index.insert(6, 6);
        assert_eq!((index.places.len(), index.memory()), (16, 128));
        index.renumber(|slot| (slot < 2).then_some(slot));
        assert_eq!((index.places.len(), index.len), (8, 2), "it shrinks");
    }

    /// Slots whose hashes follow each other, as those of numbers may: searches stay short.
    #[test]
    fn hashes_that_follow_each_other_are_spread() {
        let mut index = Index::default();
        (0..10_000).for_each(|hash| index.insert(hash, hash));
        let free = index.places.iter().position(|&place| place == 0).expect("a quarter is free");
        let turned = index.places[free..].iter().chain(&index.places[..free]);
        let longest = turned.fold((0, 0), |(longest, now), &place| {
            let now = if place == 0 { 0 } else { now + 1 };
            (longest.max(now), now)
        });
        assert!(longest.0 < 64, "{} places in a row are taken", longest.0);
    }
}
