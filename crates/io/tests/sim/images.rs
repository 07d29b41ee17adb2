//! The images of a crash, gone through in order.

use std::collections::BTreeSet;
use std::path::Path;

use corewal_io::{
    BLOCK_SIZE, CrashImage, CrashKind, Fault, FaultKind, ImageLimits, OpenMode, Operation, OperationKind, SimSnapshot,
    SimStorage, Storage, StorageIo,
};

use crate::common::{block_write, sync, write};
use crate::world::{SEEDS, World, log, root};

const SECTOR: usize = 512;

/// A sector's bytes are all 7 if it is `7`, and so on; `?` if they are mixed.
fn sectors(content: &[u8]) -> String {
    let letter = |sector: &[u8]| match sector.iter().all(|byte| *byte == sector[0]) {
        true => char::from_digit(u32::from(sector[0]), 10).unwrap_or('?'),
        false => '?',
    };
    content.chunks(SECTOR).map(letter).collect()
}

fn content(image: &CrashImage) -> Vec<u8> {
    image.disk().read_file(log()).unwrap()
}

fn found(snapshot: &SimSnapshot, kind: CrashKind, limits: &ImageLimits) -> Vec<String> {
    snapshot.images(kind, limits).map(|image| sectors(&content(&image))).collect()
}

/// Subsets alone.
const SUBSETS: ImageLimits =
    ImageLimits { tear_words: 0, garbage: false, lengths: false, fills: false, ..ImageLimits::FULL };

/// A file of blocks of 1 on the medium, over which blocks of 7 were written.
fn overwritten(blocks: u64) -> World {
    let mut world = World::seeded(1);
    for block in 0..blocks {
        write(&mut world.io, &world.file, block, 1);
    }
    sync(&mut world.io, &world.file);
    for block in 0..blocks {
        write(&mut world.io, &world.file, block, 7);
    }
    world
}

#[test]
fn every_subset_of_one_block_is_found_once() {
    let found = found(&overwritten(1).disk.snapshot(), CrashKind::Power, &SUBSETS);
    assert_eq!(found[..2], ["1".repeat(8), "7".repeat(8)]);
    assert_eq!(found.len(), 256);
    let once: BTreeSet<_> = found.into_iter().collect();
    let all = (0..256_u32).map(|mask| (0..8).map(|bit| if mask >> bit & 1 == 1 { '7' } else { '1' }).collect());
    assert_eq!(once, all.collect::<BTreeSet<String>>());
}

#[test]
fn of_two_blocks_each_sector_and_each_pair_is_missing_and_present() {
    let found: BTreeSet<_> = found(&overwritten(2).disk.snapshot(), CrashKind::Power, &SUBSETS).into_iter().collect();
    let of =
        |is_new: &dyn Fn(usize) -> bool| -> String { (0..16).map(|at| if is_new(at) { '7' } else { '1' }).collect() };
    for one in 0..16 {
        assert!(found.contains(&of(&|at| at < one)));
        for other in one..16 {
            assert!(found.contains(&of(&|at| at != one && at != other)));
            assert!(found.contains(&of(&|at| at == one || at == other)));
        }
    }
    assert!(found.contains(&"7".repeat(16)));
    // 2 extremes, 15 prefixes, 15 missing and present each, 240 pairs, of which
    // two are prefixes, and 200 by chance.
    assert!(found.len() > 480, "{}", found.len());
}

/// What writes nothing new cannot be lost, so it does not multiply the images.
#[test]
fn sectors_that_change_nothing_are_not_pending() {
    let mut world = World::seeded(1);
    write(&mut world.io, &world.file, 0, 1);
    sync(&mut world.io, &world.file);
    write(&mut world.io, &world.file, 0, 1);
    assert_eq!(found(&world.disk.snapshot(), CrashKind::Power, &ImageLimits::FULL), ["1".repeat(8)]);
}

/// Chance draws its images from these, wherever it keeps or loses whole sectors.
#[test]
fn what_chance_finds_is_among_them() {
    let world = overwritten(1);
    world.disk.rename(log(), "new".as_ref()).unwrap();
    world.disk.open("other".as_ref(), OpenMode::CreateNew).unwrap();
    let snapshot = world.disk.snapshot();
    let everything = |disk: &SimStorage| {
        let read = |path: std::path::PathBuf| (sectors(&disk.read_file(&path).unwrap()), path);
        disk.files().into_iter().map(read).collect::<Vec<_>>()
    };
    let images = snapshot.images(CrashKind::Power, &SUBSETS);
    let all: BTreeSet<_> = images.map(|image| everything(&image.disk())).collect();
    let mut compared = 0;
    for seed in 0..SEEDS {
        let drawn = everything(&snapshot.crash(CrashKind::Power, seed));
        let plain = drawn.iter().all(|(sectors, _)| !sectors.contains('?'));
        if plain {
            assert!(all.contains(&drawn), "seed {seed}: {drawn:?}");
            compared += 1;
        }
    }
    assert!(compared > SEEDS / 4, "{compared}");
}

