//! Looking into a store, verifying it, and repairing it when it is damaged.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use corewal::format::Record;
use corewal::{Commit, Epoch, Error, Keyed, Lsn, Options, Reader, Recover, repair, reshard, verify};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    Options::new().cores(2).segment_bytes(64 << 10).buffer_bytes(8 << 10)
}

/// Twenty epochs over two cores; gives the state after each.
fn fill(dir: &Path, close: bool) -> Vec<Model> {
    let mut opened = options().open(dir).unwrap();
    let mut model = Model::new();
    let mut states = vec![model.clone()];
    for round in 0..20_u32 {
        let epoch = opened.store.next_epoch();
        for n in 0..300_u32 {
            let (key, value) = (format!("key-{}", n % 50), format!("{round}-{n}-{}", "x".repeat(40)));
            let core = opened.store.route(key.as_bytes());
            opened.shards[core.index()].put(key.as_bytes(), value.as_bytes()).unwrap();
            model.insert(key.into_bytes(), value.into_bytes());
        }
        for shard in &mut opened.shards {
            shard.commit(&Commit::new().offset_u64("input", u64::from(round) + 1)).unwrap();
            shard.end_epoch(epoch).unwrap();
            shard.sync().unwrap();
        }
        states.push(model.clone());
    }
    for shard in opened.shards.drain(..).filter(|_| close) {
        shard.close().unwrap();
    }
    states
}

