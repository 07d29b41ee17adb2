//! What a simulated disk looks like after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use super::content::Content;
use super::disk::{Disk, InFlight, Node, NodeId};
use super::fate::{self, Fate, Plan};
use super::file::{ChangeKind, FileNode, SECTOR};
use super::names::Names;

/// What ends the life of a simulated process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashKind {
    /// The process is killed; the operating system lives on. Locks and open
    /// files are gone. What had completed stays as readers saw it, and what
    /// was not synced stays so: a later power cut can still lose it. Each
    /// write in flight has reached the cache in full, not at all or with a
    /// prefix of its sectors; each sync in flight took effect or not.
    Process,
    /// The power goes. Of all that was written and not synced, completed or in
    /// flight, each sector of 512 bytes is kept, lost, torn or (rarely)
    /// garbage; each file has a length between the medium's and what readers
    /// saw; each name leads to what it led to at its last durable change or at
    /// any later one. What is found afterwards is what the medium has.
    Power,
}

/// The disk after the process was killed.
pub(super) fn process(disk: &Disk, sync_lies: bool, rng: &mut Rng) -> Disk {
    let mut disk = disk.clone();
    finish_some_syncs(&mut disk, sync_lies, rng);
    let mut flights: Vec<InFlight> = std::mem::take(&mut disk.in_flight).into_values().collect();
    rng.shuffle(&mut flights);
    for flight in flights {
        let InFlight::Write { node, offset, bytes, data_sync } = flight else {
            continue;
        };
        let sectors = bytes.len() / SECTOR;
        let kept = match rng.u8(0..3) {
            0 => 0,
            1 => sectors,
            _ => rng.usize(0..=sectors),
        };
        let durably = kept == sectors && kept > 0 && data_sync && !sync_lies && rng.bool();
        land(&mut disk, node, offset, &bytes[..kept * SECTOR], durably);
    }
    assert!(disk.in_flight.is_empty());
    disk.collect(&BTreeSet::new());
    disk
}

/// What the killed process had in flight reaches the cache, or the medium too.
pub(super) fn land(disk: &mut Disk, node: NodeId, offset: u64, bytes: &[u8], durably: bool) {
    if bytes.is_empty() {
        return;
    }
    if durably {
        disk.file_mut(node).write_durably(offset, bytes);
    } else {
        let sequence = disk.next_sequence();
        let kind = ChangeKind::Write { offset, bytes: bytes.into() };
        disk.file_mut(node).change(sequence, kind);
    }
}

/// The disk after the power was cut.
pub(super) fn power(disk: &Disk, sync_lies: bool, rng: &mut Rng) -> Disk {
    let mut disk = disk.clone();
    finish_some_syncs(&mut disk, sync_lies, rng);
    let writes = undecided(&disk, |flying| rng.shuffle(flying));
    disk.in_flight.clear();
    lose_content(&mut disk, &writes, rng);
    lose_entries(&mut disk, rng);
    disk.collect(&BTreeSet::new());
    disk
}

/// A sync in flight may have done its work before the crash.
fn finish_some_syncs(disk: &mut Disk, sync_lies: bool, rng: &mut Rng) {
    for flight in disk.in_flight.clone().into_values() {
        if let InFlight::Sync { node, upto } = flight
            && !sync_lies
            && rng.bool()
        {
            disk.file_mut(node).sync(upto);
        }
    }
}

/// By file, the changes of which a power cut decides: those that completed and
/// were not synced, in their order, and behind them those in flight, in the
/// order that `shuffle` gives them.
pub(super) fn undecided(disk: &Disk, mut shuffle: impl FnMut(&mut [ChangeKind])) -> BTreeMap<NodeId, Vec<ChangeKind>> {
    let mut changes: BTreeMap<NodeId, Vec<ChangeKind>> = BTreeMap::new();
    for flight in disk.in_flight.values() {
        if let InFlight::Write { node, offset, bytes, .. } = flight {
            let kind = ChangeKind::Write { offset: *offset, bytes: Arc::clone(bytes) };
            changes.entry(*node).or_default().push(kind);
        }
    }
    for (node, flying) in &mut changes {
        shuffle(flying);
        let pending = disk.file(*node).pending.iter().map(|change| change.kind.clone());
        *flying = pending.chain(flying.drain(..)).collect();
    }
    for (id, node) in &disk.nodes {
        if let Node::File(file) = node
            && !file.pending.is_empty()
        {
            let pending = || file.pending.iter().map(|change| change.kind.clone());
            changes.entry(*id).or_insert_with(|| pending().collect());
        }
    }
    changes
}

/// What lies in a sector that a file has but that was never written there.
#[derive(Clone, Debug)]
pub(super) enum Hole {
    Zeros,
    Ones,
    Random,
    /// The bytes that some other file has at the same place: blocks are used
    /// again.
    Stale(Content),
}

impl Hole {
    fn pick(disk: &Disk, rng: &mut Rng) -> Self {
        match rng.u8(0..8) {
            0 => Self::Random,
            1 => {
                let files = disk.nodes.values().filter_map(|node| match node {
                    Node::File(file) => Some(file),
                    Node::Directory(_) => None,
                });
                let files: Vec<_> = files.collect();
                if files.is_empty() {
                    return Self::Zeros;
                }
                Self::Stale(files[rng.usize(0..files.len())].cache.clone())
            }
            2 => Self::Ones,
            _ => Self::Zeros,
        }
    }

    pub(super) fn fill(&self, content: &mut Content, start: u64, end: u64, rng: &mut Rng) {
        assert!(start < end && end - start <= SECTOR as u64);
        let len = usize::try_from(end - start).expect("a sector at most");
        match self {
            Self::Zeros => {}
            Self::Ones => content.write(start, &vec![0xff; len]),
            Self::Random => content.write(start, &fate::garbage(len, rng)),
            Self::Stale(other) => {
                let mut bytes = vec![0; len];
                other.read(start, &mut bytes);
                content.write(start, &bytes);
            }
        }
    }
}