#[test]
fn a_sector_is_torn_behind_each_word_either_way() {
    let limits = ImageLimits { tear_words: 1, ..SUBSETS };
    let snapshot = overwritten(1).disk.snapshot();
    let torn: BTreeSet<Vec<u8>> = snapshot.images(CrashKind::Power, &limits).map(|image| content(&image)).collect();
    for sector in 0..8 {
        for word in 1..64 {
            for (first, last) in [(7, 1), (1, 7)] {
                for others in [1, 7] {
                    let mut bytes = vec![7; sector * SECTOR];
                    bytes.extend([vec![first; word * 8], vec![last; SECTOR - word * 8]].concat());
                    bytes.resize(BLOCK_SIZE, others);
                    assert!(torn.contains(&bytes), "sector {sector}, {word} words of {first}");
                }
            }
        }
    }
}

#[test]
fn a_sector_and_a_whole_block_can_be_garbage() {
    let limits = ImageLimits { garbage: true, ..SUBSETS };
    let found: BTreeSet<_> = found(&overwritten(2).disk.snapshot(), CrashKind::Power, &limits).into_iter().collect();
    for sector in 0..16 {
        let before = "7".repeat(sector);
        for others in ["1", "7"] {
            assert!(found.contains(&format!("{before}?{}", others.repeat(15 - sector))), "{sector}");
        }
    }
    let (garbage, [old, new]) = ("?".repeat(8), ["1", "7"].map(|sector| sector.repeat(8)));
    for block in
        [format!("{garbage}{old}"), format!("{old}{garbage}"), format!("{garbage}{new}"), format!("{new}{garbage}")]
    {
        assert!(found.contains(&block), "{block}");
    }
}

#[test]
fn a_file_ends_anywhere_between_what_is_durable_and_what_was_seen() {
    let mut world = World::seeded(1);
    write(&mut world.io, &world.file, 0, 1);
    sync(&mut world.io, &world.file);
    write(&mut world.io, &world.file, 1, 7);
    world.disk.set_len(&world.file, 3 * BLOCK_SIZE as u64).unwrap();
    let limits = ImageLimits { lengths: true, ..SUBSETS };
    let images = world.disk.snapshot().images(CrashKind::Power, &limits);
    let lengths: BTreeSet<usize> = images.map(|image| content(&image).len()).collect();
    assert!((8..=24).all(|sector| lengths.contains(&(sector * SECTOR))), "{lengths:?}");
    assert!(lengths.iter().any(|len| len % SECTOR != 0));
    assert_eq!(lengths.range(..BLOCK_SIZE).count() + lengths.range(3 * BLOCK_SIZE + 1..).count(), 0);
}

#[test]
fn what_was_never_written_is_zeros_ones_chance_or_the_blocks_former_life() {
    let mut world = World::seeded(1);
    let other = world.disk.open("other".as_ref(), OpenMode::CreateNew).unwrap();
    write(&mut world.io, &other, 0, 3);
    sync(&mut world.io, &other);
    world.disk.sync_dir(root()).unwrap();
    write(&mut world.io, &world.file, 0, 7);
    let found = found(&world.disk.snapshot(), CrashKind::Power, &ImageLimits { fills: true, ..SUBSETS });
    let found: BTreeSet<_> = found.into_iter().collect();
    for (filling, first) in [("0", "7"), ("?", "7"), ("3", "7"), ("0", ""), ("?", ""), ("3", "")] {
        let expected = format!("{first}{}", filling.repeat(8 - first.len()));
        assert!(found.contains(&expected), "{expected}: {found:?}");
    }
    let images = world.disk.snapshot().images(CrashKind::Power, &ImageLimits::FULL);
    assert!(images.map(|image| content(&image)).any(|content| content == [0xff; BLOCK_SIZE]));
}

#[test]
fn each_name_that_is_pending_is_there_or_not_and_a_rename_loses_neither() {
    let world = World::seeded(1);
    world.disk.rename(log(), "new".as_ref()).unwrap();
    world.disk.open("made".as_ref(), OpenMode::CreateNew).unwrap();
    let names = |limits: &ImageLimits| -> BTreeSet<Vec<_>> {
        let images = world.disk.snapshot().images(CrashKind::Power, limits);
        let count = images.len();
        let names: BTreeSet<_> = images.map(|image| image.disk().files()).collect();
        assert_eq!(names.len(), count, "each once");
        names
    };
    let of = |names: &[&str]| names.iter().map(|name| Path::new("/").join(name)).collect::<Vec<_>>();
    let mut expected = BTreeSet::new();
    for renamed in [&["log"][..], &["log", "new"], &["new"]] {
        for made in [&[][..], &["made"]] {
            let mut names = of(&[renamed, made].concat());
            names.sort();
            expected.insert(names);
        }
    }
    assert_eq!(names(&ImageLimits::FULL), expected);
    // Too many to combine: the extremes, each moment, each name.
    let fewer = names(&ImageLimits { names: 1, ..ImageLimits::FULL });
    assert!(fewer.is_subset(&expected) && fewer.contains(&of(&["log"])) && fewer.contains(&of(&["made", "new"])));
}

