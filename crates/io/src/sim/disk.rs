//! The whole simulated disk as a value: cheap to clone, so that it can be kept
//! as it was at every step.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::directory::{ChangeOf, Directory, EntryChange};
use super::file::FileNode;

/// Names a file or directory for as long as anything refers to it.
pub(super) type NodeId = u64;

/// The directory that is always there.
pub(super) const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Directory(Arc<Directory>),
}

/// Names an operation in flight: the write path and its token.
pub(super) type Flight = (u64, u64);

/// An operation that was submitted and has not completed.
#[derive(Clone, Debug)]
pub(super) enum InFlight {
    Write {
        node: NodeId,
        offset: u64,
        bytes: Arc<[u8]>,
        data_sync: bool,
    },
    Sync {
        node: NodeId,
        /// The last change that had completed when the sync was submitted.
        upto: u64,
    },
}

impl InFlight {
    pub(super) fn node(&self) -> NodeId {
        match self {
            Self::Write { node, .. } | Self::Sync { node, .. } => *node,
        }
    }
}

/// The disk. Maps are ordered, so that nothing depends on a hash's seed.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) step: u64,
    /// The last change that completed, of content and of entries.
    pub(super) sequence: u64,
    next_node: NodeId,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) in_flight: BTreeMap<Flight, InFlight>,
}

impl Disk {
    pub(super) fn new() -> Self {
        let root = Node::Directory(Arc::new(Directory::default()));
        Self {
            step: 0,
            sequence: 0,
            next_node: ROOT + 1,
            nodes: BTreeMap::from([(ROOT, root)]),
            in_flight: BTreeMap::new(),
        }
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn file(&self, node: NodeId) -> &FileNode {
        match &self.nodes[&node] {
            Node::File(file) => file,
            Node::Directory(_) => unreachable!("node {node} is a directory"),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> &mut FileNode {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Arc::make_mut(file),
            _ => unreachable!("node {node} is no file"),
        }
    }

    pub(super) fn directory(&self, node: NodeId) -> &Directory {
        match &self.nodes[&node] {
            Node::Directory(directory) => directory,
            Node::File(_) => unreachable!("node {node} is a file"),
        }
    }

    pub(super) fn directory_mut(&mut self, node: NodeId) -> &mut Directory {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Arc::make_mut(directory),
            _ => unreachable!("node {node} is no directory"),
        }
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.nodes[&node], Node::Directory(_))
    }

