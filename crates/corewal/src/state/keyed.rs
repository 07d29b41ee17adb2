//! The built-in state: keys and values in memory, one map a core.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::{Change, State};

/// Keys and values of one core, in memory. Finding, setting and removing a key
/// takes constant time; a scan in key order sorts the keys that are new since
/// the last one.
///
/// Entries live in a slab, key and value in one allocation; a hash table finds
/// them by key, and a list of slots in key order serves scans. A removed key
/// keeps its slot until the removals that are due clean up.
#[derive(Clone, Debug, Default)]
pub struct Keyed {
    slots: Vec<Slot>,
    index: HashTable<IndexEntry>,
    hasher: FixedState,
    /// Slots in key order, of those up to `ordered_until`; the slots from there
    /// on are newer and not sorted in yet.
    ordered: Vec<u32>,
    ordered_until: usize,
    /// Slots whose key was removed.
    vacant: usize,
}

/// A slot's number, and enough of its key's hash that neither a miss nor the
/// growth of the table has to look at the slot.
#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    hash: u32,
    slot: u32,
}

#[derive(Clone, Debug)]
struct Slot {
    /// The key, then the value.
    bytes: Vec<u8>,
    key_len: u16,
    /// The key was removed; there is no value.
    vacant: bool,
}

impl Slot {
    fn key(&self) -> &[u8] {
        &self.bytes[..usize::from(self.key_len)]
    }

    fn value(&self) -> Option<&[u8]> {
        (!self.vacant).then(|| &self.bytes[usize::from(self.key_len)..])
    }
}

impl State for Keyed {
    #[inline]
    fn apply(&mut self, change: Change<'_>) {
        match change {
            Change::Put { key, value } => self.put(key, value),
            Change::Delete { key } => self.delete(key),
            Change::Payload(_) => {}
        }
    }
}

impl Keyed {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.slots[self.find(self.hash(key), key)?].value()
    }

    /// How many keys have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.vacant
    }

    /// Whether no key has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.slots.iter().filter_map(|slot| Some((slot.key(), slot.value()?)))
    }

    /// The keys that begin with `prefix`, in byte order, with their values.
    pub fn scan<'s>(&'s mut self, prefix: &'s [u8]) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + 's {
        self.order();
        let slots = &self.slots;
        let from = self.ordered.partition_point(|&slot| slots[slot as usize].key() < prefix);
        self.ordered[from..]
            .iter()
            .map(move |&slot| &slots[slot as usize])
            .take_while(move |slot| slot.key().starts_with(prefix))
            .filter_map(|slot| Some((slot.key(), slot.value()?)))
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves folded into one")]
        let folded = (hash ^ (hash >> 32)) as u32;
        folded
    }

    #[inline]
    fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let slots = &self.slots;
        let same = |entry: &IndexEntry| entry.hash == hash && slots[entry.slot as usize].key() == key;
        Some(self.index.find(spread(hash), same)?.slot as usize)
    }

    #[inline]
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let hash = self.hash(key);
        let Some(at) = self.find(hash, key) else {
            return self.insert(hash, key, value);
        };
        let slot = &mut self.slots[at];
        slot.bytes.truncate(key.len());
        slot.bytes.extend_from_slice(value);
        self.vacant -= usize::from(slot.vacant);
        slot.vacant = false;
    }

    fn insert(&mut self, hash: u32, key: &[u8], value: &[u8]) {
        let slot = u32::try_from(self.slots.len()).expect("a core's state holds fewer than 2^32 keys");
        let key_len = u16::try_from(key.len()).expect("the writer and the format limit keys");
        let mut bytes = Vec::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        self.slots.push(Slot { bytes, key_len, vacant: false });
        self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |entry| spread(entry.hash));
    }

    fn delete(&mut self, key: &[u8]) {
        let Some(at) = self.find(self.hash(key), key) else { return };
        let slot = &mut self.slots[at];
        if !slot.vacant {
            slot.vacant = true;
            slot.bytes.truncate(key.len());
            slot.bytes.shrink_to_fit();
            self.vacant += 1;
        }
        if self.vacant > 1024 && self.vacant > self.slots.len() / 2 {
            self.compact();
        }
    }

    /// Gives the slots of removed keys back. Its cost is that of the removals
    /// that made it due.
    fn compact(&mut self) {
        self.slots.retain(|slot| !slot.vacant);
        self.slots.shrink_to(self.slots.len() * 2);
        self.vacant = 0;
        self.ordered.clear();
        self.ordered_until = 0;
        self.index = HashTable::with_capacity(self.slots.len());
        for slot in 0..u32::try_from(self.slots.len()).expect("fewer than before") {
            let hash = self.hash(self.slots[slot as usize].key());
            self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |entry| spread(entry.hash));
        }
    }

    /// Brings the list of slots in key order up to date.
    fn order(&mut self) {
        if self.ordered_until == self.slots.len() {
            return;
        }
        let slots = &self.slots;
        let newest = u32::try_from(slots.len()).expect("checked when they were added");
        let oldest = u32::try_from(self.ordered_until).expect("not above the newest");
        self.ordered.extend(oldest..newest);
        // The sort is stable and adaptive: a sorted run and a short unsorted
        // one cost little more than a merge.
        self.ordered.sort_by(|&a, &b| slots[a as usize].key().cmp(slots[b as usize].key()));
        self.ordered_until = slots.len();
    }
}

/// The table takes its buckets from the low bits of a hash and its tags from
/// the high ones: one odd multiplication gives both their share.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Action {
        Put(Vec<u8>, Vec<u8>),
        Delete(Vec<u8>),
        Scan(Vec<u8>),
    }

    fn action() -> impl Strategy<Value = Action> {
        let key = || proptest::collection::vec(0_u8..4, 0..4);
        prop_oneof![
            4 => (key(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(k, v)| Action::Put(k, v)),
            2 => key().prop_map(Action::Delete),
            1 => key().prop_map(Action::Scan),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(actions in proptest::collection::vec(action(), 0..200)) {
            let mut keyed = Keyed::default();
            let mut model = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Put(key, value) => {
                        keyed.apply(Change::Put { key: &key, value: &value });
                        model.insert(key, value);
                    }
                    Action::Delete(key) => {
                        keyed.apply(Change::Delete { key: &key });
                        model.remove(&key);
                    }
                    Action::Scan(prefix) => {
                        let found: Vec<_> = keyed.scan(&prefix).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                        let expected: Vec<_> = model
                            .iter()
                            .filter(|(key, _)| key.starts_with(&prefix))
                            .map(|(k, v)| (k.clone(), v.clone()))
                            .collect();
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert_eq!(keyed.len(), model.len());
            }
            for (key, value) in &model {
                prop_assert_eq!(keyed.get(key), Some(value.as_slice()));
            }
        }
    }

    #[test]
    fn removed_keys_give_their_room_back() {
        let mut keyed = Keyed::default();
        for key in 0..10_000_u32 {
            keyed.apply(Change::Put { key: &key.to_le_bytes(), value: b"v" });
        }
        for key in 0..9_000_u32 {
            keyed.apply(Change::Delete { key: &key.to_le_bytes() });
        }
        assert_eq!(keyed.len(), 1_000);
        assert!(keyed.slots.len() < 3_000, "{}", keyed.slots.len());
        assert_eq!(keyed.scan(b"").count(), 1_000);
        assert_eq!(keyed.get(&9_500_u32.to_le_bytes()), Some(&b"v"[..]));
    }
}
