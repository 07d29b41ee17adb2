//! The disk: files and names, what of them is durable, and what is pending.
//!
//! Nothing here knows of FUSE; [`serve`](crate::serve) is its face.

mod crash;
mod dir;
mod fault;
mod file;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;

use fuser::Errno;

pub(crate) use self::crash::Survive;
use self::dir::{Dir, Names};
pub(crate) use self::fault::{Fault, On, Pages, Struck, Where};
use self::fault::{Faults, Verdict};
use self::file::{Covered, File};

/// Answers as a file system does.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Names a file or directory for as long as the disk lives.
pub(crate) type Inode = u64;

/// The directory that holds all else.
pub(crate) const ROOT: Inode = 1;

/// What stands under a number.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A file.
    File(File),
    /// A directory.
    Dir(Dir),
}

/// A sync under way, and what it covers.
#[derive(Debug)]
pub(crate) enum Sync {
    File(Inode, Covered),
    Dir(Inode, Names),
}

/// What was asked of the disk since it was mounted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) durable_writes: u64,
    pub(crate) short_writes: u64,
    pub(crate) syncs: u64,
    pub(crate) dir_syncs: u64,
    pub(crate) failed: u64,
}

/// A disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    nodes: BTreeMap<Inode, Node>,
    next: Inode,
    /// Without it nothing is done, and nothing becomes durable.
    power: bool,
    /// Syncs say that they are done and do nothing.
    lies: bool,
    faults: Faults,
    random: fastrand::Rng,
    pub(crate) counts: Counts,
}

