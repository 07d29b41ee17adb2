//! What the death of the process leaves, and crashes in general.

use std::collections::BTreeSet;

use corewal_io::{BLOCK_SIZE, CrashKind, OpenMode, Operation, Storage, StorageIo};

use crate::common::{block_write, blocks, write};
use crate::world::{SEEDS, World, contents, log, outcomes, root};

#[test]
fn what_completed_survives_the_process_without_a_sync() {
    let mut world = World::seeded(1);
    write(&mut world.io, &world.file, 0, 7);
    for content in world.crashes(CrashKind::Process) {
        assert_eq!(content, [7; BLOCK_SIZE]);
    }
}

#[test]
fn a_process_crash_and_then_a_power_cut_lose_what_was_not_synced() {
    let mut world = World::seeded(2);
    write(&mut world.io, &world.file, 0, 7);
    let after = world.disk.snapshot().crash(CrashKind::Process, 1);
    assert_eq!(blocks(&after.read_file(log()).unwrap()), [7]);
    let later = contents(&after.snapshot(), CrashKind::Power);
    assert!(later.iter().any(Vec::is_empty));

    // Whoever opens the log after the process died must settle it first.
    let file = after.open(log(), OpenMode::ReadWrite).unwrap();
    after.settle(&file, 0).unwrap();
    let later = contents(&after.snapshot(), CrashKind::Power);
    assert!(later.iter().all(|content| *content == [7; BLOCK_SIZE]));
}

#[test]
fn a_write_in_flight_survives_the_process_in_full_in_part_or_not_at_all() {
    let mut world = World::seeded(3);
    let operation = block_write(&mut world.io, &world.file, 0, 7, false);
    world.io.submit(operation).unwrap();
    let crashes = world.crashes(CrashKind::Process);
    let lengths: BTreeSet<usize> = crashes.iter().map(Vec::len).collect();
    assert!(lengths.iter().all(|len| len.is_multiple_of(512)));
    assert!(lengths.contains(&0) && lengths.contains(&BLOCK_SIZE) && lengths.len() > 4);
    assert!(crashes.iter().flatten().all(|byte| *byte == 7));
}

#[test]
fn a_sync_in_flight_took_effect_or_not_when_the_process_died() {
    let mut world = World::seeded(4);
    write(&mut world.io, &world.file, 0, 7);
    let file = world.file.clone();
    world.io.submit(Operation::Sync { file }).unwrap();
    let durable = (0..SEEDS).filter(|seed| {
        let after = world.disk.snapshot().crash(CrashKind::Process, *seed);
        let later = outcomes(&contents(&after.snapshot(), CrashKind::Power));
        later == BTreeSet::from([vec![7]])
    });
    let durable = durable.count() as u64;
    assert!(durable > SEEDS / 4 && durable < 3 * SEEDS / 4, "{durable}");
}

#[test]
fn locks_and_open_files_end_with_the_process() {
    let world = World::seeded(5);
    let held = world.disk.lock("LOCK".as_ref()).unwrap();
    assert!(held.is_some());
    for kind in [CrashKind::Process, CrashKind::Power] {
        let after = world.disk.snapshot().crash(kind, 1);
        assert!(!after.is_locked("LOCK".as_ref()).unwrap());
        assert!(after.lock("LOCK".as_ref()).unwrap().is_some());
        let error = after.len(&world.file).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let mut io = after.io(0).unwrap();
        let operation = block_write(&mut io, &world.file, 0, 1, false);
        assert!(io.submit(operation).is_err());
    }
    assert!(world.disk.is_locked("LOCK".as_ref()).unwrap());
}

#[test]
fn the_disk_after_a_crash_is_independent_of_the_one_before() {
    let mut world = World::seeded(6);
    write(&mut world.io, &world.file, 0, 1);
    let snapshot = world.disk.snapshot();
    let after = snapshot.crash(CrashKind::Process, 1);
    write(&mut world.io, &world.file, 0, 2);
    world.disk.remove(log()).unwrap();
    assert_eq!(blocks(&after.read_file(log()).unwrap()), [1]);
    let file = after.open(log(), OpenMode::ReadWrite).unwrap();
    write(&mut after.io(0).unwrap(), &file, 0, 3);
    let again = snapshot.crash(CrashKind::Process, 1);
    assert_eq!(blocks(&again.read_file(log()).unwrap()), [1]);
}

#[test]
fn the_same_crash_with_the_same_seed_is_the_same() {
    let build = || {
        let mut world = World::seeded(7);
        for block in 0..4 {
            write(&mut world.io, &world.file, block, 1);
            let operation = block_write(&mut world.io, &world.file, block + 4, 2, false);
            world.io.submit(operation).unwrap();
        }
        world.disk.rename(log(), "new".as_ref()).unwrap();
        world.disk.open(log(), OpenMode::CreateNew).unwrap();
        world
    };
    let everything = |seed, kind| {
        let world = build();
        let after = world.disk.snapshot().crash(kind, seed);
        let files = after.files();
        let read = |path: &std::path::PathBuf| (path.clone(), after.read_file(path).unwrap());
        files.iter().map(read).collect::<Vec<_>>()
    };
    for kind in [CrashKind::Process, CrashKind::Power] {
        let mut different = BTreeSet::new();
        for seed in 0..50 {
            assert_eq!(everything(seed, kind), everything(seed, kind));
            different.insert(everything(seed, kind));
        }
        assert!(different.len() > 4, "{}", different.len());
    }
}

#[test]
fn a_disk_can_crash_and_be_used_and_crash_again() {
    let mut disk = World::seeded(8).disk;
    for round in 0..30 {
        let file = disk.open(log(), OpenMode::ReadWrite).unwrap();
        disk.settle(&file, 0).unwrap();
        let mut io = disk.io(0).unwrap();
        write(&mut io, &file, round, 1);
        crate::common::sync(&mut io, &file);
        write(&mut io, &file, round + 1, 9);
        disk.sync_dir(root()).unwrap();
        let kind = if round % 2 == 0 { CrashKind::Power } else { CrashKind::Process };
        disk = disk.snapshot().crash(kind, round);
        let content = disk.read_file(log()).unwrap();
        let synced = (usize::try_from(round).unwrap() + 1) * BLOCK_SIZE;
        assert!(content[..synced].iter().all(|byte| *byte == 1));
    }
}
