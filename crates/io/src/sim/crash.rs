//! What a simulated disk looks like after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use super::content::Content;
use super::directory::{Directory, EntryChange, put};
use super::disk::{Disk, InFlight, Node, NodeId};
use super::fate::{self, Fate, Plan};
use super::file::{ChangeKind, FileNode, SECTOR};

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
        if kept == 0 {
            continue;
        }
        let bytes: Arc<[u8]> = bytes[..kept * SECTOR].into();
        if data_sync && !sync_lies && kept == sectors && rng.bool() {
            disk.file_mut(node).write_durably(offset, &bytes);
        } else {
            let sequence = disk.next_sequence();
            let kind = ChangeKind::Write { offset, bytes };
            disk.file_mut(node).change(sequence, kind);
        }
    }
    assert!(disk.in_flight.is_empty());
    disk.collect(&BTreeSet::new());
    disk
}

/// The disk after the power was cut.
pub(super) fn power(disk: &Disk, sync_lies: bool, rng: &mut Rng) -> Disk {
    let mut disk = disk.clone();
    finish_some_syncs(&mut disk, sync_lies, rng);
    let flights = std::mem::take(&mut disk.in_flight);
    let mut writes: BTreeMap<NodeId, Vec<ChangeKind>> = BTreeMap::new();
    for flight in flights.into_values() {
        if let InFlight::Write { node, offset, bytes, .. } = flight {
            let kind = ChangeKind::Write { offset, bytes };
            writes.entry(node).or_default().push(kind);
        }
    }
    for (node, flying) in &mut writes {
        rng.shuffle(flying);
        let file = disk.file(*node);
        let pending = file.pending.iter().map(|change| change.kind.clone());
        let all = pending.chain(flying.drain(..)).collect();
        *flying = all;
    }
    for (id, node) in &disk.nodes {
        if let Node::File(file) = node
            && !file.pending.is_empty()
        {
            let pending = || file.pending.iter().map(|change| change.kind.clone());
            writes.entry(*id).or_insert_with(|| pending().collect());
        }
    }
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

/// What lies in a sector that a file has but that was never written there.
enum Hole {
    Zeros,
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
            _ => Self::Zeros,
        }
    }

    fn fill(&self, content: &mut Content, start: u64, end: u64, rng: &mut Rng) {
        assert!(start < end && end - start <= SECTOR as u64);
        let len = usize::try_from(end - start).expect("a sector at most");
        match self {
            Self::Zeros => {}
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
        let file = disk.file(id);
        let content =
            if changes.is_empty() { file.durable.clone() } else { surviving(file, changes, &mut plan, &hole, rng) };
        *disk.file_mut(id) = FileNode::settled(content);
    }
}

/// What is left of one file: `changes` are those that were not durable.
fn surviving(file: &FileNode, changes: &[ChangeKind], plan: &mut Plan, hole: &Hole, rng: &mut Rng) -> Content {
    let mut content = file.durable.clone();
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
                    let fate = plan.next(rng);
                    if fate == Fate::Lost {
                        if position >= file.durable.len() && !written.contains(&position) {
                            never_written.insert(position);
                        }
                        continue;
                    }
                    let mut old = vec![0; new.len()];
                    content.read(position, &mut old);
                    content.write(position, &fate::sector(fate, &old, new, rng));
                    written.insert(position);
                    never_written.remove(&position);
                }
            }
            ChangeKind::Grow(len) => {
                most = most.max(*len);
                if plan.keeps_length(rng) {
                    content.grow(*len);
                }
            }
            ChangeKind::Cut(len) => {
                most = most.min(*len);
                if plan.keeps_length(rng) {
                    content.cut(*len);
                    least = least.min(*len);
                }
            }
        }
    }
    let len = plan.length(least, content.len(), most, rng);
    content.cut(len);
    content.grow(len);
    for start in never_written {
        let end = (start + SECTOR as u64).min(len);
        if start < end && rng.bool() {
            hole.fill(&mut content, start, end, rng);
        }
    }
    assert_eq!(content.len(), len);
    content
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

/// Decides what every name leads to. For each name the changes up to some
/// point survive. A rename's old name goes only if the new one came, so that a
/// file never loses both.
fn lose_entries(disk: &mut Disk, rng: &mut Rng) {
    let plan = match rng.u8(0..4) {
        0 => EntryPlan::Lost,
        1 => EntryPlan::Kept,
        2 => EntryPlan::Upto(rng.u64(0..=disk.sequence)),
        _ => EntryPlan::Each,
    };
    let mut names: BTreeMap<(NodeId, String), Kept> = BTreeMap::new();
    for (id, directory) in directories(disk) {
        for change in &directory.pending {
            let key = (id, change.name.clone());
            let kept = names.entry(key).or_default();
            kept.changes.push(change.clone());
        }
    }
    for kept in names.values_mut() {
        kept.count = match plan {
            EntryPlan::Lost => 0,
            EntryPlan::Kept => kept.changes.len(),
            EntryPlan::Upto(last) => kept.changes.partition_point(|one| one.sequence <= last),
            EntryPlan::Each => rng.usize(0..=kept.changes.len()),
        };
    }
    while let Some((key, count)) = unmet(&names) {
        let kept = names.get_mut(&key).expect("it was just found there");
        assert!(count < kept.count, "every round takes a change away");
        kept.count = count;
    }
    for ((id, name), kept) in names {
        for change in &kept.changes[..kept.count] {
            put(&mut disk.directory_mut(id).durable, &name, change.entry);
        }
    }
    let ids: Vec<NodeId> = directories(disk).map(|(id, _)| id).collect();
    for id in ids {
        let directory = disk.directory_mut(id);
        directory.pending.clear();
        directory.cache = directory.durable.clone();
    }
}

/// The pending changes of one name and how many of them survive.
#[derive(Default)]
struct Kept {
    changes: Vec<EntryChange>,
    count: usize,
}

/// A name that keeps the removal of a rename whose new name does not survive,
/// and how many of its changes come before that removal.
fn unmet(names: &BTreeMap<(NodeId, String), Kept>) -> Option<((NodeId, String), usize)> {
    for (key, kept) in names {
        for (count, change) in kept.changes[..kept.count].iter().enumerate() {
            let Some(needs) = &change.needs else {
                continue;
            };
            // Not among the pending: durable already.
            let lost = names.get(&(needs.directory, needs.name.clone())).is_some_and(|other| {
                let lost = &other.changes[other.count..];
                lost.iter().any(|one| one.sequence == needs.sequence)
            });
            if lost {
                return Some((key.clone(), count));
            }
        }
    }
    None
}

fn directories(disk: &Disk) -> impl Iterator<Item = (NodeId, &Directory)> {
    disk.nodes.iter().filter_map(|(id, node)| match node {
        Node::Directory(directory) => Some((*id, &**directory)),
        Node::File(_) => None,
    })
}
