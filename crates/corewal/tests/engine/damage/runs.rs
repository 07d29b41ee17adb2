//! Runs of a checkpoint that are intact and not the ones it was made of.

use std::path::PathBuf;
use std::sync::Arc;

use corewal::io::{CrashKind, SimStorage};
use corewal::{Checkpoints, Commit, Keyed, ManualClock, TimestampNs, verify_on};

use super::world::{DIR, data_of, options};

/// A store that was copied, and went on differently in the copy: the same
/// identity, the same names, every checksum right. Gives its runs, too.
fn store(last: &[(&str, &str)]) -> (SimStorage, Vec<PathBuf>) {
    let disk = SimStorage::default();
    // The same time, so that what is the same in both is the same to the byte.
    let clock = Arc::new(ManualClock::new(TimestampNs(1)));
    let options = options(7).checkpoints(Checkpoints::manual()).clock(clock);
    let mut store = options.open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")].iter().chain(last) {
        let core = store.store.route(key.as_bytes());
        store.shards[core.index()].put(key.as_bytes(), value.as_bytes()).unwrap();
    }
    store.store.announce_epoch();
    for shard in &mut store.shards {
        shard.commit(&Commit::new()).unwrap();
        shard.sync().unwrap();
    }
    store.store.checkpoint().unwrap().expect("an epoch is complete");
    store.shards.drain(..).for_each(|shard| shard.close().unwrap());
    drop(store);
    let mut runs = disk.files();
    runs.retain(|path| path.extension().is_some_and(|extension| extension == "run"));
    assert_eq!(runs.len(), 2, "one a core: {runs:?}");
    (disk, runs)
}

#[test]
fn an_intact_run_of_another_history_is_never_served() {
    let (disk, runs) = store(&[]);
    let open = |disk: SimStorage| options(7).open_on(disk, DIR, |_| Keyed::default());
    let whole = data_of(&open(disk.snapshot().crash(CrashKind::Process, 0)).unwrap());
    let (mut refused, mut instead) = (0, 0);
    for more in ["e", "f", "g", "h"] {
        let (other, their_runs) = store(&[(more, "2")]);
        assert_eq!(their_runs, runs);
        for path in &runs {
            let copy = disk.snapshot().crash(CrashKind::Process, 0);
            copy.write_file(path, other.read_file(path).unwrap());
            match open(copy) {
                Ok(store) => {
                    assert_eq!(data_of(&store), whole, "{} with `{more}`", path.display());
                    // Of what the log still holds, and says so.
                    instead += u32::from(!store.report.notes.is_empty());
                }
                Err(error) => {
                    assert_eq!(error.damage().map(|damage| &damage.path), Some(path), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(refused + instead, 4, "each key is in one core's run: {refused} refused");
}

/// As many keys, other values. Opening looked at length and counts alone and
/// served them, while only verifying held the run against the checksum that the
/// manifest has of it.
#[test]
fn an_intact_run_of_another_history_with_the_same_keys_is_never_served() {
    let (disk, runs) = store(&[("a", "2"), ("b", "2"), ("c", "2"), ("d", "2")]);
    let (other, _) = store(&[("a", "3"), ("b", "3"), ("c", "3"), ("d", "3")]);
    assert_eq!(verify_on(disk.clone(), DIR).unwrap().findings, []);
    let open = |disk: SimStorage| options(7).open_on(disk, DIR, |_| Keyed::default());
    let whole = data_of(&open(disk.snapshot().crash(CrashKind::Process, 0)).unwrap());
    for path in &runs {
        let copy = disk.snapshot().crash(CrashKind::Process, 0);
        copy.write_file(path, other.read_file(path).unwrap());
        let found = verify_on(copy.clone(), DIR).unwrap().findings;
        assert!(matches!(&found[..], [finding] if finding.kind == "run"), "{}: {found:?}", path.display());
        match open(copy) {
            Ok(store) => {
                assert_eq!(data_of(&store), whole, "{}", path.display());
                assert!(!store.report.notes.is_empty(), "it says what it did without");
            }
            Err(error) => assert_eq!(error.damage().map(|damage| &damage.path), Some(path), "{error}"),
        }
    }
}
