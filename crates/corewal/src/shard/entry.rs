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

/// When the log is told of what is changed through an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logs {
    /// By the next commit.
    Later,
    /// When it is changed.
    AtOnce,
    /// It was, by [`Shard::log_put`] and [`Shard::log_delete`].
    Before,
}

/// A key of a shard, and its value if it has one; see [`Shard::entry`].
pub struct Entry<'s, S: Storage = FileStorage> {
    shard: &'s mut Shard<Keyed, S>,
    key: &'s [u8],
    found: Found,
    logs: Logs,
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
        Ok(Self { shard, key, found, logs: Logs::Later })
    }

    /// The value; `None` if the key has none.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Option<&[u8]> {
        self.shard.state.value(self.found)
    }

    /// Sets the value. The next commit logs it, unless that is done at once (see
    /// [`Entries::write_through`]).
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Parked`], [`Error::Latched`]: nothing is
    /// changed. [`Error::Io`] and [`Error::OutOfSpace`] as
    /// [`Shard::put`], if so many keys wait to be logged that some have to be:
    /// the value is set, and the commit tries again. If it is logged at once,
    /// nothing is changed.
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
        match self.logs {
            Logs::Later => self.change_unlogged(value),
            Logs::AtOnce => self.change_logged(value),
            Logs::Before => {
                self.shard.state.change(&mut self.found, self.key, value);
                Ok(())
            }
        }
    }

    #[inline]
    fn change_unlogged(&mut self, value: Option<&[u8]>) -> Result<()> {
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

    /// Changes it once the log has it. (What an earlier entry put may still have to
    /// be logged; then the commit logs what the key has by then.)
    #[inline]
    fn change_logged(&mut self, value: Option<&[u8]>) -> Result<()> {
        let Self { shard, key, found, .. } = self;
        if value.is_none() && !found.is_known() {
            return Ok(());
        }
        shard.log.append(|writer| match value {
            Some(value) => writer.put(key, value),
            None => writer.delete(key),
        })?;
        shard.state.change(found, key, value);
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
    logs: Logs,
}

impl<K, S: Storage> std::fmt::Debug for Entries<'_, K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("keys", &self.keys.len()).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<'s, K: AsRef<[u8]>, S: Storage> Entries<'s, K, S> {
    pub(super) fn new(shard: &'s mut Shard<Keyed, S>, keys: &'s [K]) -> Self {
        Self { shard, keys, taken: 0, found: [Found::default(); GROUP], logs: Logs::Later }
    }

    /// Has each change logged when it is made, not by the next commit: of a key that
    /// changes again before that, each change. Worth it where hardly any does, in
    /// a state that is larger than the caches: the commit need not load the keys
    /// from memory again. (What it gains stands in docs/TIMELY.md.)
    ///
    /// ```
    /// use corewal::{Commit, Options};
    ///
    /// # fn main() -> corewal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut opened = Options::new().cores(1).open(dir.path())?;
    /// let shard = &mut opened.shards[0];
    /// let before = shard.log().sequence();
    /// let mut seen = shard.entries(&["Ada", "Grace", "Ada"]).write_through();
    /// while let Some(name) = seen.next_entry() {
    ///     name?.put(b"yes")?;
    /// }
    /// assert_eq!(shard.log().sequence().0 - before.0, 3);
    /// shard.commit(&Commit::new())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn write_through(self) -> Self {
        Self { logs: Logs::AtOnce, ..self }
    }

    /// Has no change logged, since they all are: for who has the state follow what
    /// [`Shard::log_put`] and [`Shard::log_delete`] have logged. **Whatever else is
    /// changed so is lost** when the store is opened again.
    #[must_use]
    pub fn already_logged(self) -> Self {
        Self { logs: Logs::Before, ..self }
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
        let entry = Entry::new(self.shard, key, found);
        Some(entry.map(|entry| Entry { logs: self.logs, ..entry }))
    }
}
