//! Every bit flipped, every sector zeroed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use corewal::format::BLOCK_LEN;
use corewal::{Error, Lsn, Recover};

use super::world::{FrameAt, Judgement, Tally, World, frames_of, place_of};

const SECTOR: usize = 512;

/// Judges a copy for every position of a file, changed by `change`.
fn change_each(
    world: &World,
    path: &Path,
    count: usize,
    change: impl Fn(&mut [u8], usize) -> usize + Sync,
) -> Vec<(usize, Judgement)> {
    let bytes = world.read(path);
    world.judge_all(count, |number| {
        let mut changed = bytes.clone();
        let at = change(&mut changed, number);
        (at, world.judge(|disk| disk.write_file(path, changed)))
    })
}

/// Every bit of the header and of the frames, and one in 61 of what lies
/// between and behind them; with `COREWAL_FLIPS=all` every bit there is.
fn flip_each(world: &World, path: &Path) -> Vec<(usize, Judgement)> {
    let bytes = world.read(path);
    let all = std::env::var("COREWAL_FLIPS").is_ok_and(|text| text == "all") || place_of(path).is_none();
    let frames = if place_of(path).is_some() { frames_of(&bytes) } else { Vec::new() };
    let used = |at: usize| at < 64 || frames.iter().any(|frame| (frame.offset..frame.offset + frame.len).contains(&at));
    let bits: Vec<usize> = (0..bytes.len() * 8).filter(|&bit| all || bit % 61 == 0 || used(bit / 8)).collect();
    change_each(world, path, bits.len(), |bytes, number| {
        let bit = bits[number];
        bytes[bit / 8] ^= 1 << (bit % 8);
        bit / 8
    })
}

fn zero_each_sector(world: &World, path: &Path) -> Vec<(usize, Judgement)> {
    let sectors = world.read(path).len().div_ceil(SECTOR);
    change_each(world, path, sectors, |bytes, sector| {
        let (from, to) = (sector * SECTOR, bytes.len().min((sector + 1) * SECTOR));
        bytes[from..to].fill(0);
        from
    })
}

/// An error of a damaged place names it: the file, and the block in which the
/// damaged header or frame begins.
fn names_the_place(error: &Error, path: &Path, at: usize) {
    let Some((core, segment)) = place_of(path) else {
        let path_of_error = match error {
            Error::Damaged(damage) => &damage.path,
            Error::Unsupported { path, .. } => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path_of_error, path, "{error}");
        return;
    };
    let Error::Damaged(damage) = error else { panic!("{error:?}") };
    assert_eq!((damage.core, damage.segment), (core, Some(segment)), "flip at {at}: {error}");
    let block = at - at % BLOCK_LEN;
    assert_eq!(damage.offset, block as u64, "flip at {at}: {error}");
    assert_eq!(damage.path, path);
}

/// What of a closed store differs when a bit flips or a sector is lost: nothing.
fn of_a_closed_store(recover: Recover) {
    let world = World::closed(recover);
    let (mut flips, mut sectors) = (Tally::default(), Tally::default());
    for path in world.files() {
        for (at, judgement) in flip_each(&world, &path) {
            flips.count(|| format!("{} byte {at}", path.display()), &judgement);
            if let Judgement::Refused(error) = judgement {
                names_the_place(&error, &path, at);
            }
        }
        for (at, judgement) in zero_each_sector(&world, &path) {
            sectors.count(|| format!("{} sector at {at}", path.display()), &judgement);
            if let Judgement::Refused(error) = judgement {
                names_the_place(&error, &path, at);
            }
        }
    }
    flips.print("closed store, flipped bits");
    sectors.print("closed store, zeroed sectors");
    assert!(flips.identical > 0 && flips.refused > 0);
    assert_eq!(flips.different, [] as [String; 0]);
    assert_eq!(sectors.different, [] as [String; 0]);
}

#[test]
fn no_flipped_bit_of_a_closed_store_changes_data_unnoticed() {
    of_a_closed_store(Recover::CompleteEpoch);
}

/// The bytes of a core's log that no frame proves durable: the window in which
/// damage and an unfinished write look the same.
fn window(world: &World, core: u16) -> Vec<(PathBuf, FrameAt)> {
    let paths = world.segments(core);
    let frames: Vec<_> = paths
        .into_iter()
        .flat_map(|path| frames_of(&world.read(&path)).into_iter().map(move |frame| (path.clone(), frame)))
        .collect();
    let proven = frames.iter().map(|(_, frame)| frame.durable).max().unwrap_or(Lsn(0));
    frames.into_iter().filter(|(_, frame)| frame.lsn >= proven).collect()
}

#[test]
fn in_a_crashed_store_only_the_last_frames_can_be_taken_for_a_torn_write() {
    let world = World::crashed(Recover::Latest);
    let (mut flips, mut sectors, mut bits) = (Tally::default(), Tally::default(), 0);
    for core in 0..2 {
        let window = window(&world, core);
        bits += window.iter().map(|(_, frame)| frame.len * 8).sum::<usize>();
        let covers = |path: &Path, bytes: Range<usize>| {
            window
                .iter()
                .any(|(of, frame)| of == path && bytes.start < frame.offset + frame.len && frame.offset < bytes.end)
        };
        for path in world.segments(core) {
            for (at, judgement) in flip_each(&world, &path) {
                flips.count(|| format!("{} byte {at}", path.display()), &judgement);
                match judgement {
                    Judgement::Refused(error) => names_the_place(&error, &path, at),
                    Judgement::Different(_) => {
                        assert!(covers(&path, at..at + 1), "{} byte {at} is proven durable", path.display());
                    }
                    Judgement::Identical | Judgement::MadeGood => {}
                }
            }
            for (at, judgement) in zero_each_sector(&world, &path) {
                sectors.count(|| format!("{} sector at {at}", path.display()), &judgement);
                match judgement {
                    Judgement::Refused(error) => names_the_place(&error, &path, at),
                    Judgement::Different(_) => assert!(covers(&path, at..at + SECTOR), "{} {at}", path.display()),
                    Judgement::Identical | Judgement::MadeGood => {}
                }
            }
        }
    }
    flips.print("crashed store, flipped bits");
    sectors.print("crashed store, zeroed sectors");
    println!("  the window: {bits} bits of frames behind the last proven durable LSN, taken for a torn write");
    assert_eq!(flips.different.len(), bits, "the window is what lies behind the last proven durable LSN");
}
