//! A machine with a store of made-up files, and what can be asked of it.
#![allow(unreachable_pub, reason = "shared by the tests inside and outside the crate")]
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use corewal_archive::{CheckpointFacts, CheckpointPart, FilePart, Inventory, Restored, SegmentFacts, SegmentPart};
use corewal_format::{CoreId, Epoch, LogId, Lsn, SegmentId};

/// The store of all tests.
pub const LOG: LogId = LogId([0xa7; 16]);

/// The time at which an epoch ends.
pub const fn time_of(epoch: u64) -> i64 {
    1_000 * epoch as i64
}

/// A store whose every epoch seals one segment of each core. Segment *n* holds
/// the end of epoch *n* + 1.
pub struct Machine {
    pub dir: PathBuf,
    /// What makes its bytes different from those of another machine.
    pub flavour: u64,
    pub cores: u16,
    pub epoch: u64,
    /// Length of a segment's file.
    pub size: u64,
    pub checkpoints: Vec<CheckpointPart>,
    pub segments: Vec<SegmentPart>,
    next_checkpoint: u64,
}

impl Machine {
    pub fn new(dir: &Path, flavour: u64, cores: u16, size: u64) -> Self {
        fs::create_dir_all(dir).unwrap();
        let (checkpoints, segments) = (Vec::new(), Vec::new());
        Self { dir: dir.to_owned(), flavour, cores, epoch: 0, size, checkpoints, segments, next_checkpoint: 1 }
    }

    /// A machine that goes on from what a restore brought back.
    pub fn from_restored(dir: &Path, flavour: u64, size: u64, restored: &Restored) -> Self {
        let mut machine = Self::new(dir, flavour, restored.cores, size);
        let part = |name: &String| {
            let path = dir.join(name);
            FilePart { name: name.clone(), bytes: fs::metadata(&path).unwrap().len(), path }
        };
        if let Some(facts) = &restored.checkpoint {
            machine.next_checkpoint = facts.number + 1;
            machine
                .checkpoints
                .push(CheckpointPart { facts: facts.clone(), runs: restored.runs.iter().map(part).collect() });
        }
        for (facts, name) in &restored.segments {
            machine.segments.push(SegmentPart { facts: facts.clone(), file: part(name) });
        }
        machine.epoch = restored.reaches.0;
        machine
    }

    /// Ends an epoch.
    pub fn advance(&mut self) {
        let number = self.epoch;
        self.epoch += 1;
        for core in 0..self.cores {
            let name = format!("core-{core:04}/{number:020}.wal");
            let file = self.write(name, self.size, number << 8 | u64::from(core));
            let facts = SegmentFacts {
                generation: 0,
                core: CoreId(core),
                cores: self.cores,
                number: SegmentId(number),
                base: Lsn(number * self.size),
                end: Lsn((number + 1) * self.size),
                next: SegmentId(number + 1),
                next_base: Lsn((number + 1) * self.size),
                first: number == 0,
                first_epoch: Epoch(number + 1),
                ended: Epoch(self.epoch),
                newest_ns: time_of(self.epoch),
                note: String::new(),
            };
            self.segments.push(SegmentPart { facts, file });
        }
    }

    /// Makes a checkpoint of the newest epoch, of two runs.
    pub fn checkpoint(&mut self) {
        let number = self.next_checkpoint;
        self.next_checkpoint += 1;
        let runs = (0..2)
            .map(|run| self.write(format!("runs/{number:06}-{run}.run"), self.size / 2, u64::MAX - 2 * number - run))
            .collect();
        let facts = CheckpointFacts {
            number,
            generation: 0,
            cores: self.cores,
            epoch: Epoch(self.epoch),
            time_ns: time_of(self.epoch),
            text: format!("checkpoint {number} of machine {}\n", self.flavour),
        };
        self.checkpoints.push(CheckpointPart { facts, runs });
    }

    /// Lets go of all but the newest checkpoint and what goes on from it.
    pub fn release(&mut self) {
        let Some(newest) = self.checkpoints.pop() else { return };
        let begins = newest.facts.epoch;
        for run in std::mem::replace(&mut self.checkpoints, vec![newest]).iter().flat_map(|old| &old.runs) {
            fs::remove_file(&run.path).unwrap();
        }
        let (kept, gone) =
            std::mem::take(&mut self.segments).into_iter().partition(|segment| segment.facts.ended >= begins);
        self.segments = kept;
        for segment in gone {
            fs::remove_file(&segment.file.path).unwrap();
        }
    }

    pub fn inventory(&self) -> Inventory {
        Inventory {
            log_id: LOG,
            cores: self.cores,
            generation: 0,
            complete_epoch: Epoch(self.epoch),
            checkpoints: self.checkpoints.clone(),
            segments: self.segments.clone(),
        }
    }

    fn write(&self, name: String, bytes: u64, seed: u64) -> FilePart {
        let path = self.dir.join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content(self.flavour, seed, bytes)).unwrap();
        FilePart { name, path, bytes }
    }
}

/// Bytes that no other file has.
pub fn content(flavour: u64, seed: u64, bytes: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(flavour.wrapping_mul(0x9e37_79b9).wrapping_add(seed));
    (0..bytes).map(|_| random.u8(..)).collect()
}

/// The files below a directory: names and bytes.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// Whether all files of an inventory are in `dir` as they are on the machine.
pub fn assert_holds(dir: &Path, inventory: &Inventory) {
    let parts = inventory.checkpoints.iter().flat_map(|checkpoint| &checkpoint.runs);
    for part in parts.chain(inventory.segments.iter().map(|segment| &segment.file)) {
        assert_eq!(fs::read(dir.join(&part.name)).unwrap(), fs::read(&part.path).unwrap(), "{}", part.name);
    }
}
