//! The built-in state: keys and values in memory, one map a core.

mod arena;
mod order;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::hint::black_box;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use self::arena::{Arena, Place};
pub(crate) use self::order::key_prefix;
use super::{Change, Pair, State};
use crate::error::Result;

/// Keys that are looked for together at most, see [`Keyed::look_together`].
pub(crate) const GROUP: usize = 32;

/// Bytes of entries that are in the caches anyway.
const CACHED: usize = if cfg!(test) { 256 } else { 256 << 10 };

/// Removed keys from which on cleaning up after them is worth it. Tests do so
/// often.
const MANY_VACANT: usize = if cfg!(test) { 8 } else { 1024 };

/// Keys and values of one core, in memory. Finding, setting and removing a key
/// takes constant time; a scan in key order sorts the keys that are new since
/// the last one.
///
/// Keys and values stand in large chunks, key and value side by side; a slot
/// says where. A hash table finds the slots by key, and a list of them in key
/// order serves scans. A removed key keeps its slot until the removals that are
/// due clean up.
#[derive(Clone, Debug, Default)]
pub struct Keyed {
    entries: Arena,
    slots: Vec<Slot>,
    index: HashTable<IndexEntry>,
    hasher: FixedState,
    /// Slots in key order, of those up to `ordered_until`; the slots from there
    /// on are newer and not sorted in yet.
    ordered: Vec<u32>,
    ordered_until: usize,
    /// Slots whose key was removed.
    vacant: usize,
    /// Removed keys are remembered, also those that never had a value.
    changes: bool,
    /// Slots whose last change no log has.
    unlogged: Vec<u32>,
}

/// A slot's number, and enough of its key's hash that neither a miss nor the
/// growth of the table has to look at the slot.
#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    hash: u32,
    slot: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The key, then the value, tagged with the key's hash.
    place: Place,
    value_len: u32,
    key_len: u16,
    /// The key was removed; there is no value.
    vacant: bool,
    /// It is among those that no log has.
    unlogged: bool,
}

/// A key that was looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    hash: u32,
    slot: Option<u32>,
}

impl Found {
    /// Whether the key has a value, or had one.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.slot.is_some()
    }
}

impl Slot {
    fn key<'e>(&self, entries: &'e Arena) -> &'e [u8] {
        entries.content(self.place, self.key_len.into())
    }

    #[inline]
    fn has(&self, key: &[u8], entries: &Arena) -> bool {
        usize::from(self.key_len) == key.len() && self.key(entries) == key
    }

    fn value<'e>(&self, entries: &'e Arena) -> Option<&'e [u8]> {
        Some(self.pair(entries)?.1)
    }

    fn pair<'e>(&self, entries: &'e Arena) -> Option<(&'e [u8], &'e [u8])> {
        (!self.vacant).then(|| entries.content(self.place, self.len()).split_at(self.key_len.into()))
    }

    fn len(&self) -> usize {
        usize::from(self.key_len) + self.value_len as usize
    }
}

/// Keys that room is made for at once, at most.
const EXPECTED_MAX: usize = 1 << 26;

impl State for Keyed {
    const FOLDS: bool = true;

    #[inline]
    fn apply(&mut self, change: Change<'_>) {
        self.apply_found(self.look(key_of(&change)), change);
    }

    fn reserve(&mut self, keys: u64) {
        // A hint that came from a file: no more room than its keys would take.
        let keys = usize::try_from(keys).unwrap_or(0).min(EXPECTED_MAX);
        self.index.reserve(keys, |entry| spread(entry.hash));
        self.slots.reserve(keys);
    }

