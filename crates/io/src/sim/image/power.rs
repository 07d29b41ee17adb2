//! What a power cut at one moment has to decide, and the disk that a decision
//! leaves.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::ImageLimits;
use super::choice::{Choice, Filling, Length, Mark};
use crate::BLOCK_SIZE;
use crate::sim::content::Content;
use crate::sim::crash::{Decide, Hole, surviving, undecided};
use crate::sim::disk::{Disk, Node, NodeId};
use crate::sim::fate::{WORD, garbage};
use crate::sim::file::{ChangeKind, FileNode, SECTOR};
use crate::sim::names::Names;

/// Other files whose bytes may stand in what was never written.
const STALE: usize = 3;

#[derive(Debug)]
pub(super) struct Moment {
    /// The disk if nothing of what is undecided survives, its names aside.
    base: Disk,
    pub(super) files: Vec<OpenFile>,
    /// The pending sectors, in the files' order and then that of the writes.
    pub(super) sectors: Vec<Sector>,
    names: Names,
    /// What may become of the pending names: none and all of them first.
    pub(super) entries: Vec<Vec<usize>>,
    /// What may stand where nothing was written, zeros first.
    holes: Vec<Hole>,
}

/// A file with changes that were not synced.
#[derive(Debug)]
pub(super) struct OpenFile {
    node: NodeId,
    durable: Content,
    changes: Vec<ChangeKind>,
    /// The places of the pending sectors among all sectors that the changes
    /// write, in their order.
    units: Vec<Option<u32>>,
    /// The length that the medium has, and the one that readers saw.
    pub(super) least: u64,
    pub(super) most: u64,
    /// Whether something may be found that was never written.
    pub(super) holes: bool,
}

/// A pending sector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sector {
    pub(super) file: u32,
    pub(super) position: u64,
    /// By word, whether the new one differs from what the medium has. (The
    /// 64th bit is the last word.)
    pub(super) differs: u64,
}

impl Sector {
    /// The block of its file that it lies in.
    pub(super) fn block(&self) -> u64 {
        self.position / BLOCK_SIZE as u64
    }
}

const _: () = assert!(SECTOR / WORD == 64);

impl Moment {
    pub(super) fn of(disk: &Disk, limits: &ImageLimits) -> Self {
        let mut base = disk.clone();
        let mut files = Vec::new();
        let mut sectors = Vec::new();
        for (node, changes) in undecided(disk, |_| {}) {
            let number = u32::try_from(files.len()).expect("few files");
            files.push(OpenFile::of(node, number, &disk.file(node).durable, changes, &mut sectors));
        }
        base.in_flight.clear();
        let ids: Vec<NodeId> = base.nodes.keys().copied().collect();
        for id in ids {
            if !base.is_directory(id) {
                let durable = base.file(id).durable.clone();
                *base.file_mut(id) = FileNode::settled(durable);
            }
        }
        let names = Names::pending(disk);
        let entries = entries(&names, limits);
        let holes = holes(disk, files.iter().any(|file| file.holes));
        Self { base, files, sectors, names, entries, holes }
    }

    pub(super) fn units(&self) -> u32 {
        u32::try_from(self.sectors.len()).expect("fewer than 2^32 sectors")
    }

    /// How many fillings of what was never written there are, zeros included.
    pub(super) fn fillings(&self) -> usize {
        self.holes.len()
    }

    pub(super) fn image(&self, choice: &Choice) -> Disk {
        let mut disk = self.base.clone();
        for (number, file) in self.files.iter().enumerate() {
            let mut decided = Decided {
                choice,
                file: u32::try_from(number).expect("few files"),
                units: file.units.iter(),
                sectors: &self.sectors,
                hole: &self.holes[choice.filling.0],
            };
            let mut content = surviving(&file.durable, &file.changes, &mut decided);
            if let Some(Mark::GarbageBlock { file, block }) = choice.mark
                && file as usize == number
            {
                let start = block * BLOCK_SIZE as u64;
                let len = content.len().saturating_sub(start).min(BLOCK_SIZE as u64);
                content.write(start, &garbage(usize::try_from(len).expect("a block"), &mut Rng::with_seed(block)));
            }
            *disk.file_mut(file.node) = FileNode::settled(content);
        }
        self.names.settle(&mut disk, &self.entries[choice.entries]);
        disk.collect(&BTreeSet::new());
        disk
    }
}

impl OpenFile {
    fn of(node: NodeId, number: u32, durable: &Content, changes: Vec<ChangeKind>, sectors: &mut Vec<Sector>) -> Self {
        let mut writers = std::collections::BTreeMap::<u64, u32>::new();
        for (position, _) in chunks(&changes) {
            *writers.entry(position).or_default() += 1;
        }
        let mut units = Vec::new();
        for (position, new) in chunks(&changes) {
            let mut old = [0; SECTOR];
            durable.read(position, &mut old[..new.len()]);
            let differs = differs(&old[..new.len()], new);
            let inside = position + new.len() as u64 <= durable.len();
            let idle = differs == 0 && inside && writers[&position] == 1;
            units.push((!idle).then(|| {
                let unit = u32::try_from(sectors.len()).expect("fewer than 2^32 sectors");
                sectors.push(Sector { file: number, position, differs });
                unit
            }));
        }
        let (mut least, mut most) = (durable.len(), durable.len());
        for change in &changes {
            match change {
                ChangeKind::Write { offset, bytes } => most = most.max(offset + bytes.len() as u64),
                ChangeKind::Grow(len) => most = most.max(*len),
                ChangeKind::Cut(len) => (least, most) = (least.min(*len), most.min(*len)),
            }
        }
        let holes = chunks(&changes).any(|(position, _)| position >= durable.len());
        Self { node, durable: durable.clone(), changes, units, least, most, holes }
    }
}