#[test]
fn the_death_of_the_process_leaves_each_part_of_a_write_and_a_sync_or_not() {
    let mut world = World::seeded(4);
    write(&mut world.io, &world.file, 0, 7);
    let operation = block_write(&mut world.io, &world.file, 1, 5, true);
    world.io.submit(operation).unwrap();
    let file = world.file.clone();
    world.io.submit(Operation::Sync { file }).unwrap();
    let mut seen = BTreeSet::new();
    for image in world.disk.snapshot().images(CrashKind::Process, &ImageLimits::FULL) {
        let disk = image.disk();
        let now = sectors(&disk.read_file(log()).unwrap());
        // And the power right after: what was not synced is lost at the worst.
        let least = disk.snapshot().images(CrashKind::Power, &SUBSETS).next().unwrap();
        assert!(seen.insert((now, sectors(&content(&least)))), "{image}");
    }
    let cache: BTreeSet<_> = seen.iter().map(|(now, _)| now.len()).collect();
    assert_eq!(cache, (8..=16).collect());
    let durable: BTreeSet<_> = seen.iter().map(|(_, least)| least.as_str()).collect();
    let (old, new) = ("7".repeat(8), "5".repeat(8));
    assert!(
        durable.contains("") && durable.contains(&*old) && durable.contains(&*format!("{old}{new}")),
        "{durable:?}"
    );
}

#[test]
fn the_same_number_is_the_same_image() {
    let mut world = overwritten(2);
    let operation = block_write(&mut world.io, &world.file, 5, 9, false);
    world.io.submit(operation).unwrap();
    let snapshot = world.disk.snapshot();
    let mut images = snapshot.images(CrashKind::Power, &ImageLimits::FULL);
    let count = images.len();
    for number in (0..count).step_by(97) {
        let (again, first) =
            (snapshot.images(CrashKind::Power, &ImageLimits::FULL).nth(number).unwrap(), images.next());
        let first = first.unwrap();
        assert_eq!((first.number(), again.number()), (number, number));
        assert_eq!(content(&first), content(&again));
        assert_eq!(first.to_string(), again.to_string());
        images.by_ref().take(96).for_each(drop);
    }
    assert!(snapshot.images(CrashKind::Power, &ImageLimits::FULL).nth(count).is_none());
}

#[test]
fn a_completion_alone_leaves_the_same_to_a_power_cut_and_a_sync_does_not() {
    let mut world = World::seeded(1);
    let operation = block_write(&mut world.io, &world.file, 0, 7, false);
    let before = world.disk.snapshot();
    world.io.submit(operation).unwrap();
    let submitted = world.disk.snapshot();
    world.io.poll(corewal_io::Wait::One, &mut Vec::new()).unwrap();
    let completed = world.disk.snapshot();
    sync(&mut world.io, &world.file);
    let synced = world.disk.snapshot();
    assert!(before.differs_after_power(&submitted));
    assert!(!submitted.differs_after_power(&completed));
    assert!(completed.differs_after_power(&synced));
    world.disk.open("made".as_ref(), OpenMode::CreateNew).unwrap();
    assert!(synced.differs_after_power(&world.disk.snapshot()));
}

#[test]
fn after_a_failed_sync_pages_are_new_old_or_mixed() {
    let mut world = overwritten(8);
    let kind = FaultKind::FailedSyncPagesMixed;
    world.disk.inject(Fault { on: OperationKind::Sync, skip: 0, kind, sticky: false });
    let file = world.file.clone();
    let error = world.io.perform(Operation::Sync { file }).unwrap().result.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    let cache = sectors(&world.content());
    let blocks: BTreeSet<&str> = (0..8).map(|block| &cache[block * 8..][..8]).collect();
    assert!(blocks.contains(&*"7".repeat(8)) && blocks.len() > 1, "{cache}");
    // No later sync writes what still looks new.
    sync(&mut world.io, &world.file);
    let found = found(&world.disk.snapshot(), CrashKind::Power, &ImageLimits::FULL);
    assert!(found.len() == 1 && found[0] != cache && found[0].contains('7') && found[0].contains('1'), "{found:?}");
}