    fn log_all(&mut self, log: &mut dyn FnMut(Change<'_>) -> Result<()>) -> Result<()> {
        let logged = self.log_unlogged(log);
        self.tidy_vacant();
        logged
    }

    fn apply_all(&mut self, changes: &[Change<'_>]) {
        for group in changes.chunks(GROUP) {
            let found = self.look_together(group.iter().map(key_of));
            if group.iter().all(|change| matches!(change, Change::Put { .. })) && are_new(&found[..group.len()]) {
                let pairs = group.iter().filter_map(|change| match *change {
                    Change::Put { key, value } => Some((key, value)),
                    _ => None,
                });
                self.insert_together(&found.map(|found| found.hash)[..group.len()], pairs);
                continue;
            }
            for (&change, found) in group.iter().zip(found) {
                self.apply_found(self.confirm(found, key_of(&change)), change);
            }
        }
    }

    fn put_new(&mut self, pairs: &[Pair<'_>]) {
        if self.vacant > 0 {
            // One of them may have a slot.
            return pairs.iter().for_each(|&(key, value)| self.put(self.look(key), key, value));
        }
        for group in pairs.chunks(GROUP) {
            let mut hashes = [0; GROUP];
            for (hash, (key, _)) in hashes.iter_mut().zip(group) {
                *hash = self.hash(key);
                debug_assert!(self.find(*hash, key).is_none(), "the state has key {key:?}");
            }
            self.insert_together(&hashes[..group.len()], group.iter().copied());
        }
    }
}

impl Keyed {
    /// Changes to a state that is elsewhere: of each key the last one.
    pub(crate) fn of_changes() -> Self {
        Self { changes: true, ..Self::default() }
    }

    /// Calls `visit` with each key that was changed, in byte order, and with its
    /// value; without one if it was removed. `step` is told of each step of
    /// putting them in order.
    pub(crate) fn for_each_change<E>(
        &self,
        step: impl FnMut(),
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        debug_assert!(self.changes, "others forget what was removed");
        let mut order: Vec<u32> = (0..self.next_slot()).collect();
        self.sort(&mut order, step);
        for group in order.chunks(GROUP) {
            let mut slots = [u32::MAX; GROUP];
            slots[..group.len()].copy_from_slice(group);
            self.load_slots(slots);
            for &slot in group {
                let slot = &self.slots[slot as usize];
                visit(slot.key(&self.entries), slot.value(&self.entries))?;
            }
        }
        Ok(())
    }

    /// Looks for a key, for what follows to find it at once. Good until another
    /// key is changed.
    #[inline]
    pub(crate) fn look(&self, key: &[u8]) -> Found {
        let hash = self.hash(key);
        Found { hash, slot: self.find(hash, key).map(number) }
    }

    /// The value of a key that was looked for.
    #[inline]
    pub(crate) fn value(&self, found: Found) -> Option<&[u8]> {
        self.slots[found.slot? as usize].value(&self.entries)
    }

    /// Changes a key, and keeps in mind that no log has it. Gives how many such
    /// keys there are.
    #[inline]
    pub(crate) fn change_unlogged(&mut self, found: &mut Found, key: &[u8], value: Option<&[u8]>) -> usize {
        if let Some(at) = self.change(found, key, value) {
            let slot = &mut self.slots[at as usize];
            if !slot.unlogged {
                slot.unlogged = true;
                self.unlogged.push(at);
            }
        }
        self.unlogged.len()
    }

    /// Changes a key, and gives its slot; none if it has none and is not to have a
    /// value.
    #[inline]
    pub(crate) fn change(&mut self, found: &mut Found, key: &[u8], value: Option<&[u8]>) -> Option<u32> {
        match (found.slot, value) {
            (Some(at), Some(value)) => self.set_value(at as usize, found.hash, key, value),
            (Some(at), None) => self.vacate(at as usize, found.hash, key),
            (None, Some(value)) => {
                found.slot = Some(self.next_slot());
                self.insert(found.hash, key, value);
            }
            (None, None) => {}
        }
        found.slot
    }

    /// Gives the last change of each key that no log has to `log`. Those that it
    /// could not take stay.
    fn log_unlogged(&mut self, log: &mut dyn FnMut(Change<'_>) -> Result<()>) -> Result<()> {
        while !self.unlogged.is_empty() {
            let from = self.unlogged.len().saturating_sub(GROUP);
            let mut group = [u32::MAX; GROUP];
            group[..self.unlogged.len() - from].copy_from_slice(&self.unlogged[from..]);
            self.load_slots(group);
            while self.unlogged.len() > from {
                let at = self.unlogged[self.unlogged.len() - 1] as usize;
                let slot = &mut self.slots[at];
                let key = slot.key(&self.entries);
                log(match slot.value(&self.entries) {
                    Some(value) => Change::Put { key, value },
                    None => Change::Delete { key },
                })?;
                slot.unlogged = false;
                self.unlogged.pop();
            }
        }
        Ok(())
    }

    /// Whether no key was changed.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn memory(&self) -> usize {
        self.entries.len()
            + self.slots.capacity() * size_of::<Slot>()
            + self.index.capacity() * (size_of::<IndexEntry>() + 1) * 8 / 7
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.slots[self.find(self.hash(key), key)?].value(&self.entries)
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
        self.slots.iter().filter_map(|slot| slot.pair(&self.entries))
    }

    /// The keys that begin with `prefix`, in byte order, with their values.
    pub fn scan<'s>(&'s mut self, prefix: &'s [u8]) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + 's {
        self.order();
        let (entries, slots) = (&self.entries, &self.slots);
        let from = self.ordered.partition_point(|&slot| slots[slot as usize].key(entries) < prefix);
        self.ordered[from..]
            .iter()
            .map(move |&slot| &slots[slot as usize])
            .take_while(move |slot| slot.key(entries).starts_with(prefix))
            .filter_map(move |slot| slot.pair(entries))
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
        let same = |entry: &IndexEntry| entry.hash == hash && self.slots[entry.slot as usize].has(key, &self.entries);
        Some(self.index.find(spread(hash), same)?.slot as usize)
    }

    #[inline]
    fn apply_found(&mut self, found: Found, change: Change<'_>) {
        match change {
            Change::Put { key, value } => self.put(found, key, value),
            Change::Delete { key } => self.delete(found, key),
            Change::Payload(_) => {}
        }
    }

    /// Looks for keys together, [`GROUP`] at the most. In a large state nearly
    /// every load on the way to an entry misses the caches: so the misses of one
    /// key do not wait for those of another.
    ///
    /// Keys are taken for the same if their hashes are, and others may be changed
    /// meanwhile: see [`Keyed::confirm`].
    #[inline]
    pub(crate) fn look_together<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> [Found; GROUP] {
        let (mut found, mut count) = ([Found::default(); GROUP], 0);
        for (found, key) in found.iter_mut().zip(keys) {
            found.hash = self.hash(key);
            count += 1;
        }
        for found in &mut found[..count] {
            let same = |entry: &IndexEntry| entry.hash == found.hash;
            found.slot = self.index.find(spread(found.hash), same).map(|entry| entry.slot);
        }
        self.load_slots(found.map(|found| found.slot.unwrap_or(u32::MAX)));
        found
    }

    /// Makes sure of what [`Keyed::look_together`] found of this key.
    #[inline]
    pub(crate) fn confirm(&self, found: Found, key: &[u8]) -> Found {
        // Whatever was changed: a slot with this key is the key's.
        let is_of_key = |slot: u32| self.slots.get(slot as usize).is_some_and(|slot| slot.has(key, &self.entries));
        match found.slot {
            Some(slot) if is_of_key(slot) => found,
            _ => Found { slot: self.find(found.hash, key).map(number), ..found },
        }
    }

    /// Loads what stands in these slots from memory, where a state is larger
    /// than the caches; there need not be such slots.
    #[inline]
    fn load_slots(&self, slots: [u32; GROUP]) {
        if self.entries.len() < CACHED {
            return;
        }
        let slots = slots.map(|slot| self.slots.get(slot as usize).copied().unwrap_or_default());
        black_box(slots.iter().fold(0, |seen, slot| seen ^ self.entries.touch(slot.place, slot.len())));
    }

    #[inline]
    fn put(&mut self, found: Found, key: &[u8], value: &[u8]) {
        match found.slot {
            Some(at) => self.set_value(at as usize, found.hash, key, value),
            None => self.insert(found.hash, key, value),
        }
    }

    #[inline]
    fn set_value(&mut self, at: usize, hash: u32, key: &[u8], value: &[u8]) {
        let slot = &mut self.slots[at];
        self.vacant -= usize::from(slot.vacant);
        slot.vacant = false;
        self.set(at, hash, key, value);
    }

    fn vacate(&mut self, at: usize, hash: u32, key: &[u8]) {
        if !self.slots[at].vacant {
            self.slots[at].vacant = true;
            self.vacant += 1;
            self.set(at, hash, key, b"");
        }
    }

    fn next_slot(&self) -> u32 {
        number(self.slots.len())
    }

    fn insert(&mut self, hash: u32, key: &[u8], value: &[u8]) {
        let slot = self.next_slot();
        self.add_slot(hash, key, value);
        self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |entry| spread(entry.hash));
        self.tidy();
    }

    #[inline]
    fn add_slot(&mut self, hash: u32, key: &[u8], value: &[u8]) {
        let key_len = u16::try_from(key.len()).expect("the writer and the format limit keys");
        let place = self.entries.add(hash, key, value);
        self.slots.push(Slot { place, value_len: len_of(value), key_len, vacant: false, unlogged: false });
    }

    /// Inserts keys that have no slot. First all of them into the table, where
    /// nearly every store misses the caches: so those do not wait for each other,
    /// nor anything for them.
    fn insert_together<'k>(&mut self, hashes: &[u32], pairs: impl Iterator<Item = Pair<'k>>) {
        for (&hash, slot) in hashes.iter().zip(self.next_slot()..) {
            self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |entry| spread(entry.hash));
        }
        for (&hash, (key, value)) in hashes.iter().zip(pairs) {
            self.add_slot(hash, key, value);
        }
        self.tidy();
    }

