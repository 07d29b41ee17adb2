//! Steps, their snapshots, and determinism over a long run.

use std::path::{Path, PathBuf};

use corewal_io::{CrashKind, OpenMode, Operation, SimOptions, SimSnapshot, SimStorage, Storage, StorageIo, Wait};

use crate::common::{block_write, blocks, write};
use crate::world::{World, log, root};

#[test]
fn every_change_of_the_disk_is_one_step_and_reading_is_none() {
    let disk = SimStorage::default();
    let mut expected = 0;
    let mut step = |more: u64| {
        expected += more;
        assert_eq!(disk.step(), expected);
    };
    let file = disk.open(log(), OpenMode::CreateNew).unwrap();
    step(1);
    disk.create_dir(Path::new("d")).unwrap();
    step(1);
    disk.rename(log(), Path::new("d/log")).unwrap();
    step(1);
    disk.sync_dir(root()).unwrap();
    step(1);
    disk.set_len(&file, 10).unwrap();
    step(1);
    disk.settle(&file, 0).unwrap();
    step(1);
    let mut io = disk.io(0).unwrap();
    let operation = block_write(&mut io, &file, 0, 1, false);
    io.submit(operation).unwrap();
    step(1);
    let file_again = file.clone();
    io.submit(Operation::Sync { file: file_again }).unwrap();
    step(1);
    let mut completions = Vec::new();
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    step(2);
    disk.read_at(&file, 0, &mut [0]).unwrap();
    disk.list(root()).unwrap();
    disk.open(Path::new("d/log"), OpenMode::Read).unwrap();
    assert!(disk.snapshot().step == 10);
    step(0);
    disk.remove(Path::new("d/log")).unwrap();
    step(1);
    assert!(disk.remove(Path::new("d/log")).is_err());
    step(1);
}

#[test]
fn a_snapshot_is_taken_before_the_first_step_and_after_each() {
    let mut world = World::seeded(1);
    let first = world.disk.step();
    world.disk.record_snapshots(true);
    write(&mut world.io, &world.file, 0, 1);
    write(&mut world.io, &world.file, 0, 2);
    world.disk.record_snapshots(false);
    write(&mut world.io, &world.file, 0, 3);
    let snapshots = world.disk.take_snapshots();
    let steps: Vec<u64> = snapshots.iter().map(|one| one.step).collect();
    assert_eq!(steps, (first..=first + 4).collect::<Vec<_>>());
    assert!(world.disk.take_snapshots().is_empty());

    // Each is the disk of its time: before, in flight, completed.
    let seen = |snapshot: &SimSnapshot| {
        let crash = |seed| snapshot.crash(CrashKind::Process, seed).read_file(log());
        let all: std::collections::BTreeSet<_> = (0..200).map(|seed| crash(seed).unwrap()).collect();
        let whole = all.iter().filter(|bytes| bytes.len() == 4096 || bytes.is_empty());
        let whole = whole.filter(|bytes| bytes.iter().all(|byte| *byte == bytes[0]));
        whole.map(|bytes| blocks(bytes)).collect::<Vec<_>>()
    };
    assert_eq!(seen(&snapshots[0]), [vec![]]);
    assert_eq!(seen(&snapshots[1]), [vec![], vec![1]]);
    assert_eq!(seen(&snapshots[2]), [vec![1]]);
    assert_eq!(seen(&snapshots[3]), [vec![1], vec![2]]);
    assert_eq!(seen(&snapshots[4]), [vec![2]]);
}

/// Everything that can be seen of a disk.
fn everything(disk: &SimStorage) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = disk.read_file(&path).unwrap();
        (path, bytes)
    };
    disk.files().into_iter().map(read).collect()
}

