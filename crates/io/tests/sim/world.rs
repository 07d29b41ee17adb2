//! A disk with one file that is there for good.

use std::collections::BTreeSet;
use std::path::Path;

use corewal_io::{CrashKind, OpenMode, SimFile, SimOptions, SimSnapshot, SimStorage, SimStorageIo, Storage};

use crate::common::blocks;

/// Crashes tried for each question of the kind "can this happen?".
pub(crate) const SEEDS: u64 = 400;

pub(crate) fn log() -> &'static Path {
    Path::new("log")
}

pub(crate) fn root() -> &'static Path {
    Path::new("")
}

pub(crate) struct World {
    pub(crate) disk: SimStorage,
    pub(crate) io: SimStorageIo,
    pub(crate) file: SimFile,
}

impl World {
    pub(crate) fn new(options: SimOptions) -> Self {
        let disk = SimStorage::new(options);
        let file = disk.open(log(), OpenMode::CreateNew).unwrap();
        disk.sync_dir(root()).unwrap();
        let io = disk.io(0).unwrap();
        Self { disk, io, file }
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self::new(SimOptions { seed, ..SimOptions::default() })
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.disk.read_file(log()).unwrap()
    }

    /// The contents of the file after as many crashes as there are seeds.
    pub(crate) fn crashes(&self, kind: CrashKind) -> Vec<Vec<u8>> {
        contents(&self.disk.snapshot(), kind)
    }
}

pub(crate) fn contents(snapshot: &SimSnapshot, kind: CrashKind) -> Vec<Vec<u8>> {
    (0..SEEDS).map(|seed| snapshot.crash(kind, seed).read_file(log()).unwrap()).collect()
}

/// The different outcomes, each as the first bytes of its blocks.
pub(crate) fn outcomes(contents: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    contents.iter().map(|bytes| blocks(bytes)).collect()
}