fn read(dir: &Path) -> (Epoch, Model) {
    let reader = Reader::open(dir).unwrap();
    let mut state = Model::new();
    for view in reader.replay(Recover::CompleteEpoch, |_| Keyed::default()).unwrap() {
        state.extend(view.state.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    (reader.info().unwrap().complete_epoch, state)
}

/// The segments of a core that hold frames. (One more is ready to be used.)
fn segments(dir: &Path, core: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join(core)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| std::fs::read(path).unwrap()[4096..].iter().any(|&byte| byte != 0));
    files.sort();
    files
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// After a repair the store opens at one of the states it ever had, goes on,
/// and opens again.
fn repaired_store_goes_on(dir: &Path, states: &[Model], used: &[Lsn]) -> Epoch {
    let done = repair(dir, true).unwrap();
    assert!(done.applied && !done.steps.is_empty());
    assert_eq!(verify(dir).unwrap().findings, []);
    assert_eq!(repair(dir, false).unwrap().steps, [], "nothing is left to repair");
    let (epoch, state) = read(dir);
    assert_eq!(epoch, done.complete_epoch);
    assert_eq!(state, states[epoch.get() as usize]);
    let mut opened = options().open(dir).unwrap();
    for (shard, used) in opened.shards.iter().zip(used) {
        assert!(shard.log().start_lsn() <= shard.log().durable_lsn());
        assert!(shard.log().appended_lsn() > *used || epoch.get() == 20, "no position is used twice");
        assert_eq!(shard.offset_u64("input"), (epoch.get() > 0).then_some(epoch.get()));
    }
    let next = opened.store.next_epoch();
    assert!(next > epoch);
    for shard in &mut opened.shards {
        shard.end_epoch(next).unwrap();
        shard.sync().unwrap();
    }
    drop(opened);
    assert_eq!(read(dir).0, next);
    epoch
}

fn ends(dir: &Path) -> Vec<Lsn> {
    Reader::open(dir).unwrap().info().unwrap().cores.iter().map(|core| core.appended_lsn).collect()
}

#[test]
fn a_reader_sees_what_the_next_open_recovers_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path(), false);
    let before: Vec<_> = segments(dir.path(), "core-0000").iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(read(dir.path()), (Epoch(20), states[20].clone()));
    assert_eq!(verify(dir.path()).unwrap().findings, []);
    let after: Vec<_> = segments(dir.path(), "core-0000").iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn a_reader_beside_a_live_writer_sees_whole_epochs_only() {
    let dir = tempfile::tempdir().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut opened = options().open(dir.path()).unwrap();
            let mut round = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if round == 2000 {
                    std::thread::yield_now(); // long enough a log to look at
                    continue;
                }
                round += 1;
                let epoch = opened.store.next_epoch();
                for n in 0..40_u32 {
                    let key = n.to_le_bytes();
                    let core = opened.store.route(&key);
                    opened.shards[core.index()].put(&key, &round.to_le_bytes()).unwrap();
                }
                for shard in &mut opened.shards {
                    shard.commit(&Commit::new().offset_u64("round", round)).unwrap();
                    shard.end_epoch(epoch).unwrap();
                    shard.sync().unwrap();
                }
            }
            round
        });
        let (mut looks, mut newest) = (0, 0);
        while looks < 60 {
            let reader = match Reader::open(dir.path()) {
                Ok(reader) => reader,
                Err(Error::NotAStore { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            let views = reader.replay(Recover::CompleteEpoch, |_| Keyed::default()).unwrap();
            let rounds: Vec<_> = views.iter().map(|view| view.offsets.get("round").cloned()).collect();
            assert_eq!(rounds[0], rounds[1], "one cut over both cores");
            // The writer may not have got to its first round yet.
            let Some(round) = &rounds[0] else { continue };
            looks += 1;
            let number = u64::from_le_bytes(round.as_slice().try_into().unwrap());
            assert!(number >= newest, "what was seen stays seen");
            newest = number;
            let values: Vec<_> = views.iter().flat_map(|view| view.state.iter()).collect();
            assert_eq!(values.len(), 40);
            assert!(values.iter().all(|(_, value)| *value == round.as_slice()), "nothing of a later round");
            assert_eq!(verify(dir.path()).unwrap().findings, []);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(newest > 0 && writer.join().unwrap() >= newest);
    });
}

#[test]
fn the_merged_reading_is_ordered_by_epoch_core_and_lsn() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), true);
    let reader = Reader::open(dir.path()).unwrap();
    let (mut last, mut puts) = (None, 0);
    reader
        .for_each_record(None, Lsn(0), |record| {
            let place = (record.epoch, record.core, record.lsn);
            assert!(last < Some(place), "{last:?} {place:?}");
            last = Some(place);
            puts += u32::from(matches!(record.record, Record::Put { .. }));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(puts, 20 * 300);
}

#[test]
fn damage_in_the_middle_is_refused_then_cut_and_the_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path(), true);
    let used = ends(dir.path());
    let damaged = segments(dir.path(), "core-0001")[1].clone();
    flip(&damaged, 4096 + 200); // in the segment's first frame
    let bytes = std::fs::read(&damaged).unwrap();

    let error = options().open(dir.path()).unwrap_err();
    let damage = error.damage().expect("damage").clone();
    assert_eq!((damage.core.get(), damage.path.as_path()), (1, damaged.as_path()));
    let found = verify(dir.path()).unwrap();
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert_eq!((found.findings[0].kind, found.findings[0].offset), ("corrupt", 4096));

    let plan = repair(dir.path(), false).unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(std::fs::read(&damaged).unwrap(), bytes, "a plan changes nothing");
    let epoch = repaired_store_goes_on(dir.path(), &states, &used);
    assert!((1..20).contains(&epoch.get()), "{epoch}");
    let kept = dir.path().join("damaged-0001/core-0001").join(damaged.file_name().unwrap());
    assert_eq!(std::fs::read(kept).unwrap(), bytes);
}

#[test]
fn missing_foreign_and_headless_logs_are_refused_and_repaired() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 7] = [
        ("missing middle", |dir| std::fs::remove_file(&segments(dir, "core-0000")[2]).unwrap()),
        ("missing first", |dir| std::fs::remove_file(&segments(dir, "core-0000")[0]).unwrap()),
        ("missing newest", |dir| std::fs::remove_file(segments(dir, "core-0000").last().unwrap()).unwrap()),
        ("missing core", |dir| std::fs::remove_dir_all(dir.join("core-0000")).unwrap()),
        ("damaged first header", |dir| flip(&segments(dir, "core-0000")[0], 20)),
        ("damaged middle header", |dir| flip(&segments(dir, "core-0000")[2], 20)),
        ("swapped", |dir| {
            let files = segments(dir, "core-0000");
            let aside = dir.join("aside");
            std::fs::rename(&files[1], &aside).unwrap();
            std::fs::rename(&files[2], &files[1]).unwrap();
            std::fs::rename(&aside, &files[2]).unwrap();
        }),
    ];
    for (name, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let states = fill(dir.path(), true);
        let used = ends(dir.path());
        harm(dir.path());
        let error = options().open(dir.path()).unwrap_err();
        assert!(error.damage().is_some_and(|damage| damage.core.get() == 0), "{name}: {error}");
        assert!(!verify(dir.path()).unwrap().findings.is_empty(), "{name}");
        let epoch = repaired_store_goes_on(dir.path(), &states, &used[1..1]);
        println!("{name}: back at epoch {epoch}");
    }
}

