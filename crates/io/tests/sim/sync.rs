//! What a sync covers.

use corewal_io::{CrashKind, OpenMode, Operation, SimOptions, Storage, StorageIo, Wait};

use crate::common::{BLOCK, block_write, blocks, sync, wait_for, write, write_durably};
use crate::world::{World, log, root};

#[test]
fn what_was_synced_survives_every_crash() {
    let mut world = World::seeded(1);
    for block in 0..3 {
        write(&mut world.io, &world.file, block, 7);
    }
    sync(&mut world.io, &world.file);
    for kind in [CrashKind::Process, CrashKind::Power] {
        for content in world.crashes(kind) {
            assert_eq!(content, vec![7; 3 * 4096]);
        }
    }
}

#[test]
fn a_sync_does_not_cover_a_write_that_completed_after_it_was_submitted() {
    let mut seen = 0;
    for seed in 0..50 {
        let mut world = World::seeded(seed);
        let operation = block_write(&mut world.io, &world.file, 0, 7, false);
        world.io.submit(operation).unwrap();
        let file = world.file.clone();
        let token = world.io.submit(Operation::Sync { file }).unwrap();
        let mut completions = Vec::new();
        while world.io.in_flight() > 0 {
            world.io.poll(Wait::One, &mut completions).unwrap();
        }
        // Whichever came first: at the time of the submit it was in flight.
        let write_first = completions[0].token != token;
        seen |= if write_first { 1 } else { 2 };
        let crashes = world.crashes(CrashKind::Power);
        assert!(crashes.iter().any(Vec::is_empty), "seed {seed}");
        sync(&mut world.io, &world.file);
        let crashes = world.crashes(CrashKind::Power);
        assert!(crashes.iter().all(|content| blocks(content) == [7]));
    }
    assert_eq!(seen, 3, "both orders were tried");
}

#[test]
fn a_write_is_not_seen_before_it_completes() {
    let mut world = World::seeded(3);
    let operation = block_write(&mut world.io, &world.file, 0, 7, false);
    let token = world.io.submit(operation).unwrap();
    assert_eq!(world.content(), []);
    wait_for(&mut world.io, token);
    assert_eq!(blocks(&world.content()), [7]);
}

#[test]
fn operations_in_flight_complete_in_an_order_of_the_seed() {
    let order = |seed| {
        let mut world = World::seeded(seed);
        for block in 0..6 {
            let operation = block_write(&mut world.io, &world.file, block, 7, false);
            world.io.submit(operation).unwrap();
        }
        let mut completions = Vec::new();
        while world.io.in_flight() > 0 {
            world.io.poll(Wait::One, &mut completions).unwrap();
        }
        completions.iter().map(|one| one.token.0).collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    let orders: std::collections::BTreeSet<_> = (0..20).map(order).collect();
    assert!(orders.len() > 10, "{orders:?}");
}

#[test]
fn polling_without_waiting_completes_sometimes_nothing_and_sometimes_more() {
    let mut counts = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut world = World::seeded(seed);
        for block in 0..4 {
            let operation = block_write(&mut world.io, &world.file, block, 7, false);
            world.io.submit(operation).unwrap();
        }
        let mut completions = Vec::new();
        world.io.poll(Wait::No, &mut completions).unwrap();
        counts.insert(completions.len());
        assert_eq!(world.io.in_flight(), 4 - completions.len());
    }
    assert!(counts.contains(&0) && counts.contains(&2), "{counts:?}");
}

#[test]
fn a_durable_write_is_durable_and_says_nothing_of_its_neighbours() {
    let mut world = World::seeded(4);
    write(&mut world.io, &world.file, 0, 1);
    write_durably(&mut world.io, &world.file, 1, 2);
    let crashes = world.crashes(CrashKind::Power);
    assert!(crashes.iter().all(|content| content[4096..] == [2; 4096]));
    assert!(crashes.iter().any(|content| content[..4096] == [0; 4096]));
    assert!(crashes.iter().any(|content| content[..4096] == [1; 4096]));
}

#[test]
fn a_reserved_length_is_durable_only_after_a_sync() {
    let mut world = World::seeded(5);
    world.disk.set_len(&world.file, 8 * BLOCK).unwrap();
    write_durably(&mut world.io, &world.file, 0, 1);
    let lengths: Vec<usize> = world.crashes(CrashKind::Power).iter().map(Vec::len).collect();
    assert!(lengths.contains(&4096) && lengths.contains(&(8 * 4096)));
    assert!(lengths.iter().all(|len| (4096..=8 * 4096).contains(len)));
    sync(&mut world.io, &world.file);
    for content in world.crashes(CrashKind::Power) {
        assert_eq!(blocks(&content), [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn settle_is_a_sync_of_all_that_had_completed() {
    let mut world = World::seeded(6);
    write(&mut world.io, &world.file, 0, 1);
    world.disk.settle(&world.file, 0).unwrap();
    for content in world.crashes(CrashKind::Power) {
        assert_eq!(content, [1; 4096]);
    }
}

#[test]
fn a_disk_that_lies_loses_what_it_called_durable() {
    let mut world = World::new(SimOptions { sync_lies: true, ..SimOptions::default() });
    // The name of the file must survive for there to be something to see.
    world.disk.write_file(log(), Vec::new());
    write(&mut world.io, &world.file, 0, 1);
    sync(&mut world.io, &world.file);
    write_durably(&mut world.io, &world.file, 1, 2);
    world.disk.settle(&world.file, 0).unwrap();
    assert_eq!(blocks(&world.content()), [1, 2], "readers see nothing of it");
    assert!(world.crashes(CrashKind::Power).iter().any(Vec::is_empty));
}

#[test]
fn dropping_the_write_path_completes_what_is_in_flight() {
    let mut world = World::seeded(7);
    let operation = block_write(&mut world.io, &world.file, 0, 7, false);
    world.io.submit(operation).unwrap();
    let reader = world.disk.open(log(), OpenMode::Read).unwrap();
    drop(world.io);
    assert_eq!(world.disk.len(&reader).unwrap(), BLOCK);
}

#[test]
fn a_write_in_flight_completes_though_its_file_was_removed_and_closed() {
    let World { disk, mut io, file } = World::seeded(8);
    let operation = block_write(&mut io, &file, 0, 7, false);
    let token = io.submit(operation).unwrap();
    drop(file);
    disk.remove(log()).unwrap();
    disk.sync_dir(root()).unwrap();
    assert_eq!(wait_for(&mut io, token).result.unwrap(), 4096);
    assert!(disk.files().is_empty());
}
