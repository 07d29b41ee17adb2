//! What a crash may make of the names that no sync of their directory has made
//! durable.

use std::collections::BTreeMap;

use super::directory::{Directory, EntryChange, put};
use super::disk::{Disk, Node, NodeId};

/// A name in a directory.
type Key = (NodeId, String);

/// The pending changes of each name, in order. How many of them survive is told
/// by a list of counts, one for each name: for each name the changes up to some
/// point survive.
#[derive(Clone, Debug)]
pub(super) struct Names(BTreeMap<Key, Vec<EntryChange>>);

impl Names {
    pub(super) fn pending(disk: &Disk) -> Self {
        let mut names: BTreeMap<Key, Vec<EntryChange>> = BTreeMap::new();
        for (id, directory) in directories(disk) {
            for change in &directory.pending {
                names.entry((id, change.name.clone())).or_default().push(change.clone());
            }
        }
        Self(names)
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = &[EntryChange]> {
        self.0.values().map(Vec::as_slice)
    }

    /// The nearest counts that can be: a rename's old name goes only if the new
    /// one came, so that a file never loses both.
    pub(super) fn possible(&self, mut counts: Vec<usize>) -> Vec<usize> {
        assert_eq!(counts.len(), self.0.len());
        while let Some((name, count)) = self.unmet(&counts) {
            assert!(count < counts[name], "every round takes a change away");
            counts[name] = count;
        }
        counts
    }

    /// A name that keeps the removal of a rename whose new name does not
    /// survive, and how many of its changes come before that removal.
    fn unmet(&self, counts: &[usize]) -> Option<(usize, usize)> {
        for (name, changes) in self.changes().enumerate() {
            for (count, change) in changes[..counts[name]].iter().enumerate() {
                let Some(needs) = &change.needs else {
                    continue;
                };
                let wanted = (needs.directory, needs.name.clone());
                // Not among the pending: durable already.
                let lost = self.0.iter().zip(counts).any(|((key, other), &kept)| {
                    *key == wanted && other[kept..].iter().any(|one| one.sequence == needs.sequence)
                });
                if lost {
                    return Some((name, count));
                }
            }
        }
        None
    }

    /// Makes the disk's directories what the counts say, durably.
    pub(super) fn settle(&self, disk: &mut Disk, counts: &[usize]) {
        assert_eq!(counts.len(), self.0.len());
        for (((id, name), changes), &kept) in self.0.iter().zip(counts) {
            for change in &changes[..kept] {
                put(&mut disk.directory_mut(*id).durable, name, change.entry);
            }
        }
        let ids: Vec<NodeId> = directories(disk).map(|(id, _)| id).collect();
        for id in ids {
            let directory = disk.directory_mut(id);
            directory.pending.clear();
            directory.cache = directory.durable.clone();
        }
    }
}

fn directories(disk: &Disk) -> impl Iterator<Item = (NodeId, &Directory)> {
    disk.nodes.iter().filter_map(|(id, node)| match node {
        Node::Directory(directory) => Some((*id, &**directory)),
        Node::File(_) => None,
    })
}