impl Disk {
    /// An empty one. `seed` decides what it leaves to chance.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next: ROOT + 1,
            power: true,
            lies: false,
            faults: Faults::default(),
            random: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
        }
    }

    /// From here on syncs do nothing and say that they are done.
    pub(crate) fn lie(&mut self) {
        self.lies = true;
    }

    /// Arms a fault, in the place of the one before.
    pub(crate) fn arm(&mut self, fault: Fault) {
        self.faults.arm(fault);
    }

    /// Disarms it.
    pub(crate) fn disarm(&mut self) {
        self.faults = Faults::default();
    }

    /// What the armed fault has struck.
    pub(crate) fn struck(&self) -> Option<&Struck> {
        self.faults.struck()
    }

    /// Ends it: no operation is done any more, and all are told so.
    pub(crate) fn cut_power(&mut self) {
        self.power = false;
    }

    fn powered(&self) -> Result<()> {
        if self.power { Ok(()) } else { Err(Errno::EIO) }
    }

    /// The file or directory.
    pub(crate) fn node(&self, inode: Inode) -> Result<&Node> {
        self.powered()?;
        self.nodes.get(&inode).ok_or(Errno::ENOENT)
    }

    fn file(&mut self, inode: Inode) -> Result<&mut File> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn dir(&mut self, inode: Inode) -> Result<&mut Dir> {
        match self.nodes.get_mut(&inode) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    /// What has this name.
    pub(crate) fn look_up(&self, parent: Inode, name: &OsStr) -> Result<Inode> {
        match self.node(parent)? {
            Node::Dir(dir) => dir.get(name).ok_or(Errno::ENOENT),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// The names in a directory.
    pub(crate) fn list(&self, inode: Inode) -> Result<Vec<(OsString, Inode)>> {
        match self.node(inode)? {
            Node::Dir(dir) => Ok(dir.names().map(|(name, inode)| (name.to_owned(), inode)).collect()),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// Makes an empty file.
    pub(crate) fn create(&mut self, parent: Inode, name: &OsStr) -> Result<Inode> {
        self.add(parent, name, Node::File(File::new(name)))
    }

    /// Makes an empty directory.
    pub(crate) fn create_dir(&mut self, parent: Inode, name: &OsStr) -> Result<Inode> {
        self.add(parent, name, Node::Dir(Dir::default()))
    }

    fn add(&mut self, parent: Inode, name: &OsStr, node: Node) -> Result<Inode> {
        self.powered()?;
        let inode = self.next;
        let dir = self.dir(parent)?;
        if dir.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        dir.link(name, inode);
        self.nodes.insert(inode, node);
        self.next += 1;
        Ok(inode)
    }

    /// Removes a file's name, or an empty directory.
    pub(crate) fn remove(&mut self, parent: Inode, name: &OsStr, directory: bool) -> Result<()> {
        let inode = self.look_up(parent, name)?;
        match (self.node(inode)?, directory) {
            (Node::File(_), true) => return Err(Errno::ENOTDIR),
            (Node::Dir(_), false) => return Err(Errno::EISDIR),
            (Node::Dir(dir), true) if dir.names().next().is_some() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.dir(parent)?.unlink(name);
        Ok(())
    }

    /// Renames within a directory. Across two a crash would have to do both
    /// halves or none; nobody here needs it.
    pub(crate) fn rename(&mut self, parent: Inode, from: &OsStr, to_parent: Inode, to: &OsStr) -> Result<()> {
        let inode = self.look_up(parent, from)?;
        if parent != to_parent {
            return Err(Errno::EXDEV);
        }
        self.dir(parent)?.rename(from, to);
        if let Ok(file) = self.file(inode) {
            file.called(to);
        }
        Ok(())
    }

    /// What the process sees of a file.
    pub(crate) fn read(&self, inode: Inode, offset: u64, len: usize) -> Result<Vec<u8>> {
        match self.node(inode)? {
            Node::File(file) => Ok(file.read(offset, len)),
            Node::Dir(_) => Err(Errno::EISDIR),
        }
    }

    /// Writes, and says how much. It is pending.
    pub(crate) fn write(&mut self, inode: Inode, offset: u64, data: &[u8]) -> Result<usize> {
        self.powered()?;
        self.counts.writes += 1;
        let name = self.file(inode)?.name().to_owned();
        let range = offset..offset + data.len() as u64;
        self.faults.written(inode, &range);
        match self.faults.next(On::Write, &name) {
            Verdict::Fine => {
                self.file(inode)?.write(offset, data);
                Ok(data.len())
            }
            Verdict::Short => {
                self.counts.short_writes += 1;
                // Of whole sectors, if there are several.
                let sectors = data.len() / 512;
                let part = if sectors > 1 { 512 * self.random.usize(1..sectors) } else { data.len() };
                self.file(inode)?.write(offset, &data[..part]);
                Ok(part)
            }
            Verdict::Fail(fault) => {
                self.strike(inode, &name, On::Write, range);
                // Nobody knows how far it came.
                let part = self.random.usize(0..=data.len());
                self.file(inode)?.write(offset, &data[..part]);
                Err(fault.errno)
            }
        }
    }

    /// What a write that is to be durable (`O_DSYNC`) has to make so.
    pub(crate) fn begin_durable(&mut self, inode: Inode, offset: u64, len: u64) -> Result<Sync> {
        self.powered()?;
        self.counts.durable_writes += 1;
        Ok(Sync::File(inode, self.file(inode)?.covered_by(offset, len)))
    }

    /// Cuts or extends a file.
    pub(crate) fn set_len(&mut self, inode: Inode, len: u64) -> Result<()> {
        self.powered()?;
        self.file(inode)?.set_len(len);
        Ok(())
    }

    /// Extends a file to at least `len`.
    pub(crate) fn reserve(&mut self, inode: Inode, len: u64) -> Result<()> {
        self.powered()?;
        let file = self.file(inode)?;
        file.set_len(file.len().max(len));
        Ok(())
    }

    /// Begins a sync. It covers what was done before.
    pub(crate) fn begin_sync(&mut self, inode: Inode) -> Result<Sync> {
        self.powered()?;
        match self.nodes.get(&inode).ok_or(Errno::ENOENT)? {
            Node::File(file) => {
                self.counts.syncs += 1;
                let name = file.name().to_owned();
                let covered = file.covered();
                if let Verdict::Fail(fault) = self.faults.next(On::Sync, &name) {
                    let range = self.file(inode)?.last_written();
                    self.strike(inode, &name, On::Sync, range);
                    self.fail_sync(inode, fault.pages)?;
                    return Err(fault.errno);
                }
                Ok(Sync::File(inode, covered))
            }
            Node::Dir(dir) => {
                self.counts.dir_syncs += 1;
                let covered = dir.covered();
                if let Verdict::Fail(fault) = self.faults.next(On::SyncDir, OsStr::new("")) {
                    self.strike(inode, OsStr::new(""), On::SyncDir, 0..0);
                    return Err(fault.errno);
                }
                Ok(Sync::Dir(inode, covered))
            }
        }
    }

    fn fail_sync(&mut self, inode: Inode, pages: Pages) -> Result<()> {
        let mut random = self.random.fork();
        let file = self.file(inode)?;
        match pages {
            Pages::Kept => {}
            Pages::Dropped => file.drop_pending(),
            Pages::Half => file.half_settle(&mut random),
        }
        Ok(())
    }

    /// Ends a sync: from here on what it covers is durable.
    pub(crate) fn end_sync(&mut self, sync: Sync) -> Result<()> {
        self.powered()?;
        let (Sync::File(inode, _) | Sync::Dir(inode, _)) = &sync;
        self.faults.synced(*inode);
        if self.lies {
            return Ok(());
        }
        match sync {
            Sync::File(inode, covered) => self.file(inode)?.settle(covered),
            Sync::Dir(inode, covered) => self.dir(inode)?.settle(covered),
        }
        Ok(())
    }

    /// Notes what a fault has struck, and what was durable just then.
    fn strike(&mut self, inode: Inode, name: &OsStr, on: On, range: Range<u64>) {
        self.counts.failed += 1;
        if self.faults.struck().is_none() {
            let parent = self.parent_of(inode);
            let durable = self.crashed(Survive::Nothing, 0);
            let name = name.to_owned();
            self.faults.strike(Struck { inode, on, name, parent, durable, range, written_again: 0, synced_again: 0 });
        }
    }

    /// The name of the directory that a file stands in.
    fn parent_of(&self, inode: Inode) -> OsString {
        let holds = |(parent, node): (&Inode, &Node)| match node {
            Node::Dir(dir) => dir.names().any(|(_, child)| child == inode).then_some(*parent),
            Node::File(_) => None,
        };
        let parent = self.nodes.iter().find_map(holds);
        let called = |node: &Node| match node {
            Node::Dir(dir) => dir.names().find(|(_, child)| Some(*child) == parent).map(|(name, _)| name.to_owned()),
            Node::File(_) => None,
        };
        self.nodes.values().find_map(called).unwrap_or_default()
    }
}
