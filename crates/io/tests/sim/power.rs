//! What a power cut leaves of contents.

use std::path::Path;

use corewal_io::{BLOCK_SIZE, CrashKind, Operation, Storage, StorageIo};

use crate::common::{BLOCK, block_write, blocks, run, sync, write};
use crate::world::{SEEDS, World, contents, log, outcomes};

const SECTOR: usize = 512;

/// Four blocks of old bytes, durable, to be overwritten by a write of new ones.
fn overwritten(in_flight: bool) -> World {
    let mut world = World::seeded(1);
    world.disk.write_file(log(), vec![1; 4 * BLOCK_SIZE]);
    let mut buffer = world.io.buffer(4 * BLOCK_SIZE);
    buffer.fill(2);
    let operation =
        Operation::Write { file: world.file.clone(), offset: 0, buffer, range: 0..4 * BLOCK_SIZE, data_sync: false };
    if in_flight {
        world.io.submit(operation).unwrap();
    } else {
        run(&mut world.io, operation).result.unwrap();
    }
    world
}

#[test]
fn an_unsynced_write_survives_by_sectors_in_all_the_ways_that_matter() {
    for in_flight in [false, true] {
        let world = overwritten(in_flight);
        let (mut all_old, mut all_new, mut one_old, mut one_new) = (0, 0, 0, 0);
        let (mut mixed, mut torn, mut garbage, mut prefix) = (0, 0, 0, 0);
        for content in world.crashes(CrashKind::Power) {
            assert_eq!(content.len(), 4 * BLOCK_SIZE);
            let sectors: Vec<&[u8]> = content.chunks(SECTOR).collect();
            let new: Vec<bool> = sectors.iter().map(|one| *one == [2; SECTOR]).collect();
            let old: Vec<bool> = sectors.iter().map(|one| *one == [1; SECTOR]).collect();
            let new_count = new.iter().filter(|is| **is).count();
            let old_count = old.iter().filter(|is| **is).count();
            let first_old = new.iter().take_while(|is| **is).count();
            all_old += usize::from(old_count == 32);
            all_new += usize::from(new_count == 32);
            one_old += usize::from(new_count == 31 && old_count == 1);
            one_new += usize::from(new_count == 1 && old_count == 31);
            mixed += usize::from(new_count > 2 && old_count > 2);
            prefix += usize::from((1..32).contains(&first_old) && first_old == new_count);
            for sector in sectors {
                if sector.iter().any(|byte| *byte > 2) {
                    garbage += 1;
                } else if sector.contains(&1) && sector.contains(&2) {
                    let edges: Vec<_> = (1..SECTOR).filter(|at| sector[*at] != sector[*at - 1]).collect();
                    assert_eq!(edges.len(), 1, "torn at one place");
                    assert_eq!(edges[0] % 8, 0, "between two words");
                    torn += 1;
                }
            }
        }
        let seen = [all_old, all_new, one_old, one_new, mixed, torn, garbage, prefix];
        assert!(seen.iter().all(|count| *count > 2), "{in_flight} {seen:?}");
    }
}

#[test]
fn of_several_unsynced_writes_to_one_place_any_may_survive() {
    let mut world = World::seeded(2);
    world.disk.write_file(log(), vec![1; BLOCK_SIZE]);
    write(&mut world.io, &world.file, 0, 2);
    write(&mut world.io, &world.file, 0, 3);
    let outcomes = outcomes(&world.crashes(CrashKind::Power));
    for byte in [1, 2, 3] {
        assert!(outcomes.contains(&vec![byte]), "{byte}");
    }
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    let mut world = World::seeded(3);
    write(&mut world.io, &world.file, 0, 1);
    write(&mut world.io, &world.file, 1, 2);
    let crashes = world.crashes(CrashKind::Power);
    let hole = |content: &&Vec<u8>| {
        content.len() == 2 * BLOCK_SIZE
            && content[..BLOCK_SIZE] == [0; BLOCK_SIZE]
            && content[BLOCK_SIZE..].starts_with(&[2; SECTOR])
    };
    assert!(crashes.iter().any(|content| hole(&content)));
}

#[test]
fn a_file_that_grew_is_found_with_any_length_between() {
    let mut world = World::seeded(4);
    write(&mut world.io, &world.file, 0, 1);
    sync(&mut world.io, &world.file);
    for block in 1..5 {
        write(&mut world.io, &world.file, block, 2);
    }
    let crashes = world.crashes(CrashKind::Power);
    assert!(crashes.iter().all(|content| content[..4096] == [1; 4096]));
    let lengths: Vec<usize> = crashes.iter().map(Vec::len).collect();
    assert!(lengths.iter().all(|len| (4096..=5 * 4096).contains(len)));
    assert!(lengths.contains(&4096) && lengths.contains(&(5 * 4096)));
    let odd = lengths.iter().filter(|len| !len.is_multiple_of(SECTOR));
    assert!(odd.count() > 0, "also inside a sector");
}

#[test]
fn a_hole_reads_as_zeros_or_sometimes_as_what_another_file_had_there() {
    let mut world = World::seeded(8);
    let other = Path::new("other");
    world.disk.write_file(other, vec![9; 4 * BLOCK_SIZE]);
    for block in 0..4 {
        write(&mut world.io, &world.file, block, 2);
    }
    let crashes = world.crashes(CrashKind::Power);
    for byte in [0, 2, 9] {
        let has = |content: &&Vec<u8>| {
            let mut sectors = content.chunks_exact(SECTOR);
            sectors.any(|sector| sector == [byte; SECTOR])
        };
        assert!(crashes.iter().filter(has).count() > 2, "{byte}");
    }
}

#[test]
fn a_cut_that_was_not_synced_may_be_undone() {
    let mut world = World::seeded(5);
    world.disk.write_file(log(), vec![1; 4 * BLOCK_SIZE]);
    world.disk.set_len(&world.file, BLOCK).unwrap();
    let lengths: Vec<usize> = world.crashes(CrashKind::Power).iter().map(Vec::len).collect();
    assert!(lengths.contains(&4096) && lengths.contains(&(4 * 4096)));
    sync(&mut world.io, &world.file);
    assert_eq!(world.crashes(CrashKind::Power), vec![vec![1; 4096]; 400]);
}

#[test]
fn a_sync_in_flight_may_have_done_its_work() {
    let mut world = World::seeded(6);
    write(&mut world.io, &world.file, 0, 1);
    let file = world.file.clone();
    world.io.submit(Operation::Sync { file }).unwrap();
    let crashes = world.crashes(CrashKind::Power);
    let kept = crashes.iter().filter(|content| blocks(content) == [1]);
    assert!(kept.count() as u64 > SEEDS / 3);
    assert!(crashes.iter().any(Vec::is_empty));
}

#[test]
fn after_a_power_cut_nothing_is_pending_any_more() {
    let mut world = World::seeded(7);
    for block in 0..4 {
        write(&mut world.io, &world.file, block, 1);
    }
    let operation = block_write(&mut world.io, &world.file, 4, 1, false);
    world.io.submit(operation).unwrap();
    for seed in 0..40 {
        let after = world.disk.snapshot().crash(CrashKind::Power, seed);
        let found = after.read_file(log()).unwrap();
        for again in contents(&after.snapshot(), CrashKind::Power) {
            assert_eq!(again, found);
        }
    }
}
