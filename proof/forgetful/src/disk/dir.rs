//! A directory: its names, those that are durable, and each change since.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::Inode;

/// A change of names.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A new name.
    Link(OsString, Inode),
    /// One name less.
    Unlink(OsString, Inode),
    /// Another name, in the place of what had it.
    Rename(OsString, OsString, Inode),
}

/// A directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dir {
    pub(super) durable: BTreeMap<OsString, Inode>,
    pub(super) changes: Vec<Change>,
    names: BTreeMap<OsString, Inode>,
    /// How many changes are durable.
    settled: usize,
}

/// What a sync makes durable.
#[derive(Debug)]
pub(crate) struct Names {
    names: BTreeMap<OsString, Inode>,
    /// How many changes, from the first on.
    changes: usize,
}

impl Dir {
    /// One of which all is durable.
    pub(super) fn of(durable: BTreeMap<OsString, Inode>) -> Self {
        Self { names: durable.clone(), durable, ..Self::default() }
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<Inode> {
        self.names.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&OsStr, Inode)> {
        self.names.iter().map(|(name, inode)| (name.as_os_str(), *inode))
    }

    pub(super) fn link(&mut self, name: &OsStr, inode: Inode) {
        self.make(Change::Link(name.to_owned(), inode));
    }

    pub(super) fn unlink(&mut self, name: &OsStr) {
        let inode = self.names[name];
        self.make(Change::Unlink(name.to_owned(), inode));
    }

    pub(super) fn rename(&mut self, from: &OsStr, to: &OsStr) {
        let inode = self.names[from];
        self.make(Change::Rename(from.to_owned(), to.to_owned(), inode));
    }

    fn make(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// What a sync that begins now covers.
    pub(super) fn covered(&self) -> Names {
        Names { names: self.names.clone(), changes: self.settled + self.changes.len() }
    }

    /// What is covered is durable. What was changed meanwhile is not.
    pub(super) fn settle(&mut self, covered: Names) {
        // Unless a sync that began later has ended before.
        if let Some(new @ 1..) = covered.changes.checked_sub(self.settled) {
            self.changes.drain(..new);
            self.settled = covered.changes;
            self.durable = covered.names;
        }
    }
}

impl Change {
    /// Makes the change, also where one before it was not made.
    pub(super) fn apply(&self, names: &mut BTreeMap<OsString, Inode>) {
        match self {
            Self::Link(name, inode) => drop(names.insert(name.clone(), *inode)),
            Self::Unlink(name, inode) => Self::take(names, name, *inode),
            Self::Rename(from, to, inode) => {
                if from != to {
                    Self::take(names, from, *inode);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }

    /// The half of a rename that a crash can leave: both names (`rename(2)`).
    pub(super) fn apply_half(&self, names: &mut BTreeMap<OsString, Inode>) {
        match self {
            Self::Rename(_, to, inode) => drop(names.insert(to.clone(), *inode)),
            Self::Link(..) | Self::Unlink(..) => self.apply(names),
        }
    }

    fn take(names: &mut BTreeMap<OsString, Inode>, name: &OsStr, inode: Inode) {
        if names.get(name) == Some(&inode) {
            names.remove(name);
        }
    }
}
