//! An entry: a key that was looked for once, to be read and changed.

use corewal_format::{MAX_KEY_LEN, MAX_VALUE_LEN};
use corewal_io::{FileStorage, Storage};

use super::Shard;
use crate::error::{Error, Result};
use crate::state::{Found, Keyed};
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
    pub(super) fn new(shard: &'s mut Shard<Keyed, S>, key: &'s [u8]) -> Result<Self> {
        let found = shard.state.look(key);
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