/// A run of random calls, all chosen by `seed`, with its completions.
fn wild_run(seed: u64) -> (SimStorage, Vec<String>) {
    let disk = SimStorage::new(SimOptions { seed, ..SimOptions::default() });
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut told = Vec::new();
    let mut ios = [disk.io(0).unwrap(), disk.io(0).unwrap()];
    let names = ["a", "b", "c"].map(Path::new);
    let mut files = Vec::new();
    for _ in 0..150 {
        let name = names[rng.usize(0..3)];
        let other = names[rng.usize(0..3)];
        let io = &mut ios[rng.usize(0..2)];
        let result = match rng.u8(0..12) {
            0 => disk.open(name, OpenMode::CreateNew).map(|file| files.push(file)),
            1 => disk.rename(name, other),
            2 => disk.remove(name),
            3 => disk.sync_dir(root()),
            4..12 if files.is_empty() => Ok(()),
            kind => {
                let file = files[rng.usize(0..files.len())].clone();
                match kind {
                    4 => disk.set_len(&file, rng.u64(0..40_000)),
                    5 => disk.settle(&file, 0),
                    6 => io.submit(Operation::Sync { file }).map(drop),
                    7..10 => {
                        let (block, byte) = (rng.u64(0..8), rng.u8(..));
                        let operation = block_write(io, &file, block, byte, rng.bool());
                        io.submit(operation).map(drop)
                    }
                    _ => {
                        let mut completions = Vec::new();
                        let wait = if rng.bool() { Wait::One } else { Wait::No };
                        let result = io.poll(wait, &mut completions);
                        told.push(format!("{completions:?}"));
                        result
                    }
                }
            }
        };
        told.push(format!("{result:?}"));
    }
    (disk, told)
}

#[test]
fn the_same_seed_and_the_same_calls_give_the_same_run() {
    for seed in 0..30 {
        let (one, one_told) = wild_run(seed);
        let (two, two_told) = wild_run(seed);
        assert_eq!(one_told, two_told);
        assert_eq!(one.step(), two.step());
        assert_eq!(everything(&one), everything(&two));
    }
}

#[test]
fn recording_changes_nothing_in_the_run() {
    let run = |record| {
        let mut world = World::seeded(5);
        world.disk.record_snapshots(record);
        for block in 0..5 {
            let operation = block_write(&mut world.io, &world.file, block, 1, false);
            world.io.submit(operation).unwrap();
        }
        let mut completions = Vec::new();
        world.io.poll(Wait::One, &mut completions).unwrap();
        drop(world.disk.snapshot().crash(CrashKind::Power, 1));
        world.io.poll(Wait::One, &mut completions).unwrap();
        completions.iter().map(|one| one.token.0).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
}

/// Whatever was done: a disk after a crash can be crashed again without
/// change, and a settled file keeps its bytes.
#[test]
fn no_run_breaks_the_model() {
    for seed in 0..60 {
        let (disk, _) = wild_run(seed);
        let snapshot = disk.snapshot();
        for crash in 0..10 {
            let after = snapshot.crash(CrashKind::Power, crash);
            let found = everything(&after);
            let again = after.snapshot().crash(CrashKind::Power, crash + 1);
            assert_eq!(everything(&again), found);

            let after = snapshot.crash(CrashKind::Process, crash);
            for path in after.files() {
                let file = after.open(&path, OpenMode::ReadWrite).unwrap();
                after.settle(&file, 0).unwrap();
            }
            after.sync_dir(root()).unwrap();
            let found = everything(&after);
            let again = after.snapshot().crash(CrashKind::Power, crash);
            assert_eq!(everything(&again), found);
        }
    }
}

/// A crash test takes a snapshot at each of very many steps.
#[test]
fn snapshots_of_a_long_run_share_what_did_not_change() {
    let mut world = World::seeded(6);
    world.disk.write_file(log(), vec![1; 256 * 1024]);
    world.disk.record_snapshots(true);
    for round in 0..20_000 {
        write(&mut world.io, &world.file, round % 64, 2);
        if round % 16 == 0 {
            crate::common::sync(&mut world.io, &world.file);
        }
    }
    // Unshared it would be 10 GB.
    let snapshots = world.disk.take_snapshots();
    assert!(snapshots.len() > 40_000);
    let middle = &snapshots[snapshots.len() / 2];
    let after = middle.crash(CrashKind::Power, 1);
    assert_eq!(after.read_file(log()).unwrap().len(), 256 * 1024);
}
