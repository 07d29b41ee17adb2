//! Files truncated, missing, swapped, copied, renamed, foreign, of the past.

use std::path::{Path, PathBuf};

use corewal::format::{CoreId, Manifest, ManifestState, SegmentId, name};
use corewal::io::SimStorage;
use corewal::{Error, Recover};

use super::world::{DIR, Judgement, Tally, World, frames_of, place_of};

/// Why a store may come back with other data and nobody can tell.
const SUFFIX: &str = "the end of a log is gone, with all that proved it was there";

fn manifest() -> PathBuf {
    Path::new(DIR).join(name::MANIFEST)
}

/// Judges copies whose file is cut to each length, and which lost the segment
/// that waits behind the log's last as well, if `alone`.
fn truncate_each(world: &World, path: &Path, alone: bool, tally: &mut Tally) -> Vec<usize> {
    let bytes = world.read(path);
    let lengths: Vec<usize> = match place_of(path) {
        Some(_) => (0..bytes.len()).step_by(512).collect(),
        None => (0..bytes.len()).collect(),
    };
    let judged = world.judge_all(lengths.len(), |number| {
        let cut = bytes[..lengths[number]].to_vec();
        world.judge(|disk| {
            disk.write_file(path, cut);
            let ready = world.ready().into_iter().filter(|_| alone);
            ready.for_each(|path| assert!(disk.remove_file_durably(&path)));
        })
    });
    let mut unnoticed = Vec::new();
    for (len, judgement) in lengths.into_iter().zip(judged) {
        tally.count(|| format!("{} cut to {len} bytes: {SUFFIX}", path.display()), &judgement);
        if let Judgement::Different(_) = judgement {
            unnoticed.push(len);
        }
    }
    unnoticed
}

#[test]
fn every_truncation_of_a_store_closed_at_a_complete_epoch_is_noticed() {
    let world = World::closed(Recover::CompleteEpoch);
    let mut tally = Tally::default();
    for path in world.files() {
        truncate_each(&world, &path, false, &mut tally);
    }
    tally.print("closed store, complete epoch, truncated files");
    // The other core's log says that the epoch was complete.
    assert_eq!(tally.different, [] as [String; 0]);
}

/// The segment that waits behind the log's last one was made behind a file of
/// the full length.
#[test]
fn every_truncation_of_a_crashed_store_is_noticed() {
    let world = World::crashed(Recover::Latest);
    let mut tally = Tally::default();
    for path in segments(&world) {
        truncate_each(&world, &path, false, &mut tally);
    }
    tally.print("crashed store, own commits, truncated files");
    assert_eq!(tally.different, [] as [String; 0]);
}

#[test]
fn without_a_next_segment_a_truncation_goes_unnoticed_if_it_takes_the_end_with_all_its_evidence() {
    let world = World::crashed(Recover::Latest);
    let mut tally = Tally::default();
    for core in 0..2 {
        let segments = world.segments(core);
        let all: Vec<_> = segments.iter().flat_map(|path| frames_of(&world.read(path))).collect();
        let proven = all.iter().map(|frame| frame.durable).max().unwrap();
        for path in &segments {
            let frames = frames_of(&world.read(path));
            for len in truncate_each(&world, path, true, &mut tally) {
                let lost = frames.iter().find(|frame| frame.offset + frame.len > len).expect("nothing is lost");
                assert!(lost.lsn >= proven, "{} cut to {len} loses what is proven durable", path.display());
            }
        }
    }
    tally.print("crashed store, own commits, truncated files, no next segment");
    for case in &tally.different {
        println!("  not detectable: {case}");
    }
    assert!(!tally.different.is_empty(), "the list tells what cannot be noticed");
}

/// All segments of the store, of both cores.
fn segments(world: &World) -> Vec<PathBuf> {
    [world.segments(0), world.segments(1)].concat()
}