#[test]
fn a_log_that_lost_its_tail_with_all_evidence_is_caught_by_the_other_cores_word() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path(), true);
    // Cut the newest segment of core 0 back to its first frame: nothing within
    // the log tells, but core 1 knows that epoch 20 was complete.
    let newest = segments(dir.path(), "core-0000").pop().unwrap();
    // The segment that waits behind it would tell how long it has to be.
    for entry in std::fs::read_dir(dir.path().join("core-0000")).unwrap() {
        let path = entry.unwrap().path();
        if path > newest {
            std::fs::remove_file(path).unwrap();
        }
    }
    let file = std::fs::File::options().write(true).open(newest).unwrap();
    file.set_len(4096).unwrap();
    let error = options().open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("says that epoch 20 was complete"), "{error}");
    assert_eq!(verify(dir.path()).unwrap().findings[0].kind, "epoch");
    repaired_store_goes_on(dir.path(), &states, &[]);
}

#[test]
fn a_lost_manifest_is_made_again_from_the_segments() {
    for harm in ["flip", "remove"] {
        let dir = tempfile::tempdir().unwrap();
        let states = fill(dir.path(), true);
        let path = dir.path().join("MANIFEST");
        if harm == "flip" {
            flip(&path, 30)
        } else {
            std::fs::remove_file(&path).unwrap()
        }
        assert!(matches!(options().open(dir.path()), Err(Error::Damaged(_))));
        assert_eq!(verify(dir.path()).unwrap().findings[0].kind, "manifest");
        assert_eq!(repaired_store_goes_on(dir.path(), &states, &[]), Epoch(20));
    }
}

#[test]
fn a_byte_in_the_padding_is_found_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path(), true);
    let newest = segments(dir.path(), "core-0000").pop().unwrap();
    let last = std::fs::read(&newest).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
    flip(&newest, last.next_multiple_of(4096) - 1);
    assert_eq!(verify(dir.path()).unwrap().findings[0].kind, "padding");
    assert_eq!(read(dir.path()).1, states[20]);
}

#[test]
fn a_manifest_made_again_follows_most_segments_and_not_a_stranger_among_them() {
    // The first header that was intact decided: a segment copied in from
    // another store made every log of this one look foreign, to be given up.
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let states = fill(dir.path(), true);
    fill(other.path(), true);
    std::fs::copy(&segments(other.path(), "core-0000")[0], &segments(dir.path(), "core-0000")[0]).unwrap();
    let id = Reader::open(other.path()).unwrap().info().unwrap().log_id;
    std::fs::remove_file(dir.path().join("MANIFEST")).unwrap();
    repaired_store_goes_on(dir.path(), &states, &[]);
    assert_ne!(Reader::open(dir.path()).unwrap().info().unwrap().log_id, id);
}

#[test]
fn an_old_manifest_put_back_is_found_and_mended_without_loss() {
    use corewal::format::{Manifest, ManifestState};
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path(), true);
    let path = dir.path().join("MANIFEST");
    let manifest = Manifest::decode(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::write(&path, Manifest { state: ManifestState::Creating, ..manifest }.encode()).unwrap();
    assert_eq!(verify(dir.path()).unwrap().findings[0].kind, "manifest");
    assert_eq!(repaired_store_goes_on(dir.path(), &states, &[]), Epoch(20));
}

#[test]
fn a_store_in_use_is_not_looked_at_for_repairs() {
    let dir = tempfile::tempdir().unwrap();
    let opened = options().open(dir.path()).unwrap();
    assert!(repair(dir.path(), false).unwrap_err().is_locked());
    assert!(repair(dir.path(), true).unwrap_err().is_locked());
    drop(opened);
    assert_eq!(repair(dir.path(), false).unwrap().steps, []);
}

