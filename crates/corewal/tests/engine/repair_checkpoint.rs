//! Repairing a store that has checkpoints. Found by fuzzing whole directories
//! (`crates/hostile`): in each case the repair said that it was done, and the
//! store did not open, or did with less than it said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::io::{CrashKind, SimStorage};
use corewal::{
    Checkpoints, Commit, Epoch, Keyed, LogId, Opened, Options, SystemClock, checkpoint_on, repair_on, reshard_on,
    verify_on,
};

const DIR: &str = "/db";

fn options() -> Options {
    let options = Options::new().buffers(2).buffer_bytes(4096).segment_bytes(16_384).log_id(LogId([4; 16]));
    options.checkpoints(Checkpoints::manual()).single_threaded()
}

fn open(disk: &SimStorage) -> corewal::Result<Opened<Keyed, SimStorage>> {
    options().create(false).open_on(disk.clone(), DIR, |_| Keyed::default())
}

fn work(store: &mut Opened<Keyed, SimStorage>, epochs: std::ops::Range<u8>) {
    for round in epochs {
        let epoch = store.store.next_epoch();
        for n in 0..20_u8 {
            let core = store.store.route(&[n]);
            store.shards[core.index()].put(&[n], &[round; 100]).unwrap();
        }
        for shard in &mut store.shards {
            shard.commit(&Commit::new().offset_u64("input", round.into())).unwrap();
            shard.end_epoch(epoch).unwrap();
            shard.sync().unwrap();
        }
    }
}

/// A closed store of two cores, with a checkpoint of the first eight epochs and
/// two more behind it. Nothing of the log has been released.
fn store() -> SimStorage {
    let disk = SimStorage::default();
    for (epochs, checkpoint) in [(0..8, true), (8..10, false)] {
        let mut store = options().cores(2).open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
        work(&mut store, epochs);
        store.shards.into_iter().try_for_each(corewal::Shard::close).unwrap();
        drop(store.store);
        if checkpoint {
            checkpoint_on(disk.clone(), DIR, Checkpoints::manual(), Arc::new(SystemClock)).unwrap().expect("made");
        }
    }
    disk
}

fn flip(disk: &SimStorage, path: &Path, at: usize) {
    let mut bytes = disk.read_file(path).unwrap();
    bytes[at] ^= 1;
    disk.write_file(path, bytes);
}

/// The files of one kind, but for those that a repair has kept.
fn all(disk: &SimStorage, end: &str) -> Vec<PathBuf> {
    let kept = |path: &PathBuf| path.to_string_lossy().contains("damaged");
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|found| found == end) && !kept(path)).collect()
}