/// Judges one case of files put in each other's places, which must be noticed.
fn must_be_noticed(world: &World, tally: &mut Tally, case: &str, damage: impl FnOnce(&SimStorage)) -> Error {
    let judgement = world.judge(damage);
    tally.count(|| case.to_owned(), &judgement);
    match judgement {
        Judgement::Refused(error) => error,
        other => panic!("{case}: {other:?}"),
    }
}

fn is_damage_of(error: &Error, path: &Path) -> bool {
    let (core, segment) = place_of(path).unwrap();
    error.damage().is_some_and(|damage| damage.core == core && damage.segment == Some(segment))
}

#[test]
fn swapped_and_copied_segments_are_noticed() {
    for world in [World::closed(Recover::CompleteEpoch), World::crashed(Recover::Latest)] {
        let mut tally = Tally::default();
        let segments = segments(&world);
        for one in &segments {
            for other in segments.iter().filter(|other| *other != one) {
                let (first, second) = (world.read(one), world.read(other));
                let case = format!("{} over {}", other.display(), one.display());
                let error = must_be_noticed(&world, &mut tally, &case, |disk| disk.write_file(one, second.clone()));
                assert!(is_damage_of(&error, one), "{case}: {error}");
                let error = must_be_noticed(&world, &mut tally, &case, |disk| {
                    disk.write_file(one, second);
                    disk.write_file(other, first);
                });
                assert!(is_damage_of(&error, one) || is_damage_of(&error, other), "{case} swapped: {error}");
            }
        }
        tally.print("segments copied over and swapped with each other");
    }
}

#[test]
fn missing_and_renamed_segments_are_noticed() {
    for world in [World::closed(Recover::CompleteEpoch), World::crashed(Recover::Latest)] {
        let mut tally = Tally::default();
        for core in 0..2 {
            let segments = world.segments(core);
            for path in &segments {
                let case = format!("{} missing", path.display());
                let error = must_be_noticed(&world, &mut tally, &case, |disk| assert!(disk.remove_file_durably(path)));
                assert_eq!(error.damage().unwrap().core, CoreId(core), "{case}: {error}");
                for number in 0..8 {
                    let to = path.with_file_name(name::segment(SegmentId(number)));
                    if segments.contains(&to) {
                        continue;
                    }
                    let case = format!("{} renamed to {}", path.display(), to.display());
                    let bytes = world.read(path);
                    let error = must_be_noticed(&world, &mut tally, &case, |disk| {
                        disk.remove_file_durably(path);
                        disk.write_file(&to, bytes);
                    });
                    assert_eq!(error.damage().unwrap().core, CoreId(core), "{case}: {error}");
                }
            }
            // Several at once, up to all.
            for from in 0..segments.len() {
                for to in from + 1..=segments.len() {
                    let case = format!("segments {from} to {to} of core {core} missing");
                    must_be_noticed(&world, &mut tally, &case, |disk| {
                        segments[from..to].iter().for_each(|path| assert!(disk.remove_file_durably(path)));
                    });
                }
            }
        }
        tally.print("missing and renamed segments");
    }
}

#[test]
fn segments_of_another_log_are_noticed_also_beside_the_log() {
    let foreign = World::of_another_log();
    for world in [World::closed(Recover::CompleteEpoch), World::crashed(Recover::Latest)] {
        let mut tally = Tally::default();
        for path in segments(&world) {
            let bytes = foreign.read(&path);
            let case = format!("{} of another log", path.display());
            let error = must_be_noticed(&world, &mut tally, &case, |disk| disk.write_file(&path, bytes.clone()));
            assert!(is_damage_of(&error, &path), "{case}: {error}");
            // Behind the end of the log.
            let beside = path.with_file_name(name::segment(SegmentId(7)));
            let case = format!("{} of another log", beside.display());
            let error = must_be_noticed(&world, &mut tally, &case, |disk| disk.write_file(&beside, bytes));
            assert!(is_damage_of(&error, &beside), "{case}: {error}");
        }
        tally.print("segments of another log");
    }
}

