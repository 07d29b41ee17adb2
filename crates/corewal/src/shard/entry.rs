//! Entries: keys that were looked for once, to be read and changed.

use corewal_format::{MAX_KEY_LEN, MAX_VALUE_LEN};
use corewal_io::{FileStorage, Storage};

use super::Shard;
use crate::error::{Error, Result};
use crate::state::{Found, GROUP, Keyed};
use crate::writer::within;

/// Keys whose changes wait for the commit at most: so few that what is logged
/// then is still in the caches, and takes little time.
const UNLOGGED_MAX: usize = 16 << 10;

/// A key of a shard, and its value if it has one; see [`Shard::entry`].
pub struct Entry<'s, S: Storage = FileStorage> {
    shard: &'s mut Shard<Keyed, S>,
    key: &'s [u8],
    found: Found,
}

impl<S: Storage> std::fmt::Debug for Entry<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).field("value", &self.get()).finish_non_exhaustive()
    }
}

impl<'s, S: Storage> Entry<'s, S> {
    #[inline]
    pub(super) fn new(shard: &'s mut Shard<Keyed, S>, key: &'s [u8], found: Found) -> Result<Self> {
        if !found.is_known() {
            // What is known was looked at when it was new.
            within("the key", key.len(), MAX_KEY_LEN)?;
            shard.owned(key)?;
        }
        Ok(Self { shard, key, found })
    }

    /// The value; `None` if the key has none.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Option<&[u8]> {
        self.shard.state.value(self.found)
    }

    /// Sets the value. The next commit logs it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Parked`], [`Error::Latched`]: nothing is
    /// changed. [`Error::Io`] and [`Error::OutOfSpace`] as
    /// [`Shard::put`], if so many keys wait to be logged that some have to be:
    /// the value is set, and the commit tries again.
    #[inline]
    pub fn put(&mut self, value: &[u8]) -> Result<()> {
        within("the value", value.len(), MAX_VALUE_LEN)?;
        self.change(Some(value))
    }

    /// Removes the key. Removing one that is not there is no error.
    ///
    /// # Errors
    /// As [`Entry::put`].
    #[inline]
    pub fn delete(&mut self) -> Result<()> {
        self.change(None)
    }

    #[inline]
    fn change(&mut self, value: Option<&[u8]>) -> Result<()> {
        if self.shard.log.parked {
            return Err(Error::Parked);
        }
        self.shard.log.writer.open_batch()?;
        if self.shard.state.change_unlogged(&mut self.found, self.key, value) >= UNLOGGED_MAX {
            self.shard.log_all()?;
            // Removed keys may have gone altogether.
            self.found = self.shard.state.look(self.key);
        }
        Ok(())
    }
}

/// Entries of several keys; see [`Shard::entries`].
pub struct Entries<'s, K, S: Storage = FileStorage> {
    shard: &'s mut Shard<Keyed, S>,
    keys: &'s [K],
    /// How many keys the caller has had.
    taken: usize,
    /// What was found of the group of keys that is at hand.
    found: [Found; GROUP],
}

impl<K, S: Storage> std::fmt::Debug for Entries<'_, K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("keys", &self.keys.len()).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<'s, K: AsRef<[u8]>, S: Storage> Entries<'s, K, S> {
    pub(super) fn new(shard: &'s mut Shard<Keyed, S>, keys: &'s [K]) -> Self {
        Self { shard, keys, taken: 0, found: [Found::default(); GROUP] }
    }

    /// The entry of the next key, in the order in which they were given; `None`
    /// behind the last. A key that was given twice has what was put the first
    /// time.
    ///
    /// # Errors
    /// As [`Shard::entry`], for this key alone: the next call is about the next.
    #[inline]
    pub fn next_entry(&mut self) -> Option<Result<Entry<'_, S>>> {
        let rest = &self.keys[self.taken..];
        let key = rest.first()?.as_ref();
        let at = self.taken % GROUP;
        if at == 0 {
            self.found = self.shard.state.look_together(rest.iter().map(AsRef::as_ref));
        }
        self.taken += 1;
        let found = self.shard.state.confirm(self.found[at], key);
        Some(Entry::new(self.shard, key, found))
    }
}