    /// What a path leads to.
    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        names(path).try_fold(ROOT, |node, name| {
            if !self.is_directory(node) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let entry = self.directory(node).cache.get(&*name?);
            Ok(*entry.ok_or(io::ErrorKind::NotFound)?)
        })
    }

    /// The file a path leads to.
    pub(super) fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        if self.is_directory(node) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(node)
    }

    /// The directory a path leads to.
    pub(super) fn find_directory(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        if self.is_directory(node) { Ok(node) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// The directory that a path's last name is in, and that name.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = names(path).last().ok_or(io::ErrorKind::InvalidInput)??.into_owned();
        Ok((self.find_directory(path.parent().unwrap_or(path))?, name))
    }

    /// As [`Disk::parent`], for a name that must be free.
    pub(super) fn free_name(&self, path: &Path) -> io::Result<(NodeId, String)> {
        if names(path).next().is_none() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (directory, name) = self.parent(path)?;
        if self.directory(directory).cache.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok((directory, name))
    }

    pub(super) fn add_node(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        let old = self.nodes.insert(id, node);
        assert!(old.is_none());
        id
    }

    /// Adds a file or directory under a free name.
    pub(super) fn link(&mut self, directory: NodeId, name: &str, node: Node) -> NodeId {
        let id = self.add_node(node);
        self.change_entry(directory, name, Some(id), None);
        id
    }

    /// Changes what one name leads to, not yet durably.
    pub(super) fn change_entry(
        &mut self,
        directory: NodeId,
        name: &str,
        entry: Option<NodeId>,
        needs: Option<ChangeOf>,
    ) -> u64 {
        let sequence = self.next_sequence();
        let name = name.to_owned();
        self.directory_mut(directory).change(EntryChange { sequence, name, entry, needs });
        sequence
    }

    /// Renames: the new name first, and the old one goes with it or later.
    pub(super) fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str)) {
        let node = self.directory(from.0).cache[from.1];
        let sequence = self.change_entry(to.0, to.1, Some(node), None);
        let needs = ChangeOf { directory: to.0, name: to.1.to_owned(), sequence };
        self.change_entry(from.0, from.1, None, Some(needs));
    }

    /// Makes every entry of a directory durable, and with the old name of a
    /// rename also the new one, wherever it is: a journal holds them together.
    pub(super) fn sync_directory(&mut self, directory: NodeId) {
        let pending = &self.directory(directory).pending;
        let names: BTreeSet<String> = pending.iter().map(|change| change.name.clone()).collect();
        for name in names {
            self.sync_entry(directory, &name, u64::MAX);
        }
        debug_assert!(self.directory(directory).pending.is_empty());
    }

    /// Makes the changes of one name up to `sequence` durable. Each recursion
    /// is about older changes, so it ends.
    fn sync_entry(&mut self, directory: NodeId, name: &str, sequence: u64) {
        for change in self.directory_mut(directory).take(name, sequence) {
            if let Some(needs) = &change.needs {
                debug_assert!(needs.sequence < change.sequence);
                self.sync_entry(needs.directory, &needs.name, needs.sequence);
            }
            let durable = &mut self.directory_mut(directory).durable;
            super::directory::put(durable, name, change.entry);
        }
    }

    /// Whether a power cut can leave of this disk just what it can leave of
    /// another moment of it; `false` where that takes more than a look.
    pub(super) fn same_after_power(&self, other: &Self) -> bool {
        let same_node = |(id, node): (&NodeId, &Node)| match (node, other.nodes.get(id)) {
            (Node::File(one), Some(Node::File(other))) => one.durable.is_shared_with(&other.durable),
            (Node::Directory(one), Some(Node::Directory(other))) => one.same_after_power(other),
            _ => false,
        };
        // Which of the writes in flight completes first is not decided yet.
        let undecided = |disk: &Self| super::crash::undecided(disk, |_| {});
        self.nodes.len() == other.nodes.len() && self.nodes.iter().all(same_node) && undecided(self) == undecided(other)
    }

    /// The bytes of all files that a path leads to.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut used = 0;
        self.walk(|_, node| {
            if let Node::File(file) = node {
                used += file.cache.len();
            }
        });
        used
    }

    /// The paths of all files, in order.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.walk(|path, node| {
            if matches!(node, Node::File(_)) {
                files.push(path.to_path_buf());
            }
        });
        debug_assert!(files.is_sorted());
        files
    }

    /// Calls `visit` with everything that a path leads to, in the order of the
    /// paths.
    fn walk(&self, mut visit: impl FnMut(&Path, &Node)) {
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = open.pop() {
            let node = &self.nodes[&id];
            visit(&path, node);
            if let Node::Directory(directory) = node {
                // What comes first is taken from the end.
                let entries = directory.cache.iter().rev();
                open.extend(entries.map(|(name, entry)| (path.join(name), *entry)));
            }
        }
    }

    /// Forgets what nothing leads to any more, now or after a crash; `held`
    /// are the files somebody has open.
    pub(super) fn collect(&mut self, held: &BTreeSet<NodeId>) {
        let at = |id: NodeId| usize::try_from(id).expect("a disk of few nodes");
        let mut live = vec![false; at(self.next_node)];
        for id in held.iter().copied().chain(self.in_flight.values().map(InFlight::node)) {
            live[at(id)] = true;
        }
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if !std::mem::replace(&mut live[at(id)], true) && self.is_directory(id) {
                open.extend(self.directory(id).referred());
            }
        }
        self.nodes.retain(|id, _| live[at(*id)]);
        assert!(self.nodes.contains_key(&ROOT));
    }

    /// Puts a file on the medium at once, with the directories above it.
    pub(super) fn settle_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let names: Vec<_> = names(path).collect::<io::Result<_>>()?;
        let Some((name, above)) = names.split_last() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut directory = ROOT;
        for name in above {
            directory = match self.directory(directory).cache.get(&**name).copied() {
                Some(node) if self.is_directory(node) => {
                    self.sync_entry(directory, name, u64::MAX);
                    node
                }
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let node = self.add_node(Node::Directory(Arc::default()));
                    self.directory_mut(directory).settle(name, Some(node));
                    node
                }
            };
        }
        let settled = FileNode::settled(Content::from_bytes(bytes));
        match self.directory(directory).cache.get(&**name).copied() {
            Some(node) if self.is_directory(node) => return Err(io::ErrorKind::IsADirectory.into()),
            // The same file, so that whoever has it open sees the bytes.
            Some(node) => {
                *self.file_mut(node) = settled;
                self.sync_entry(directory, name, u64::MAX);
            }
            None => {
                let node = self.add_node(Node::File(Arc::new(settled)));
                self.directory_mut(directory).settle(name, Some(node));
            }
        }
        Ok(())
    }

    /// Takes a file from the medium at once.
    pub(super) fn remove_settled(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let (directory, name) = self.parent(path)?;
        self.sync_entry(directory, &name, u64::MAX);
        self.directory_mut(directory).settle(&name, None);
        Ok(())
    }
}