#[test]
fn a_manifest_that_is_absent_or_of_another_store_is_noticed() {
    let world = World::closed(Recover::CompleteEpoch);
    let mut tally = Tally::default();
    let error =
        must_be_noticed(&world, &mut tally, "no manifest", |disk| assert!(disk.remove_file_durably(&manifest())));
    assert_eq!(error.damage().unwrap().path, manifest(), "{error}");
    let foreign = World::of_another_log().read(&manifest());
    must_be_noticed(&world, &mut tally, "the manifest of another log", |disk| disk.write_file(&manifest(), foreign));
    let own = Manifest::decode(&world.read(&manifest())).unwrap();
    for cores in [1, 3] {
        let other = Manifest { cores, ..own.clone() }.encode().into_bytes();
        must_be_noticed(&world, &mut tally, "another number of cores", |disk| disk.write_file(&manifest(), other));
    }
    let other = Manifest { route: "fnv-1a".into(), ..own }.encode().into_bytes();
    must_be_noticed(&world, &mut tally, "another way to route", |disk| disk.write_file(&manifest(), other));
    // A whole manifest of the past: the store begins anew over what is there.
    let own = Manifest::decode(&world.read(&manifest())).unwrap();
    let creating = Manifest { state: ManifestState::Creating, ..own }.encode().into_bytes();
    let judgement = world.judge(|disk| disk.write_file(&manifest(), creating));
    tally.count(|| "the manifest of the store's own creation put back".into(), &judgement);
    tally.print("manifests");
    for case in &tally.different {
        println!("  not detectable: {case}");
    }
}

/// A copy of a file from the store's own past, intact and too short, or as long
/// as it should be with zeros behind.
#[test]
fn a_segment_put_back_from_the_past_is_noticed_if_anything_proves_what_is_gone() {
    for (world, whole) in [(World::closed(Recover::CompleteEpoch), true), (World::crashed(Recover::Latest), false)] {
        for padded in [false, true] {
            let mut tally = Tally::default();
            for core in 0..2 {
                let segments = world.segments(core);
                let last = segments.last().unwrap();
                let bytes = world.read(last);
                for frame in frames_of(&bytes) {
                    let mut past = bytes[..frame.offset].to_vec();
                    past.resize(if padded { bytes.len() } else { past.len() }, 0);
                    let judgement = world.judge(|disk| disk.write_file(last, past));
                    tally.count(
                        || format!("{} as it was {} bytes long: {SUFFIX}", last.display(), frame.offset),
                        &judgement,
                    );
                }
            }
            tally.print(if padded { "last segments of the past" } else { "last segments of the past, too short" });
            for case in &tally.different {
                println!("  not detectable: {case}");
            }
            assert_eq!(tally.different.is_empty(), whole || !padded);
        }
    }
}

/// A segment that is ready to be used holds nothing, so nothing is lost with
/// it, whatever happens to it; and nothing that happens to it passes for data.
#[test]
fn damage_to_a_segment_that_only_waits_harms_nothing() {
    for world in [World::closed(Recover::CompleteEpoch), World::crashed(Recover::Latest)] {
        let ready = world.ready();
        assert_eq!(ready.len(), 2, "one a core");
        for path in &ready {
            let bytes = world.read(path);
            let flips = (0..64 * 8).chain((64 * 8..bytes.len() * 8).step_by(997));
            for bit in flips {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                // A header that names another place is refused, like any other
                // file that does not belong here.
                let judgement = world.judge(|disk| disk.write_file(path, changed));
                assert!(matches!(judgement, Judgement::Identical), "{} bit {bit}: {judgement:?}", path.display());
            }
            for len in (0..bytes.len()).step_by(512) {
                let judgement = world.judge(|disk| disk.write_file(path, bytes[..len].to_vec()));
                assert!(matches!(judgement, Judgement::Identical), "{} cut to {len}", path.display());
            }
            let judgement = world.judge(|disk| assert!(disk.remove_file_durably(path)));
            assert!(matches!(judgement, Judgement::Identical), "{} missing", path.display());
        }
    }
}
