//! One simulated directory: the entries that are seen, those the medium has,
//! and the changes between the two.

use std::collections::BTreeMap;

use super::disk::NodeId;

/// A change of one name that no sync of the directory has made durable yet.
#[derive(Clone, Debug)]
pub(super) struct EntryChange {
    /// When it was made, in the disk's order.
    pub(super) sequence: u64,
    pub(super) name: String,
    /// The entry from then on; `None` if there is none.
    pub(super) entry: Option<NodeId>,
    /// A rename takes the old name away only together with, or after, the
    /// appearance of the new one.
    pub(super) needs: Option<ChangeOf>,
}

/// Names one change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChangeOf {
    pub(super) directory: NodeId,
    pub(super) name: String,
    pub(super) sequence: u64,
}

/// A simulated directory. `pending` is in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) cache: BTreeMap<String, NodeId>,
    pub(super) durable: BTreeMap<String, NodeId>,
    pub(super) pending: Vec<EntryChange>,
}

impl Directory {
    /// A change is seen from now on.
    pub(super) fn change(&mut self, change: EntryChange) {
        debug_assert!(self.pending.last().is_none_or(|last| last.sequence < change.sequence));
        put(&mut self.cache, &change.name, change.entry);
        self.pending.push(change);
    }

    /// An entry that is seen and durable at once, whatever was pending for it.
    pub(super) fn settle(&mut self, name: &str, entry: Option<NodeId>) {
        self.pending.retain(|change| change.name != name);
        put(&mut self.cache, name, entry);
        put(&mut self.durable, name, entry);
    }

    /// The pending changes of one name up to `sequence`, taken out, in order.
    pub(super) fn take(&mut self, name: &str, sequence: u64) -> Vec<EntryChange> {
        self.pending.extract_if(.., |change| change.name == name && change.sequence <= sequence).collect()
    }

    /// As [`Disk::same_after_power`](super::disk::Disk::same_after_power).
    pub(super) fn same_after_power(&self, other: &Self) -> bool {
        let same = |(one, other): (&EntryChange, &EntryChange)| one.sequence == other.sequence;
        let pending = self.pending.len() == other.pending.len() && self.pending.iter().zip(&other.pending).all(same);
        pending && self.durable == other.durable
    }

    /// Every file or directory that an entry leads to, may lead to again
    /// after a crash, or would after the next sync.
    pub(super) fn referred(&self) -> impl Iterator<Item = NodeId> {
        let seen = self.cache.values().chain(self.durable.values()).copied();
        seen.chain(self.pending.iter().filter_map(|change| change.entry))
    }
}

/// Sets or removes one entry.
pub(super) fn put(entries: &mut BTreeMap<String, NodeId>, name: &str, entry: Option<NodeId>) {
    match entry {
        Some(node) => drop(entries.insert(name.to_owned(), node)),
        None => drop(entries.remove(name)),
    }
}