/// Found by fuzzing: only opening looked at how the keys are routed. Verifying
/// called such a store whole, and a repair called itself done.
#[test]
fn a_manifest_whose_keys_are_routed_in_an_unknown_way_is_refused_by_whoever_reads_it() {
    use corewal::format::Manifest;
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), true);
    let path = dir.path().join("MANIFEST");
    let manifest = Manifest::decode(&std::fs::read(&path).unwrap()).unwrap();
    let newer = Manifest { route: "xxh9-64".into(), ..manifest }.encode();
    std::fs::write(&path, &newer).unwrap();

    let refused = |error: Error| {
        let told = error.to_string();
        assert!(matches!(error, Error::Unsupported { .. }) && told.contains("xxh9-64"), "{told}");
    };
    refused(options().open(dir.path()).unwrap_err());
    refused(Reader::open(dir.path()).unwrap_err());
    refused(reshard(dir.path(), 3).unwrap_err());
    refused(repair(dir.path(), false).unwrap_err());
    refused(repair(dir.path(), true).unwrap_err());
    let findings = verify(dir.path()).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].kind, "unsupported");
    assert_eq!(std::fs::read(&path).unwrap(), newer.into_bytes());
}

#[test]
fn a_newer_segment_keeps_a_repair_from_cutting_the_other_core() {
    // The damaged core came first and was cut before the newer one was seen.
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), true);
    flip(&segments(dir.path(), "core-0000")[1], 4096 + 200);
    let newer = &segments(dir.path(), "core-0001")[1];
    let mut bytes = std::fs::read(newer).unwrap();
    bytes[8] = 9;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..64]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(newer, bytes).unwrap();
    let before = segments(dir.path(), "core-0000");
    assert!(matches!(repair(dir.path(), true), Err(Error::Unsupported { .. })));
    assert_eq!(segments(dir.path(), "core-0000"), before);
    assert!(!dir.path().join("damaged-0001").exists());

    // Found by fuzzing: a manifest was made again before the newer one was seen.
    let manifest = dir.path().join("MANIFEST");
    std::fs::remove_file(&manifest).unwrap();
    assert!(matches!(repair(dir.path(), true), Err(Error::Unsupported { .. })));
    assert!(!manifest.exists() && !dir.path().join("damaged-0001").exists());
}

/// Found by `corewal torture`: behind a checkpoint a log whose beginning is gone
/// was given up and begun anew, but the checkpoint was not told. Then opening
/// missed what stood between, `verify` had no findings, and `repair` nothing to
/// repair.
#[test]
fn a_log_that_is_begun_anew_behind_a_checkpoint_opens_at_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path(), true);
    let made = corewal::checkpoint(dir.path(), corewal::Checkpoints::default()).unwrap().unwrap();
    assert_eq!(made.epoch, Epoch(20));
    // Behind the checkpoint, several segments more; then its releases.
    let mut opened = options().open(dir.path()).unwrap();
    for _ in 0..20 {
        let epoch = opened.store.next_epoch();
        for n in 0..900_u32 {
            let key = format!("key-{}", n % 50);
            let core = opened.store.route(key.as_bytes());
            opened.shards[core.index()].put(key.as_bytes(), b"behind the checkpoint, and long enough").unwrap();
        }
        for shard in &mut opened.shards {
            shard.commit(&Commit::new()).unwrap();
            shard.end_epoch(epoch).unwrap();
            shard.sync().unwrap();
        }
    }
    for shard in opened.shards.drain(..) {
        shard.close().unwrap();
    }
    drop(opened);
    // All but the newest segment, without which that hangs in the air.
    let mut gone = segments(dir.path(), "core-0001");
    assert!(gone.len() > 1, "{gone:?}");
    gone.pop();
    gone.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert!(options().open(dir.path()).is_err());

    let mended = repair(dir.path(), true).unwrap();
    assert_eq!(mended.complete_epoch, Epoch(20), "{mended:?}");
    assert_eq!(verify(dir.path()).unwrap().findings, []);
    assert_eq!(read(dir.path()), (Epoch(20), states[20].clone()));
    drop(options().open(dir.path()).unwrap());
    assert_eq!(read(dir.path()), (Epoch(20), states[20].clone()));
    assert!(repair(dir.path(), true).unwrap().steps.is_empty());
}
