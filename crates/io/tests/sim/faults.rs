//! Planted faults, a full disk, planted damage.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use corewal_io::{
    BLOCK_SIZE, CrashKind, Fault, FaultKind, OpenMode, Operation, OperationKind, SimOptions, SimStorage, Storage,
    StorageIo,
};

use crate::common::{BLOCK, block_write, blocks, run, sync, write};
use crate::world::{World, log, root};

fn once(on: OperationKind, kind: FaultKind) -> Fault {
    Fault { on, skip: 0, kind, sticky: false }
}

fn failed_sync(world: &mut World, kind: FaultKind) {
    world.disk.inject(once(OperationKind::Sync, kind));
    let file = world.file.clone();
    let done = run(&mut world.io, Operation::Sync { file });
    let error = done.result.unwrap_err();
    #[cfg(unix)]
    assert_eq!(error.raw_os_error(), Some(5));
    #[cfg(not(unix))]
    drop(error);
}

#[test]
fn a_failed_sync_that_drops_pages_shows_the_old_bytes() {
    let mut world = World::seeded(1);
    write(&mut world.io, &world.file, 0, 1);
    sync(&mut world.io, &world.file);
    write(&mut world.io, &world.file, 0, 2);
    failed_sync(&mut world, FaultKind::FailedSyncPagesDropped);
    assert_eq!(blocks(&world.content()), [1]);
    sync(&mut world.io, &world.file);
    assert_eq!(world.crashes(CrashKind::Power), vec![vec![1; 4096]; 400]);
}

#[test]
fn a_failed_sync_that_keeps_pages_makes_the_next_sync_lie() {
    let mut world = World::seeded(2);
    write(&mut world.io, &world.file, 0, 1);
    sync(&mut world.io, &world.file);
    write(&mut world.io, &world.file, 0, 2);
    failed_sync(&mut world, FaultKind::FailedSyncPagesKept);
    sync(&mut world.io, &world.file);
    assert_eq!(blocks(&world.content()), [2], "readers see the new bytes");
    assert_eq!(world.crashes(CrashKind::Power), vec![vec![1; 4096]; 400]);

    // Also a new process sees them, until it settles the file.
    let after = world.disk.snapshot().crash(CrashKind::Process, 1);
    assert_eq!(blocks(&after.read_file(log()).unwrap()), [2]);
    let file = after.open(log(), OpenMode::ReadWrite).unwrap();
    after.settle(&file, 0).unwrap();
    assert_eq!(blocks(&after.read_file(log()).unwrap()), [1]);
}

#[test]
fn a_failed_sync_may_have_written_a_part() {
    let mut world = World::seeded(3);
    world.disk.write_file(log(), vec![1; 4 * BLOCK_SIZE]);
    for block in 0..4 {
        write(&mut world.io, &world.file, block, 2);
    }
    failed_sync(&mut world, FaultKind::FailedSyncHalf);
    assert_eq!(blocks(&world.content()), [2; 4]);
    world.disk.settle(&world.file, 0).unwrap();
    let durable = world.content();
    assert!(durable.contains(&1) && durable.contains(&2));
    for content in world.crashes(CrashKind::Power) {
        assert_eq!(content, durable);
    }
}

#[test]
fn a_sync_that_fails_with_a_plain_error_leaves_all_pending() {
    let mut world = World::seeded(4);
    write(&mut world.io, &world.file, 0, 1);
    failed_sync(&mut world, FaultKind::Error(5));
    assert!(world.crashes(CrashKind::Power).iter().any(Vec::is_empty));
    sync(&mut world.io, &world.file);
    assert_eq!(world.crashes(CrashKind::Power), vec![vec![1; 4096]; 400]);
}

#[test]
fn a_settle_that_fails_drops_or_keeps_pages_too() {
    for (kind, seen) in [(FaultKind::FailedSyncPagesDropped, 1), (FaultKind::FailedSyncPagesKept, 2)] {
        let mut world = World::seeded(5);
        world.disk.write_file(log(), vec![1; BLOCK_SIZE]);
        write(&mut world.io, &world.file, 0, 2);
        world.disk.inject(once(OperationKind::Settle, kind));
        assert!(world.disk.settle(&world.file, 0).is_err());
        assert_eq!(blocks(&world.content()), [seen]);
        world.disk.settle(&world.file, 0).unwrap();
        assert_eq!(blocks(&world.content()), [1]);
    }
}

#[test]
fn a_short_write_says_how_far_it_came_and_gives_its_buffer_back() {
    for seed in 0..50 {
        let mut world = World::seeded(seed);
        let fault = once(OperationKind::Write, FaultKind::ShortWrite);
        world.disk.inject(fault);
        let operation = block_write(&mut world.io, &world.file, 0, 7, false);
        let done = run(&mut world.io, operation);
        let written = done.result.unwrap();
        assert!(written > 0 && written < BLOCK_SIZE && written.is_multiple_of(512));
        assert_eq!(world.content(), vec![7; written]);
        assert!(done.buffer.is_some());
    }
}

#[test]
fn a_short_durable_write_is_durable_as_far_as_it_came() {
    let mut world = World::seeded(1);
    world.disk.inject(once(OperationKind::Write, FaultKind::ShortWrite));
    let operation = block_write(&mut world.io, &world.file, 0, 7, true);
    let written = run(&mut world.io, operation).result.unwrap();
    assert_eq!(world.crashes(CrashKind::Power), vec![vec![7; written]; 400]);
}

