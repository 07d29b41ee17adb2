//! The states of one operator: all of them in the shard; in memory some, as they are.
//!
//! What has changed in memory is logged when an epoch ends. The shard follows when a
//! state leaves the memory, or all are looked at: the search for a key that changes
//! in each epoch would cost more than all else that is done with it then.

use std::hash::Hash;
use std::vec::Drain;

use corewal::{Entry, Shard};

use super::group::{AT_ONCE, Group};
use super::stored::Stored;
use super::working_set::{Logged, WorkingSet};
use crate::error::{Error, Result};

/// States in memory, at most: of a few bytes each, some 20 MiB. With a quarter of
/// that, counting 200,000 keys took twice the time.
pub(super) const KEPT_MAX: usize = 1 << 18;

/// Where a state in memory was not found again as often as this before it had to
/// make room, looking for it there costs more than it saves.
const WORTH_KEEPING: usize = 2;

/// For so many times as many records as there are states in memory at most it is
/// not tried again.
const PAST_MEMORY: usize = if cfg!(test) { 2 } else { 32 };

pub(super) struct States<K, S> {
    name: String,
    set: WorkingSet<K, S>,
    kept_max: usize,
    /// Records that were taken since there was nothing in memory.
    taken: usize,
    /// Records that are to be taken past the memory.
    past: usize,
    /// Buffers that are used again and again.
    group: Group,
    key: Vec<u8>,
    bytes: Vec<u8>,
}

