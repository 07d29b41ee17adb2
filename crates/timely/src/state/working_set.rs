//! States in memory, by key, with what has changed since it was written.

use std::hash::{BuildHasher, Hash};
use std::hint::black_box;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The state of a key.
pub(super) struct Kept<K, S> {
    pub(super) key: K,
    /// What `S` is by default, if the key is not there.
    pub(super) state: S,
    /// Whether the key is there.
    pub(super) there: bool,
    /// What the log says of it.
    pub(super) logged: Logged,
    changed: bool,
    /// The shard does not have what the log says.
    pub(super) ahead: bool,
    /// It is in the list of those.
    listed: bool,
}

/// What the log says of a key, where it can be remembered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    Absent,
    Short {
        len: u8,
        bytes: [u8; SHORT],
    },
    /// More than can be remembered.
    Long,
}

/// Bytes that are remembered at most: those of a number, or of two.
const SHORT: usize = 16;

impl Logged {
    #[inline]
    pub(super) fn of(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::Absent };
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..value.len()) {
            Some(short) => short.copy_from_slice(value),
            None => return Self::Long,
        }
        Self::Short { len: u8::try_from(value.len()).expect("no more than SHORT"), bytes }
    }

    /// What the key has; nothing if it is not known, which is not asked for.
    #[inline]
    pub(super) fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Short { len, bytes } => Some(&bytes[..usize::from(*len)]),
            Self::Absent | Self::Long => None,
        }
    }
}

/// States of some keys. None leaves alone: all do.
pub(super) struct WorkingSet<K, S> {
    kept: HashTable<Kept<K, S>>,
    hasher: RandomState,
    /// Where those are that have changed. A place is good until the table grows.
    changed: Vec<usize>,
    /// And those, perhaps, of which the log says more than the shard.
    ahead: Vec<usize>,
}

impl<K: Hash + Eq, S> WorkingSet<K, S> {
    pub(super) fn new() -> Self {
        Self { kept: HashTable::new(), hasher: RandomState::default(), changed: Vec::new(), ahead: Vec::new() }
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

    /// Adds a key that it does not have, as it is in the log and the shard.
    pub(super) fn insert(&mut self, key: K, state: Option<S>, logged: Logged)
    where
        S: Default,
    {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&key);
        let (there, state) = (state.is_some(), state.unwrap_or_default());
        let grows = self.kept.len() == self.kept.capacity();
        let kept = Kept { key, state, there, logged, changed: false, ahead: false, listed: false };
        self.kept.insert_unique(hash, kept, |kept| hasher.hash_one(&kept.key));
        if grows {
            let changed = self.places(|kept| kept.changed);
            debug_assert_eq!(self.changed.len(), changed.len());
            (self.changed, self.ahead) = (changed, self.places(|kept| kept.listed));
        }
    }

    /// Where those are that are so.
    fn places(&self, are: impl Fn(&Kept<K, S>) -> bool) -> Vec<usize> {
        (0..self.kept.num_buckets()).filter(|&at| self.kept.get_bucket(at).is_some_and(&are)).collect()
    }

