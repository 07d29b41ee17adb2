//! A store on real files with one of everything.

use std::fs;
use std::path::{Path, PathBuf};

use corewal::io::{Backend, FileStorage, Storage};
use corewal::{Checkpoints, Commit, Keyed, Opened, Options};

/// Small segments, and checkpoints by hand.
pub(crate) fn options() -> Options {
    let checkpoints = Checkpoints::manual().keep(2);
    Options::new().cores(2).buffers(2).buffer_bytes(8192).segment_bytes(64 << 10).checkpoints(checkpoints)
}

pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// A store with several segments, spares, two checkpoints and the manifest
    /// before.
    pub(crate) fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        for round in 0..2 {
            let mut opened = options().open(world.store()).unwrap();
            for epoch in 0..30_u64 {
                write_epoch(&mut opened, 30 * round + epoch);
            }
            opened.shards.into_iter().for_each(|shard| shard.close().unwrap());
            drop(opened.store);
            corewal::checkpoint(world.store(), Checkpoints::default().keep(2)).unwrap().unwrap();
        }
        // Releases what the checkpoints cover.
        let mut opened = options().open(world.store()).unwrap();
        write_epoch(&mut opened, 60);
        opened.shards.into_iter().for_each(|shard| shard.close().unwrap());
        drop(opened.store);
        // What a kill in the middle of a recycling leaves.
        std::fs::write(world.store().join("core-0000/00000000000000000099.spare"), [1; 5000]).unwrap();
        world
    }

    /// The same store elsewhere.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap() };
        let copied = std::process::Command::new("cp").arg("-a").arg(self.store()).arg(copy.store()).status().unwrap();
        assert!(copied.success());
        copy
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// A path beside the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything below the store, deepest last.
    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.store(), &mut found);
        found
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        found.push(path.clone());
        if path.is_dir() {
            walk(&path, found);
        }
    }
}

pub(crate) fn write_epoch(opened: &mut Opened, n: u64) {
    let epoch = opened.store.next_epoch();
    for key in 0..20 {
        let key = format!("key-{key}-{}", n % 7);
        let owner = opened.store.route(key.as_bytes());
        opened.shards[owner.index()].put(key.as_bytes(), &[b'v'; 100]).unwrap();
    }
    for shard in &mut opened.shards {
        shard.commit(&Commit::new().offset_u64("input", n)).unwrap();
        shard.end_epoch(epoch).unwrap();
        shard.sync().unwrap();
    }
}

/// The ways of writing that this machine has, by name.
pub(crate) fn ways() -> Vec<(&'static str, FileStorage)> {
    let mut ways = vec![
        ("blocking", FileStorage::new().backend(Backend::Blocking)),
        ("buffered", FileStorage::new().backend(Backend::Blocking).direct(false)),
    ];
    let ring = FileStorage::new().backend(Backend::Uring);
    match ring.io(0) {
        Ok(_) => ways.push(("uring", ring)),
        Err(error) => println!("uring: skipped: {error}"),
    }
    ways
}

pub(crate) fn open_on(storage: &FileStorage, options: Options, dir: &Path) -> Opened {
    options.open_on(storage.clone(), dir, |_| Keyed::default()).unwrap()
}
