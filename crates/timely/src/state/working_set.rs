//! States in memory, by key, with what has changed since it was written.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The state of a key.
pub(super) struct Kept<K, S> {
    key: K,
    /// What `S` is by default, if the key is not there.
    pub(super) state: S,
    /// Whether the key is there.
    pub(super) there: bool,
    changed: bool,
}

/// States of some keys. None leaves alone: all do.
pub(super) struct WorkingSet<K, S> {
    kept: HashTable<Kept<K, S>>,
    hasher: RandomState,
    /// Where those are that have changed. A place is good until the table grows.
    changed: Vec<usize>,
}

impl<K: Hash + Eq, S> WorkingSet<K, S> {
    pub(super) fn new() -> Self {
        Self { kept: HashTable::new(), hasher: RandomState::default(), changed: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Where a key is, until another one is inserted.
    #[inline]
    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.kept.find_bucket_index(self.hasher.hash_one(key), |kept| kept.key == *key)
    }

    /// A state that is going to change.
    #[inline]
    pub(super) fn change(&mut self, at: usize) -> &mut Kept<K, S> {
        let kept = self.kept.get_bucket_mut(at).expect("it was found there");
        if !kept.changed {
            kept.changed = true;
            self.changed.push(at);
        }
        kept
    }

    /// Adds a key that it does not have.
    pub(super) fn insert(&mut self, key: K, state: Option<S>)
    where
        S: Default,
    {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&key);
        let (there, state) = (state.is_some(), state.unwrap_or_default());
        let grows = self.kept.len() == self.kept.capacity();
        self.kept.insert_unique(hash, Kept { key, state, there, changed: false }, |kept| hasher.hash_one(&kept.key));
        if grows {
            let has_changed = |at: &usize| self.kept.get_bucket(*at).is_some_and(|kept| kept.changed);
            let changed = (0..self.kept.num_buckets()).filter(has_changed).collect();
            debug_assert_eq!(self.changed.len(), Vec::len(&changed));
            self.changed = changed;
        }
    }

    /// Keys that have changed since they were written, and where they are.
    pub(super) fn changed(&self) -> impl Iterator<Item = (usize, &K)> {
        let key = |&at: &usize| (at, &self.kept.get_bucket(at).expect("it changed there").key);
        self.changed.iter().map(key)
    }

    /// What is to be written: none if the key is to be removed.
    pub(super) fn state(&self, at: usize) -> Option<&S> {
        let kept = self.kept.get_bucket(at).expect("it was found there");
        kept.there.then_some(&kept.state)
    }

    /// All that has changed is written.
    pub(super) fn written(&mut self) {
        for at in self.changed.drain(..) {
            self.kept.get_bucket_mut(at).expect("it changed there").changed = false;
        }
    }

    /// A key is not there any more, and that is written.
    pub(super) fn forget(&mut self, key: &K)
    where
        S: Default,
    {
        if let Some(at) = self.find(key) {
            let kept = self.kept.get_bucket_mut(at).expect("it was found there");
            (kept.there, kept.state) = (false, S::default());
        }
    }

    /// Forgets all states.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.changed.is_empty(), "what has changed is written before");
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_known_however_much_is_inserted_meanwhile() {
        let mut set = WorkingSet::new();
        for key in 0..1_000_u64 {
            set.insert(key, (key % 3 == 0).then_some(key));
            if key % 7 == 0 {
                let at = set.find(&key).unwrap();
                set.change(at).there = true;
                set.change(at).state += 1;
            }
        }
        let mut found: Vec<_> = set.changed().map(|(at, &key)| (key, set.state(at).copied())).collect();
        found.sort_unstable();
        let expected: Vec<_> =
            (0..1_000).step_by(7).map(|key| (key, Some(if key % 3 == 0 { key + 1 } else { 1 }))).collect();
        assert_eq!(found, expected);
        set.written();
        assert_eq!(set.changed().count(), 0);
        assert_eq!(set.len(), 1_000);
        assert_eq!(set.find(&1_000), None);
        set.clear();
        assert_eq!(set.find(&7), None);
    }
}
