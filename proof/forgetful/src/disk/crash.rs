//! What a power loss leaves.

use std::collections::{BTreeMap, BTreeSet};

use super::dir::Dir;
use super::fault::Faults;
use super::file::{File, SECTOR, put, sector_of};
use super::{Counts, Disk, Inode, Node, ROOT};

/// What of the pending survives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Survive {
    /// Only what was synced.
    Nothing,
    /// All of it: the process died and the power stayed.
    Everything,
    /// Each sector and each name with this probability, in any version, torn
    /// now and then; and a length between the durable and the pending one.
    Some(f64),
}

impl Disk {
    /// The disk after a power loss, with the power back and no fault armed.
    pub(crate) fn crashed(&self, survive: Survive, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut nodes: BTreeMap<Inode, Node> = BTreeMap::new();
        // From the root, since what no name leads to is gone.
        let mut todo = vec![ROOT];
        while let Some(inode) = todo.pop() {
            if nodes.contains_key(&inode) {
                continue;
            }
            let node = match &self.nodes[&inode] {
                Node::File(file) => Node::File(file.crashed(survive, &mut random)),
                Node::Dir(dir) => {
                    let dir = dir.crashed(survive, &mut random);
                    todo.extend(dir.names().map(|(_, inode)| inode));
                    Node::Dir(dir)
                }
            };
            nodes.insert(inode, node);
        }
        Self {
            nodes,
            next: self.next,
            power: true,
            lies: self.lies,
            faults: Faults::default(),
            random: random.fork(),
            counts: Counts::default(),
        }
    }
}

impl Dir {
    fn crashed(&self, survive: Survive, random: &mut fastrand::Rng) -> Self {
        let mut names = self.durable.clone();
        for change in &self.changes {
            match survive {
                Survive::Nothing => {}
                Survive::Everything => change.apply(&mut names),
                Survive::Some(often) if random.f64() < often => {
                    if random.u8(0..8) == 0 {
                        change.apply_half(&mut names);
                    } else {
                        change.apply(&mut names);
                    }
                }
                Survive::Some(_) => {}
            }
        }
        Self::of(names)
    }
}

impl File {
    fn crashed(&self, survive: Survive, random: &mut fastrand::Rng) -> Self {
        let mut content = self.durable.clone();
        let name = self.name().to_owned();
        let often = match survive {
            Survive::Nothing => return Self::of(name, content),
            Survive::Everything => {
                let mut file = self.clone();
                file.settle(file.covered());
                return Self::of(name, file.durable);
            }
            Survive::Some(often) => often,
        };
        let kept = content.len() as u64;
        let mut written = BTreeSet::new();
        for (number, pending) in &self.pending {
            if random.f64() >= often {
                continue;
            }
            let version = match random.usize(0..=4 * pending.older.len()) {
                older if older < pending.older.len() => &pending.older[older],
                _ => &pending.newest,
            };
            let mut bytes = **version;
            if random.u8(0..16) == 0 {
                // Torn: the rest is what was there.
                let end = 8 * random.usize(0..=SECTOR as usize / 8);
                bytes[end..].copy_from_slice(&sector_of(&content, *number)[end..]);
            }
            put(&mut content, *number, &bytes);
            written.insert(*number);
        }
        let len = match random.u8(0..3) {
            0 => kept,
            1 => self.len,
            _ => random.u64(kept.min(self.len)..=kept.max(self.len)),
        };
        content.resize(len as usize, 0);
        if random.u8(0..4) == 0 {
            // Blocks that the file got and that were never written hold what
            // they held before.
            for number in kept.div_ceil(SECTOR)..len / SECTOR {
                if !written.contains(&number) {
                    let begin = (number * SECTOR) as usize;
                    random.fill(&mut content[begin..begin + SECTOR as usize]);
                }
            }
        }
        Self::of(name, content)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn sync(disk: &mut Disk, inode: Inode) {
        let sync = disk.begin_sync(inode).unwrap();
        disk.end_sync(sync).unwrap();
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_goes() {
        let mut disk = Disk::new(1);
        let file = disk.create(ROOT, name("a")).unwrap();
        disk.write(file, 0, &[1; 1000]).unwrap();
        assert!(disk.crashed(Survive::Nothing, 0).look_up(ROOT, name("a")).is_err(), "no name, no file");
        sync(&mut disk, file);
        assert!(disk.crashed(Survive::Nothing, 0).look_up(ROOT, name("a")).is_err(), "a file's sync is not its name's");
        sync(&mut disk, ROOT);
        disk.write(file, 500, &[2; 1000]).unwrap();
        disk.rename(ROOT, name("a"), ROOT, name("b")).unwrap();

        let crashed = disk.crashed(Survive::Nothing, 0);
        assert_eq!(crashed.read(crashed.look_up(ROOT, name("a")).unwrap(), 0, 5000).unwrap(), [1; 1000]);
        let process_gone = disk.crashed(Survive::Everything, 0);
        let found = process_gone.look_up(ROOT, name("b")).unwrap();
        assert!(process_gone.read(found, 0, 5000).unwrap() == disk.read(file, 0, 5000).unwrap());
        assert!(process_gone.look_up(ROOT, name("a")).is_err());
    }

    #[test]
    fn a_part_survives_and_each_part_can() {
        let mut disk = Disk::new(1);
        let file = disk.create(ROOT, name("a")).unwrap();
        disk.write(file, 0, &[0; 4 * 512]).unwrap();
        sync(&mut disk, file);
        sync(&mut disk, ROOT);
        disk.write(file, 0, &[1; 4 * 512]).unwrap();
        disk.rename(ROOT, name("a"), ROOT, name("b")).unwrap();
        let (mut whole, mut names, mut torn) = (BTreeSet::new(), BTreeSet::new(), 0);
        for seed in 0..2000 {
            let crashed = disk.crashed(Survive::Some(0.5), seed);
            let found: Vec<_> = crashed.list(ROOT).unwrap();
            names.insert(found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
            let content = crashed.read(file, 0, 4 * 512).unwrap();
            assert_eq!(content.len(), 4 * 512);
            let sums: Vec<usize> =
                content.chunks(512).map(|part| part.iter().map(|byte| usize::from(*byte)).sum()).collect();
            if sums.iter().all(|sum| sum.is_multiple_of(512)) {
                whole.insert(sums);
            } else {
                torn += 1;
            }
        }
        assert_eq!(whole.len(), 16, "every subset of four sectors");
        assert_eq!(names.len(), 3, "the old name, the new one, both: {names:?}");
        assert!(torn > 20, "{torn}");
    }

    #[test]
    fn the_same_seed_leaves_the_same() {
        let mut disk = Disk::new(1);
        let file = disk.create(ROOT, name("a")).unwrap();
        sync(&mut disk, ROOT);
        disk.write(file, 0, &[1; 9000]).unwrap();
        let read = |seed| disk.crashed(Survive::Some(0.5), seed).read(file, 0, 9000).unwrap();
        assert!(read(7) == read(7));
        assert!((0..9).any(|seed| read(seed) != read(seed + 1)));
    }
}