fn content(disk: &SimStorage) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter().filter(|path| !path.ends_with("LOCK"));
    files.map(|path| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

fn keys(store: &Opened<Keyed, SimStorage>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let pairs = store.shards.iter().flat_map(|shard| shard.state().iter());
    pairs.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// A flipped bit in a part of a log that a checkpoint covers: the repair gave
/// the log up and began an empty one behind it, "losing what came after the
/// checkpoint". But the checkpoint covered the log only up to where the old one
/// had been, so opening found a gap and refused for good.
#[test]
fn a_log_that_is_given_up_begins_anew_behind_its_checkpoint_and_the_store_opens() {
    let disk = store();
    let first = all(&disk, "wal").into_iter().find(|path| path.starts_with("/db/core-0001")).unwrap();
    flip(&disk, &first, 4096 + 80);
    let refused = open(&disk).unwrap_err();
    assert!(refused.damage().is_some_and(|damage| damage.core.0 == 1), "{refused}");

    let planned = repair_on(disk.clone(), DIR, false).unwrap();
    let done = repair_on(disk.clone(), DIR, true).unwrap();
    assert_eq!((planned.steps.len(), done.complete_epoch), (1, Epoch(8)), "{done:?}");
    for path in [&first, Path::new("/db/MANIFEST")] {
        let name = path.file_name().unwrap();
        let kept = done.kept.as_ref().expect("files were changed");
        let kept = disk.files().into_iter().any(|path| path.starts_with(kept) && path.file_name() == Some(name));
        assert!(kept, "{} was not kept", path.display());
    }

    let mut opened = open(&disk).unwrap();
    assert_eq!(opened.report.complete_epoch, Epoch(8));
    assert!(keys(&opened).into_iter().eq((0..20_u8).map(|n| (vec![n], vec![7; 100]))), "the state of the checkpoint");
    assert!(opened.shards.iter().all(|shard| shard.offset_u64("input") == Some(7)), "one cut over both cores");
    work(&mut opened, 20..22);
    drop(opened);
    let opened = open(&disk).unwrap();
    assert!(keys(&opened).values().all(|value| value == &[21; 100]));
    drop(opened);
    assert_eq!(verify_on(disk.clone(), DIR).unwrap().findings, []);
    assert_eq!(repair_on(disk, DIR, true).unwrap().steps, [], "nothing is left to repair");
}

/// Between raising what the checkpoint covers and the new log a crash leaves a
/// store that is repaired by repairing again.
#[test]
fn a_crash_in_a_repair_beside_a_checkpoint_is_mended_by_repairing_again() {
    let disk = store();
    let first = all(&disk, "wal").into_iter().find(|path| path.starts_with("/db/core-0000")).unwrap();
    flip(&disk, &first, 4096 + 80);
    disk.record_snapshots(true);
    repair_on(disk.clone(), DIR, true).unwrap();
    let snapshots = disk.take_snapshots();
    assert!(snapshots.len() > 20, "{}", snapshots.len());
    for (step, snapshot) in snapshots.iter().enumerate() {
        for (kind, seed) in [(CrashKind::Process, 0), (CrashKind::Power, step as u64)] {
            let disk = snapshot.crash(kind, seed);
            let done = repair_on(disk.clone(), DIR, true).unwrap_or_else(|error| panic!("step {step}: {error}"));
            let opened = open(&disk).unwrap_or_else(|error| panic!("step {step}, {kind:?}: {error} after {done:?}"));
            assert_eq!(opened.report.complete_epoch, Epoch(8), "step {step}, {kind:?}");
            assert!(keys(&opened).values().all(|value| value == &[7; 100]), "step {step}, {kind:?}");
        }
    }
}

/// One cut over both cores, at the end of this epoch.
fn check(opened: &Opened<Keyed, SimStorage>, complete: Epoch, name: &str) {
    assert_eq!(opened.report.complete_epoch, complete, "{name}");
    let round = u8::try_from(complete.0).unwrap() - 1;
    assert!(keys(opened).values().all(|value| value == &[round; 100]), "{name}");
    assert!(opened.shards.iter().all(|shard| shard.offset_u64("input") == Some(round.into())), "{name}");
}

/// A segment is gone, and a repair was killed. It had raised what the checkpoint
/// covers past all of the log, to give it up; what was left of the log behind the
/// gap then seemed to begin where the checkpoint ends. So the next repair found
/// nothing wrong, and the store opened with one core at the checkpoint and the
/// other behind it. Killing `repair` a thousand times found it.
#[test]
fn where_a_segment_is_gone_a_crash_in_its_repair_is_mended_by_repairing_again() {
    let whole = store();
    let mut given_up = 0;
    for segment in all(&whole, "wal") {
        let disk = whole.snapshot().crash(CrashKind::Process, 0);
        assert!(disk.remove_file_durably(&segment));
        if open(&disk.snapshot().crash(CrashKind::Process, 0)).is_ok() {
            continue;
        }
        disk.record_snapshots(true);
        let done = repair_on(disk.clone(), DIR, true).unwrap();
        given_up += u32::from(done.steps.iter().any(|step| step.action.contains("give up")));
        for (step, snapshot) in disk.take_snapshots().iter().enumerate() {
            for (kind, seed) in [(CrashKind::Process, 0), (CrashKind::Power, step as u64)] {
                let disk = snapshot.crash(kind, seed);
                let name = format!("{} gone, {kind:?} at step {step}", segment.display());
                // Whoever opens it before is refused, or finds it repaired.
                if let Ok(opened) = open(&disk.snapshot().crash(CrashKind::Process, 0)) {
                    check(&opened, done.complete_epoch, &name);
                }
                repair_on(disk.clone(), DIR, true).unwrap_or_else(|error| panic!("{name}: {error}"));
                let opened = open(&disk).unwrap_or_else(|error| panic!("{name}: {error}"));
                check(&opened, done.complete_epoch, &name);
            }
        }
    }
    assert!(given_up > 1, "{given_up}");
}

/// A damaged run where no log goes back far enough to do without it: opening
/// refuses and says "run `repair`", which found nothing to do and said it was
/// done.
#[test]
fn a_checkpoint_that_nothing_makes_up_for_is_not_called_repaired() {
    let disk = store();
    reshard_on(disk.clone(), DIR, 1, options()).unwrap();
    let run = all(&disk, "run").pop().unwrap();
    flip(&disk, &run, 4096 + 80);
    let before = content(&disk);
    let refused = open(&disk).unwrap_err();
    for apply in [false, true] {
        let error = repair_on(disk.clone(), DIR, apply).unwrap_err();
        let damage = error.damage().unwrap_or_else(|| panic!("{error}"));
        assert_eq!((&damage.path, refused.damage()), (&run, Some(damage)));
        assert_eq!(content(&disk), before, "what cannot be repaired is left as it is");
    }
}

/// A store without its manifests is made again from its segments. That its
/// checkpoints are lost with them was "nothing", and the next opening removed
/// their runs.
#[test]
fn a_manifest_made_again_says_that_checkpoints_are_lost_and_their_runs_are_kept() {
    let disk = store();
    let runs: Vec<_> = all(&disk, "run").into_iter().map(|path| disk.read_file(&path).unwrap()).collect();
    assert!(!runs.is_empty());
    for name in ["MANIFEST", "MANIFEST.old"] {
        disk.write_file(&Path::new(DIR).join(name), b"nothing of use".to_vec());
    }
    let done = repair_on(disk.clone(), DIR, true).unwrap();
    assert!(done.steps[0].loss.contains("checkpoints"), "{done:?}");
    drop(open(&disk).unwrap());
    let kept = done.kept.unwrap();
    let kept: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with(&kept)).collect();
    let kept: Vec<_> = kept.iter().filter(|path| path.extension().is_some_and(|end| end == "run")).collect();
    assert_eq!(kept.into_iter().map(|path| disk.read_file(path).unwrap()).collect::<Vec<_>>(), runs);
}