    /// Where those are that have changed since they were written: each is to be
    /// written next.
    pub(super) fn take_changed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.changed)
    }

    /// Gives the list back, to be filled again.
    pub(super) fn put_back(&mut self, mut places: Vec<usize>) {
        debug_assert!(self.changed.is_empty(), "nothing changes meanwhile");
        places.clear();
        self.changed = places;
    }

    /// Where those are of which the log says more than the shard: each is to be
    /// stored next.
    pub(super) fn take_ahead(&mut self) -> Vec<usize> {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.retain(|&at| {
            let kept = self.kept.get_bucket_mut(at).expect("it was logged there");
            kept.listed = false;
            kept.ahead
        });
        ahead
    }

    /// Whether all that has changed is written.
    pub(super) fn is_written(&self) -> bool {
        self.changed.is_empty()
    }

    /// A state, to be looked at.
    #[inline]
    pub(super) fn get(&self, at: usize) -> &Kept<K, S> {
        self.kept.get_bucket(at).expect("it was found there")
    }

    /// Loads states from memory.
    pub(super) fn load<'p>(&self, places: impl Iterator<Item = &'p usize>) {
        black_box(places.fold(false, |seen, &at| seen ^ self.get(at).changed));
    }

    /// It is as it stands in the log.
    #[inline]
    pub(super) fn written(&mut self, at: usize) {
        self.kept.get_bucket_mut(at).expect("it was found there").changed = false;
    }

    /// The log says so, and the shard does not yet.
    #[inline]
    pub(super) fn logged(&mut self, at: usize, logged: Logged) {
        let kept = self.kept.get_bucket_mut(at).expect("it was found there");
        assert!(logged != Logged::Long, "the shard is to have from here what it is");
        (kept.logged, kept.ahead) = (logged, true);
        if !std::mem::replace(&mut kept.listed, true) {
            self.ahead.push(at);
        }
    }

    /// The log says so, and the shard as well.
    pub(super) fn stored(&mut self, at: usize, logged: Logged) {
        let kept = self.kept.get_bucket_mut(at).expect("it was found there");
        (kept.logged, kept.ahead) = (logged, false);
    }

    /// A key is not there any more, neither in the log nor in the shard.
    pub(super) fn forget(&mut self, key: &K)
    where
        S: Default,
    {
        if let Some(at) = self.find(key) {
            let kept = self.kept.get_bucket_mut(at).expect("it was found there");
            (kept.there, kept.state, kept.logged) = (false, S::default(), Logged::Absent);
        }
    }

    /// Forgets all states.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.changed.is_empty() && self.ahead.is_empty(), "the shard has all");
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that have changed and those that are ahead of the shard.
    fn lists(set: &mut WorkingSet<u64, u64>) -> [Vec<u64>; 2] {
        [set.take_changed(), set.take_ahead()].map(|places| {
            let mut keys: Vec<_> = places.iter().map(|&at| set.get(at).key).collect();
            keys.sort_unstable();
            keys
        })
    }

    #[test]
    fn what_has_changed_and_what_is_ahead_is_known_however_much_is_inserted_meanwhile() {
        let mut set = WorkingSet::new();
        for key in 0..1_000_u64 {
            set.insert(key, (key % 3 == 0).then_some(key), Logged::Absent);
            let at = set.find(&key).unwrap();
            if key % 7 == 0 {
                set.change(at).there = true;
                set.change(at).state += 1;
            }
            if key % 5 == 0 {
                set.logged(at, Logged::of(Some(b"5")));
            }
            if key % 10 == 0 {
                set.stored(at, Logged::Long);
            }
        }
        let logged = |key: u64| set.get(set.find(&key).unwrap()).logged;
        assert_eq!([7, 5, 10].map(logged), [Logged::Absent, Logged::of(Some(b"5")), Logged::Long]);
        let [changed, ahead] = lists(&mut set);
        assert_eq!(changed, (0..1_000).step_by(7).collect::<Vec<_>>());
        assert_eq!(ahead, (5..1_000).step_by(10).collect::<Vec<_>>());
        assert!(set.is_written());
        assert_eq!((set.len(), set.find(&1_000)), (1_000, None));
        set.clear();
        assert_eq!(set.find(&7), None);
    }

    /// A state that is now short, now long, would have been in the list once more each
    /// time.
    #[test]
    fn what_is_ahead_again_and_again_is_listed_once() {
        let mut set = WorkingSet::new();
        set.insert(1_u64, None::<u64>, Logged::Absent);
        let at = set.find(&1).unwrap();
        for _ in 0..3 {
            for _ in 0..5 {
                set.stored(at, Logged::Long);
                set.logged(at, Logged::of(Some(b"short")));
            }
            assert_eq!(set.ahead.len(), 1);
            assert_eq!(set.take_ahead(), [at]);
        }
    }

    #[test]
    fn what_the_log_says_is_remembered_if_it_is_short() {
        let kept = |value: &[u8]| Logged::of(Some(value)).value() == Some(value);
        assert!(kept(b"") && kept(&[0]) && kept(&[7; SHORT]));
        assert_ne!(Logged::of(Some(&[0])), Logged::of(Some(&[0, 0])));
        assert_eq!(Logged::of(Some(&[7; SHORT + 1])), Logged::Long);
        assert_eq!(Logged::of(None), Logged::Absent);
    }
}