    /// Sets the value of a slot, where its entry stands or elsewhere.
    #[inline]
    fn set(&mut self, at: usize, hash: u32, key: &[u8], value: &[u8]) {
        let slot = &mut self.slots[at];
        slot.value_len = len_of(value);
        if !self.entries.set(slot.place, key.len(), value) {
            self.entries.free(slot.place);
            slot.place = self.entries.add(hash, key, value);
            self.tidy();
        }
    }

    fn delete(&mut self, found: Found, key: &[u8]) {
        let at = match found.slot {
            Some(at) => at as usize,
            None if self.changes => {
                self.insert(found.hash, key, b"");
                self.slots.len() - 1
            }
            None => return,
        };
        self.vacate(at, found.hash, key);
        self.tidy_vacant();
    }

    /// Gives the slots of removed keys back where they are many, unless others
    /// go by their numbers.
    fn tidy_vacant(&mut self) {
        let needed = self.changes || !self.unlogged.is_empty();
        if !needed && self.vacant > MANY_VACANT && self.vacant > self.slots.len() / 2 {
            self.compact();
        }
    }

    /// Empties the chunks that are mostly garbage: what is moved is less than
    /// what became garbage since.
    fn tidy(&mut self) {
        while let Some(chunk) = self.entries.sparse() {
            for (place, hash, content) in chunk.entries() {
                let slots = &self.slots;
                let stands_here = |entry: &IndexEntry| entry.hash == hash && slots[entry.slot as usize].place == place;
                if let Some(&IndexEntry { slot, .. }) = self.index.find(spread(hash), stands_here) {
                    let slot = &mut self.slots[slot as usize];
                    let (key, value) = content[..slot.len()].split_at(slot.key_len.into());
                    slot.place = self.entries.add(hash, key, value);
                }
            }
            self.entries.retire(chunk);
        }
    }