/// The sectors that the changes write, with their positions.
fn chunks(changes: &[ChangeKind]) -> impl Iterator<Item = (u64, &[u8])> {
    let writes = changes.iter().filter_map(|change| match change {
        ChangeKind::Write { offset, bytes } => Some((*offset, bytes)),
        _ => None,
    });
    writes.flat_map(|(offset, bytes)| {
        let chunks = bytes.chunks(SECTOR).enumerate();
        chunks.map(move |(number, chunk)| (offset + (number * SECTOR) as u64, chunk))
    })
}

fn differs(old: &[u8], new: &[u8]) -> u64 {
    let words = old.chunks(WORD).zip(new.chunks(WORD)).enumerate();
    words.map(|(word, (old, new))| u64::from(old != new) << word).sum()
}

/// What may become of the pending names, none and all of them first, each once.
fn entries(names: &Names, limits: &ImageLimits) -> Vec<Vec<usize>> {
    let lens: Vec<usize> = names.changes().map(<[_]>::len).collect();
    let none = vec![0; lens.len()];
    let mut all = vec![none.clone(), lens.clone()];
    let combinations = lens.iter().try_fold(1_usize, |product, len| product.checked_mul(len + 1));
    if combinations.is_some_and(|count| count <= limits.names) {
        let mut counts = none;
        while let Some(next) = lens.iter().enumerate().position(|(name, len)| counts[name] < *len) {
            counts[..next].fill(0);
            counts[next] += 1;
            all.push(counts.clone());
        }
    } else {
        let mut moments: Vec<u64> = names.changes().flatten().map(|change| change.sequence).collect();
        moments.sort_unstable();
        let upto = |last| names.changes().map(|of| of.partition_point(|one| one.sequence <= last)).collect();
        all.extend(moments.into_iter().map(upto));
        for name in 0..lens.len() {
            let one = |own: &[usize], others: &[usize]| {
                let mut counts = others.to_vec();
                counts[name] = own[name];
                counts
            };
            all.extend([one(&lens, &none), one(&none, &lens)]);
        }
    }
    let mut seen = BTreeSet::new();
    all.into_iter().map(|counts| names.possible(counts)).filter(|counts| seen.insert(counts.clone())).collect()
}

/// What may stand where nothing was written.
fn holes(disk: &Disk, any: bool) -> Vec<Hole> {
    let mut holes = vec![Hole::Zeros];
    if any {
        let contents = disk.nodes.values().filter_map(|node| match node {
            Node::File(file) => Some(&file.cache),
            Node::Directory(_) => None,
        });
        let mut contents: Vec<&Content> = contents.filter(|content| content.len() > 0).collect();
        // The longest have most places in common; of those as long, the newest.
        contents.reverse();
        contents.sort_by_key(|content| std::cmp::Reverse(content.len()));
        holes.extend([Hole::Ones, Hole::Random]);
        holes.extend(contents.into_iter().take(STALE).cloned().map(Hole::Stale));
    }
    holes
}

/// A choice decides.
struct Decided<'m> {
    choice: &'m Choice,
    file: u32,
    units: std::slice::Iter<'m, Option<u32>>,
    sectors: &'m [Sector],
    hole: &'m Hole,
}

impl Decide for Decided<'_> {
    fn sector(&mut self, position: u64, old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
        let unit = self.units.next().expect("the same sectors as when they were counted");
        let Some(unit) = *unit else {
            return Some(new.to_vec());
        };
        debug_assert_eq!(self.sectors[unit as usize].position, position);
        match self.choice.mark {
            Some(Mark::Torn { unit: torn, words, new_first }) if torn == unit => {
                let at = (words * WORD).min(new.len());
                let (first, last) = if new_first { (new, old) } else { (old, new) };
                Some([&first[..at], &last[at..]].concat())
            }
            Some(Mark::Garbage { unit: garbled }) if garbled == unit => {
                Some(garbage(new.len(), &mut Rng::with_seed(position)))
            }
            _ => self.choice.sectors.keeps(unit).then(|| new.to_vec()),
        }
    }

    fn keeps_length(&mut self) -> bool {
        self.choice.length != Length::Least
    }

    fn length(&mut self, least: u64, kept: u64, most: u64) -> u64 {
        match self.choice.length {
            Length::Needed => kept,
            Length::Least => least.max(kept.min(most)),
            Length::Most => most.max(kept),
            Length::At { file, len } if file == self.file => len,
            Length::At { .. } => kept,
        }
    }

    fn hole(&mut self, content: &mut Content, start: u64, end: u64) {
        self.hole.fill(content, start, end, &mut Rng::with_seed(start));
    }
}

impl Filling {
    pub(super) const ZEROS: Self = Self(0);
}