impl<K, S> States<K, S>
where
    K: Stored + Hash + Eq + Clone,
    S: Stored + Default,
{
    pub(super) fn new(name: &str, kept_max: usize) -> Self {
        Self {
            name: name.to_owned(),
            set: WorkingSet::new(),
            kept_max: kept_max.max(AT_ONCE),
            taken: 0,
            past: 0,
            group: Group::new(&super::prefix(name)),
            key: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Has `fold` change the state of each record's key, or remove it, where it
    /// says so. Leaves no records.
    pub(super) fn apply<V>(
        &mut self,
        shard: &mut Shard,
        records: &mut Vec<(K, V)>,
        mut fold: impl FnMut(&K, V, &mut S) -> bool,
    ) -> Result<()> {
        let mut records = records.drain(..);
        while let Some((key, _)) = records.as_slice().first() {
            if self.past > 0 {
                self.apply_past_memory(shard, &mut records, &mut fold)?;
            } else if let Some(at) = self.set.find(key) {
                let (key, value) = records.next().expect("it was looked at");
                self.taken += 1;
                let kept = self.set.change(at);
                kept.there = !fold(&key, value, &mut kept.state);
                if !kept.there {
                    kept.state = S::default();
                }
            } else {
                self.load(shard, records.as_slice())?;
            }
        }
        Ok(())
    }

    /// Logs what has changed.
    pub(super) fn write(&mut self, shard: &mut Shard) -> Result<()> {
        let prefix = super::prefix(&self.name);
        let (changed, mut long) = (self.set.take_changed(), Vec::new());
        for (number, &at) in changed.iter().enumerate() {
            if number % AT_ONCE == 0 {
                // Their waits for memory overlap.
                self.set.load(changed[number..].iter().take(AT_ONCE));
            }
            self.set.written(at);
            let kept = self.set.get(at);
            let value = bytes_of(kept.there.then_some(&kept.state), &mut self.bytes);
            let now = Logged::of(value);
            if now == Logged::Long || kept.logged == Logged::Long {
                long.push(at);
            } else if now != kept.logged {
                self.key.clear();
                self.key.extend_from_slice(&prefix);
                kept.key.write(&mut self.key);
                match value {
                    Some(value) => shard.log_put(&self.key, value)?,
                    None => shard.log_delete(&self.key)?,
                }
                self.set.logged(at, now);
            }
        }
        self.set.put_back(changed);
        for places in long.chunks(AT_ONCE) {
            self.write_long(shard, places)?;
        }
        Ok(())
    }

    /// Writes states that are too long to be known from before: whether they are as
    /// they were is seen in the shard, which is to have them.
    fn write_long(&mut self, shard: &mut Shard, places: &[usize]) -> Result<()> {
        self.group_of(places);
        let mut entries = shard.entries(self.group.keys()).write_through();
        for &at in places {
            let mut entry = entries.next_entry().expect("one for each")?;
            let kept = self.set.get(at);
            let value = bytes_of(kept.there.then_some(&kept.state), &mut self.bytes);
            if kept.ahead || entry.get() != value {
                set(&mut entry, value)?;
            }
            self.set.stored(at, Logged::of(value));
        }
        Ok(())
    }

    /// Makes the keys of these places, as the shard has them, the group.
    fn group_of(&mut self, places: &[usize]) {
        self.group.clear();
        for &at in places {
            self.group.add(|bytes| self.set.get(at).key.write(bytes));
        }
    }

    /// Has the shard follow the log. Only where all that has changed is logged.
    fn store(&mut self, shard: &mut Shard) -> Result<()> {
        debug_assert!(self.set.is_written(), "what has changed is written before");
        for places in self.set.take_ahead().chunks(AT_ONCE) {
            self.group_of(places);
            let mut entries = shard.entries(self.group.keys()).already_logged();
            for &at in places {
                let mut entry = entries.next_entry().expect("one for each")?;
                let logged = self.set.get(at).logged;
                set(&mut entry, logged.value())?;
                self.set.stored(at, logged);
            }
        }
        Ok(())
    }

    /// Removes states in the order of their keys' bytes, as long as they are `wanted`,
    /// and gives them to `take`. Only where all that has changed is logged.
    pub(super) fn take_while(
        &mut self,
        shard: &mut Shard,
        wanted: impl Fn(&K) -> bool,
        mut take: impl FnMut(K, S),
    ) -> Result<()> {
        self.store(shard)?;
        let prefix = super::prefix(&self.name);
        let mut taken = Vec::new();
        for (stored, state) in shard.scan(&prefix) {
            let failed =
                |source| Error::State { name: self.name.clone(), key: stored[prefix.len()..].to_vec(), source };
            let key = K::read(&stored[prefix.len()..]).map_err(failed)?;
            if !wanted(&key) {
                break;
            }
            taken.push((stored.to_vec(), key, S::read(state).map_err(failed)?));
        }
        for (stored, key, state) in taken {
            shard.entry(&stored)?.delete()?;
            self.set.forget(&key);
            take(key, state);
        }
        Ok(())
    }

    /// Takes the states of the first of these records into memory.
    fn load<V>(&mut self, shard: &mut Shard, records: &[(K, V)]) -> Result<()> {
        if self.set.len() + AT_ONCE > self.kept_max {
            self.make_room(shard)?;
            if self.past > 0 {
                return Ok(());
            }
        }
        let (mut missing, mut count) = ([None; AT_ONCE], 0);
        self.group.clear();
        for (key, _) in records.iter().take(AT_ONCE) {
            if self.set.find(key).is_none() {
                self.group.add(|bytes| key.write(bytes));
                missing[count] = Some(key);
                count += 1;
            }
        }
        let mut entries = shard.entries(self.group.keys());
        for key in missing.into_iter().flatten() {
            let entry = entries.next_entry().expect("one for each")?;
            let state = read(&self.name, key, &entry)?;
            // It may be there twice.
            if self.set.find(key).is_none() {
                self.set.insert(key.clone(), state, Logged::of(entry.get()));
            }
        }
        Ok(())
    }

    /// Has all leave, so that nothing has to be kept of which was wanted when: those
    /// that are wanted often are back soon.
    fn make_room(&mut self, shard: &mut Shard) -> Result<()> {
        self.write(shard)?;
        self.store(shard)?;
        if self.taken < self.set.len() * WORTH_KEEPING {
            self.past = self.kept_max * PAST_MEMORY;
        }
        self.taken = 0;
        self.set.clear();
        Ok(())
    }

    /// Takes some records on the shard itself, which logs them at once: hardly any of
    /// their keys will change again in this epoch.
    fn apply_past_memory<V>(
        &mut self,
        shard: &mut Shard,
        records: &mut Drain<'_, (K, V)>,
        fold: &mut impl FnMut(&K, V, &mut S) -> bool,
    ) -> Result<()> {
        let count = records.len().min(AT_ONCE).min(self.past);
        self.past -= count;
        self.group.clear();
        for (key, _) in &records.as_slice()[..count] {
            self.group.add(|bytes| key.write(bytes));
        }
        let mut entries = shard.entries(self.group.keys()).write_through();
        for (key, value) in records.take(count) {
            let entry = entries.next_entry().expect("one for each")?;
            let mut state = read(&self.name, &key, &entry)?.unwrap_or_default();
            let removed = fold(&key, value, &mut state);
            put(entry, (!removed).then_some(&state), &mut self.bytes)?;
        }
        Ok(())
    }
}

/// The state of a key; none if it is not there.
#[inline]
fn read<K: Stored, S: Stored>(name: &str, key: &K, entry: &Entry<'_>) -> Result<Option<S>> {
    entry.get().map(S::read).transpose().map_err(|source| {
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        Error::State { name: name.to_owned(), key: bytes, source }
    })
}

/// Puts a state or removes it, unless that is how it stands there.
#[inline]
fn put<S: Stored>(mut entry: Entry<'_>, state: Option<&S>, bytes: &mut Vec<u8>) -> Result<()> {
    let wanted = bytes_of(state, bytes);
    if entry.get() == wanted { Ok(()) } else { set(&mut entry, wanted) }
}

/// A state as it stands in the store.
#[inline]
fn bytes_of<'b, S: Stored>(state: Option<&S>, bytes: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    bytes.clear();
    state.map(|state| {
        state.write(bytes);
        &bytes[..]
    })
}

#[inline]
fn set(entry: &mut Entry<'_>, value: Option<&[u8]>) -> Result<()> {
    Ok(match value {
        Some(value) => entry.put(value),
        None => entry.delete(),
    }?)
}

#[cfg(test)]
mod tests;