    /// Gives the slots of removed keys back. Its cost is that of the removals
    /// that made it due.
    fn compact(&mut self) {
        let mut kept = 0;
        let renumbered: Vec<Option<u32>> = self
            .slots
            .iter()
            .map(|slot| {
                if slot.vacant {
                    self.entries.free(slot.place);
                    return None;
                }
                kept += 1;
                Some(kept - 1)
            })
            .collect();
        self.index.retain(|entry| renumbered[entry.slot as usize].inspect(|&slot| entry.slot = slot).is_some());
        self.index.shrink_to(self.index.len() * 2, |entry| spread(entry.hash));
        self.slots.retain(|slot| !slot.vacant);
        self.slots.shrink_to(self.slots.len() * 2);
        self.vacant = 0;
        self.ordered.clear();
        self.ordered_until = 0;
        self.tidy();
    }

    /// Brings the list of slots in key order up to date.
    fn order(&mut self) {
        if self.ordered_until == self.slots.len() {
            return;
        }
        let mut new: Vec<u32> = (number(self.ordered_until)..self.next_slot()).collect();
        self.sort(&mut new, || {});
        let (entries, slots) = (&self.entries, &self.slots);
        let merges = !self.ordered.is_empty();
        self.ordered.append(&mut new);
        if merges {
            // Two sorted parts: a stable sort takes them as they are.
            self.ordered.sort_by(|&a, &b| slots[a as usize].key(entries).cmp(slots[b as usize].key(entries)));
        }
        self.ordered_until = slots.len();
    }

    fn sort(&self, slots: &mut [u32], step: impl FnMut()) {
        order::sort(slots, |slot| self.slots[slot as usize].key(&self.entries), step);
    }
}

/// The table takes its buckets from the low bits of a hash and its tags from
/// the high ones: one odd multiplication gives both their share.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The key that a change is about; none, if there is none.
#[inline]
fn key_of<'a>(change: &Change<'a>) -> &'a [u8] {
    match *change {
        Change::Put { key, .. } | Change::Delete { key } => key,
        Change::Payload(_) => b"",
    }
}

/// Whether keys that were looked for together have no slot, and are not two of
/// them alike.
fn are_new(found: &[Found]) -> bool {
    let same = |hash: u32, others: &[Found]| others.iter().fold(false, |same, other| same | (other.hash == hash));
    !found.iter().any(Found::is_known) && (1..found.len()).all(|at| !same(found[at].hash, &found[..at]))
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a core's state holds fewer than 2^32 keys")
}

fn len_of(value: &[u8]) -> u32 {
    u32::try_from(value.len()).expect("the writer and the format limit values")
}