/// The names a path consists of, from the root on: absolute and relative paths
/// are the same here.
fn names(path: &Path) -> impl Iterator<Item = io::Result<Cow<'_, str>>> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Ok(name.to_string_lossy())),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        Component::ParentDir => {
            Some(Err(io::Error::new(io::ErrorKind::InvalidInput, "the simulated disk has no `..`")))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(name: &str) -> (Disk, NodeId) {
        let mut disk = Disk::new();
        let node = disk.link(ROOT, name, Node::File(Arc::default()));
        (disk, node)
    }

    #[test]
    fn absolute_and_relative_paths_are_the_same() {
        let (disk, node) = disk_with("a");
        assert_eq!(disk.find(Path::new("/a")).unwrap(), node);
        assert_eq!(disk.find(Path::new("./a")).unwrap(), node);
        assert_eq!(disk.find(Path::new("a")).unwrap(), node);
        assert_eq!(disk.find(Path::new("/")).unwrap(), ROOT);
        let error = disk.find(Path::new("../a")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn syncing_the_old_directory_of_a_rename_makes_the_new_name_durable_too() {
        let (mut disk, node) = disk_with("a");
        let other = disk.link(ROOT, "d", Node::Directory(Arc::default()));
        disk.sync_directory(ROOT);
        disk.rename((ROOT, "a"), (other, "b"));
        disk.sync_directory(ROOT);
        assert!(!disk.directory(ROOT).durable.contains_key("a"));
        assert_eq!(disk.directory(other).durable.get("b"), Some(&node));
    }

    #[test]
    fn a_rename_there_and_back_syncs_in_order() {
        let (mut disk, node) = disk_with("a");
        disk.rename((ROOT, "a"), (ROOT, "b"));
        disk.rename((ROOT, "b"), (ROOT, "a"));
        disk.sync_directory(ROOT);
        let durable = &disk.directory(ROOT).durable;
        assert_eq!(durable.iter().collect::<Vec<_>>(), [(&"a".to_owned(), &node)]);
    }

    #[test]
    fn what_nothing_leads_to_is_forgotten_and_the_rest_kept() {
        let (mut disk, node) = disk_with("a");
        disk.sync_directory(ROOT);
        disk.change_entry(ROOT, "a", None, None);
        disk.collect(&BTreeSet::new());
        assert!(disk.nodes.contains_key(&node), "still durable");
        disk.sync_directory(ROOT);
        disk.collect(&BTreeSet::from([node]));
        assert!(disk.nodes.contains_key(&node), "still open");
        disk.collect(&BTreeSet::new());
        assert!(!disk.nodes.contains_key(&node));
    }
}