/// Decides what is left of every file.
fn lose_content(disk: &mut Disk, writes: &BTreeMap<NodeId, Vec<ChangeKind>>, rng: &mut Rng) {
    let hole = Hole::pick(disk, rng);
    let units = |changes: &[ChangeKind]| -> u64 {
        let sectors = changes.iter().map(|change| match change {
            ChangeKind::Write { bytes, .. } => bytes.len().div_ceil(SECTOR) as u64,
            _ => 0,
        });
        sectors.sum()
    };
    // Either one plan over the whole disk ("exactly one sector is missing"),
    // or one for each file ("all of this one, nothing of that one").
    let whole = rng.u8(0..3) > 0;
    let all = writes.values().map(|changes| units(changes)).sum();
    let mut plan = Plan::pick(all, rng);
    let ids: Vec<NodeId> = disk.nodes.keys().copied().collect();
    for id in ids {
        if disk.is_directory(id) {
            continue;
        }
        let changes = writes.get(&id).map_or(&[][..], Vec::as_slice);
        if !whole {
            plan = Plan::pick(units(changes), rng);
        }
        let durable = &disk.file(id).durable;
        let content = if changes.is_empty() {
            durable.clone()
        } else {
            surviving(durable, changes, &mut Chance { plan: &mut plan, hole: &hole, rng })
        };
        *disk.file_mut(id) = FileNode::settled(content);
    }
}

/// Decides what becomes of each thing of one file that was not durable, in
/// their order.
pub(super) trait Decide {
    /// What a sector holds, or `None` if the write never got there.
    fn sector(&mut self, position: u64, old: &[u8], new: &[u8]) -> Option<Vec<u8>>;

    /// Whether a change of the length survives.
    fn keeps_length(&mut self) -> bool;

    /// The length: `least` is what the medium had, `kept` what the surviving
    /// sectors need, `most` what readers saw.
    fn length(&mut self, least: u64, kept: u64, most: u64) -> u64;

    /// Fills a part of the file that was never written.
    fn hole(&mut self, content: &mut Content, start: u64, end: u64);
}

/// What is left of one file: `changes` are those that were not durable.
pub(super) fn surviving(durable: &Content, changes: &[ChangeKind], decide: &mut impl Decide) -> Content {
    let mut content = durable.clone();
    let mut least = content.len();
    let mut most = content.len();
    let mut written = BTreeSet::new();
    let mut never_written = BTreeSet::new();
    for change in changes {
        match change {
            ChangeKind::Write { offset, bytes } => {
                most = most.max(offset + bytes.len() as u64);
                for (number, new) in bytes.chunks(SECTOR).enumerate() {
                    let position = offset + (number * SECTOR) as u64;
                    let mut old = [0; SECTOR];
                    let old = &mut old[..new.len()];
                    content.read(position, old);
                    let Some(found) = decide.sector(position, old, new) else {
                        if position >= durable.len() && !written.contains(&position) {
                            never_written.insert(position);
                        }
                        continue;
                    };
                    content.write(position, &found);
                    written.insert(position);
                    never_written.remove(&position);
                }
            }
            ChangeKind::Grow(len) => {
                most = most.max(*len);
                if decide.keeps_length() {
                    content.grow(*len);
                }
            }
            ChangeKind::Cut(len) => {
                most = most.min(*len);
                if decide.keeps_length() {
                    content.cut(*len);
                    least = least.min(*len);
                }
            }
        }
    }
    let len = decide.length(least, content.len(), most);
    content.cut(len);
    content.grow(len);
    for start in never_written {
        let end = (start + SECTOR as u64).min(len);
        if start < end {
            decide.hole(&mut content, start, end);
        }
    }
    assert_eq!(content.len(), len);
    content
}

/// Chance decides.
struct Chance<'c> {
    plan: &'c mut Plan,
    hole: &'c Hole,
    rng: &'c mut Rng,
}

impl Decide for Chance<'_> {
    fn sector(&mut self, _position: u64, old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
        match self.plan.next(self.rng) {
            Fate::Lost => None,
            fate => Some(fate::sector(fate, old, new, self.rng)),
        }
    }

    fn keeps_length(&mut self) -> bool {
        self.plan.keeps_length(self.rng)
    }

    fn length(&mut self, least: u64, kept: u64, most: u64) -> u64 {
        self.plan.length(least, kept, most, self.rng)
    }

    fn hole(&mut self, content: &mut Content, start: u64, end: u64) {
        if self.rng.bool() {
            self.hole.fill(content, start, end, self.rng);
        }
    }
}

/// Which of the pending changes of entries survive.
enum EntryPlan {
    Lost,
    Kept,
    /// A journal: all up to a moment.
    Upto(u64),
    /// Each name for itself.
    Each,
}

/// Decides what every name leads to.
fn lose_entries(disk: &mut Disk, rng: &mut Rng) {
    let plan = match rng.u8(0..4) {
        0 => EntryPlan::Lost,
        1 => EntryPlan::Kept,
        2 => EntryPlan::Upto(rng.u64(0..=disk.sequence)),
        _ => EntryPlan::Each,
    };
    let names = Names::pending(disk);
    let counts = names.changes().map(|changes| match plan {
        EntryPlan::Lost => 0,
        EntryPlan::Kept => changes.len(),
        EntryPlan::Upto(last) => changes.partition_point(|one| one.sequence <= last),
        EntryPlan::Each => rng.usize(0..=changes.len()),
    });
    let counts = names.possible(counts.collect());
    names.settle(disk, &counts);
}