#[test]
fn a_failed_write_may_have_come_any_way() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut world = World::seeded(seed);
        world.disk.inject(once(OperationKind::Write, FaultKind::Error(28)));
        let operation = block_write(&mut world.io, &world.file, 0, 7, seed % 2 == 0);
        let done = run(&mut world.io, operation);
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(28));
        assert!(done.buffer.is_some());
        let content = world.content();
        assert!(content.iter().all(|byte| *byte == 7));
        lengths.insert(content.len());
        assert!(world.crashes(CrashKind::Power).iter().any(Vec::is_empty));
    }
    assert!(lengths.contains(&0) && lengths.contains(&BLOCK_SIZE));
}

#[test]
fn a_fault_waits_for_its_turn_and_a_sticky_one_stays() {
    let mut world = World::seeded(6);
    world.disk.inject(Fault { on: OperationKind::Write, skip: 2, kind: FaultKind::Error(5), sticky: true });
    let mut results = Vec::new();
    for block in 0..5 {
        let operation = block_write(&mut world.io, &world.file, block, 7, false);
        results.push(run(&mut world.io, operation).result.is_ok());
    }
    assert_eq!(results, [true, true, false, false, false]);
    world.disk.clear_faults();
    write(&mut world.io, &world.file, 0, 7);
}

#[test]
fn every_operation_can_be_made_to_fail_and_then_has_no_effect() {
    let disk = SimStorage::default();
    disk.write_file(Path::new("a"), vec![1; 10]);
    let file = disk.open(Path::new("a"), OpenMode::ReadWrite).unwrap();
    let (a, b) = (Path::new("a"), Path::new("b"));
    type Try<'a> = (OperationKind, &'a dyn Fn() -> bool);
    let tries: [Try<'_>; 10] = [
        (OperationKind::Create, &|| disk.open(b, OpenMode::CreateNew).is_err()),
        (OperationKind::Create, &|| disk.lock(b).is_err()),
        (OperationKind::CreateDir, &|| disk.create_dir(b).is_err()),
        (OperationKind::Rename, &|| disk.rename(a, b).is_err()),
        (OperationKind::Remove, &|| disk.remove(a).is_err()),
        (OperationKind::SyncDir, &|| disk.sync_dir(root()).is_err()),
        (OperationKind::Read, &|| disk.read_at(&file, 0, &mut [0]).is_err()),
        (OperationKind::Open, &|| disk.open(a, OpenMode::Read).is_err()),
        (OperationKind::List, &|| disk.list(root()).is_err()),
        (OperationKind::Settle, &|| disk.settle(&file, 0).is_err()),
    ];
    for (kind, fails) in tries {
        for on in [kind, OperationKind::Any] {
            disk.inject(once(on, FaultKind::Error(5)));
            assert!(fails(), "{kind:?}");
            disk.clear_faults();
            assert_eq!(disk.files(), [PathBuf::from("/a")]);
            assert_eq!(disk.read_file(a).unwrap(), [1; 10]);
        }
    }
}

#[test]
fn a_set_len_that_fails_leaves_a_length_between_the_old_and_the_new() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let world = World::seeded(seed);
        world.disk.inject(once(OperationKind::SetLen, FaultKind::Error(28)));
        assert!(world.disk.set_len(&world.file, 1000).is_err());
        lengths.insert(world.content().len());
    }
    assert!(lengths.contains(&0) && lengths.contains(&1000) && lengths.len() > 3);
}

#[test]
fn a_full_disk_fails_writes_until_space_is_freed() {
    let mut world = World::new(SimOptions { capacity_bytes: Some(4 * BLOCK), ..SimOptions::default() });
    let other = world.disk.open(Path::new("other"), OpenMode::CreateNew).unwrap();
    world.disk.set_len(&other, 2 * BLOCK).unwrap();
    write(&mut world.io, &world.file, 0, 1);
    write(&mut world.io, &world.file, 1, 1);
    let operation = block_write(&mut world.io, &world.file, 2, 1, false);
    let error = run(&mut world.io, operation).result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let error = world.disk.set_len(&other, 3 * BLOCK).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    // What is reserved or already there can be written.
    write(&mut world.io, &other, 1, 1);
    write(&mut world.io, &world.file, 0, 2);
    world.disk.remove(Path::new("other")).unwrap();
    write(&mut world.io, &world.file, 2, 1);
}

#[test]
fn a_wild_offset_is_an_error_and_no_hunger_for_memory() {
    let mut world = World::seeded(7);
    let mut buffer = world.io.buffer(BLOCK_SIZE);
    buffer.fill(1);
    let operation =
        Operation::Write { file: world.file.clone(), offset: 1 << 50, buffer, range: 0..BLOCK_SIZE, data_sync: false };
    let error = run(&mut world.io, operation).result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    let error = world.disk.set_len(&world.file, 1 << 50).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
}

#[test]
fn planted_damage_is_durable_at_once() {
    let world = World::seeded(8);
    world.disk.write_file(Path::new("/d/e/f"), b"damage".to_vec());
    world.disk.write_file(log(), b"other".to_vec());
    assert!(world.disk.remove_file_durably(Path::new("d/e/f")));
    assert!(!world.disk.remove_file_durably(Path::new("d/e/f")));
    world.disk.write_file(Path::new("/d/e/g"), b"more".to_vec());
    for seed in 0..50 {
        let after = world.disk.snapshot().crash(CrashKind::Power, seed);
        let files = [PathBuf::from("/d/e/g"), PathBuf::from("/log")];
        assert_eq!(after.files(), files);
        assert_eq!(after.read_file(Path::new("d/e/g")).unwrap(), b"more");
        assert_eq!(after.read_file(log()).unwrap(), b"other");
    }
    let mut buffer = [0; 5];
    world.disk.read_at(&world.file, 0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"other", "an open file sees it too");
}
