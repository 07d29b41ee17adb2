//! What must hold of a store whatever its files hold: looking and verifying
//! change nothing, an opening that refuses changes nothing, one that opens goes
//! on and finds again what it held, a repair that says it is done has made a
//! store that opens.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use corewal::io::SimStorage;
use corewal::{Commit, Error, Keyed, Lsn, Reader, Recover, Verification, repair_on, verify_on};

use crate::Outcome;
use crate::bound::within;
use crate::counting::Counting;
use crate::store::{DIR, WAYS, content, copy, files, open, options};

/// A store as it was before anybody looked.
struct Before {
    files: BTreeMap<PathBuf, Vec<u8>>,
    largest: usize,
    size: u64,
}

impl Before {
    fn of(disk: &SimStorage) -> Self {
        let files = files(disk);
        let largest = files.values().map(Vec::len).max().unwrap_or(0);
        let size = files.values().map(|file| file.len() as u64).sum();
        Self { files, largest, size }
    }

    fn assert_unchanged(&self, disk: &SimStorage, what: &str) {
        let now = files(disk);
        let changed = |path: &&PathBuf| self.files.get(*path) != now.get(*path);
        if let Some(path) = self.files.keys().chain(now.keys()).find(changed) {
            panic!("{what} changed {}", path.display());
        }
    }
}

/// Holds the store on `disk` to all of it. Taken is what an opening takes.
pub(crate) fn hold(disk: &SimStorage) -> Outcome {
    let before = Before::of(disk);
    look(disk, &before);
    let found = verify(disk, &before);
    let outcomes = WAYS.map(|recover| open_and_go_on(disk, &before, recover, found.as_ref()));
    repair(disk, &before);
    outcomes[0]
}

fn look(disk: &SimStorage, before: &Before) {
    within(before.largest, "looking", || {
        let Ok(reader) = Reader::open_on(disk.clone(), DIR) else { return };
        let _ = reader.info();
        let _ = reader.parts();
        for recover in WAYS {
            let _ = reader.replay(recover, |_| Keyed::default());
            let _ = reader.progress(recover);
        }
        let _ = reader.for_each_record(None, Lsn(0), |_| ControlFlow::Continue(()));
        let _ = reader.for_each_run_record(None, |_, _| ControlFlow::Continue(()));
    });
    before.assert_unchanged(disk, "looking");
}

fn verify(disk: &SimStorage, before: &Before) -> Option<Verification> {
    let found = within(before.largest, "verifying", || verify_on(disk.clone(), DIR));
    before.assert_unchanged(disk, "verifying");
    found.ok()
}

fn open_and_go_on(disk: &SimStorage, before: &Before, recover: Recover, found: Option<&Verification>) -> Outcome {
    let disk = copy(disk);
    let counting = Counting::new(disk.clone());
    let options = || options().recover(recover);
    let opened =
        within(before.largest, "opening", || options().open_on(counting.clone(), DIR, |_| Keyed::default()).map(drop));
    let read = counting.bytes_read();
    assert!(read <= (1 << 20) + 24 * before.size, "{read} bytes read of {}", before.size);
    assert!(counting.calls() <= 200 + 80 * before.files.len() as u64 + before.size / 64, "{} calls", counting.calls());
    if let Err(error) = opened {
        if is_in_the_way(&error) {
            return Outcome::Refused;
        }
        before.assert_unchanged(&disk, &format!("an opening that says `{error}`"));
        let quiet = found.is_some_and(|found| found.findings.is_empty());
        assert!(!quiet, "opening refuses and verifying finds nothing: {error}");
        return Outcome::Refused;
    }
    // What a crash left after that opening opens again.
    let mut store = open(&disk, options()).expect("it opened before");
    let shard = &mut store.shards[0];
    let added = shard.put(b"added", b"here").and_then(|()| shard.commit(&Commit::new().offset_u64("added", 1)));
    let ended = added.and_then(|_| {
        let epoch = store.store.next_epoch();
        store.shards.iter_mut().try_for_each(|shard| {
            shard.end_epoch(epoch)?;
            shard.sync().map(drop)
        })
    });
    // Where the numbers come to their end there is no going on; nothing is lost.
    if ended.is_ok() {
        let held = content(&store);
        drop(store);
        let again = open(&disk, options()).expect("what was made durable opens");
        assert_eq!(content(&again), held);
    }
    Outcome::Taken
}

fn repair(disk: &SimStorage, before: &Before) {
    let planned = within(before.largest, "planning a repair", || repair_on(disk.clone(), DIR, false));
    before.assert_unchanged(disk, "planning a repair");
    // What it keeps beside stands on the disk, which is memory here.
    let repaired = within(before.size as usize, "repairing", || repair_on(disk.clone(), DIR, true));
    match repaired {
        Err(error) if is_in_the_way(&error) => {}
        Err(error) => before.assert_unchanged(disk, &format!("a repair that says `{error}`")),
        Ok(repaired) => {
            let planned = planned.expect("what can be done can be planned");
            assert_eq!(repaired.steps.len(), planned.steps.len(), "{planned:?} {repaired:?}");
            match open(disk, options()) {
                Ok(opened) => assert_eq!(opened.report.complete_epoch, repaired.complete_epoch, "{repaired:?}"),
                Err(error) if is_in_the_way(&error) => {}
                Err(error) => panic!("a repaired store says `{error}` after {repaired:?}"),
            }
        }
    }
}

/// A directory of somebody's that has the name of one of the store's files is
/// found when that file is to be written, and is nobody's to remove.
fn is_in_the_way(error: &Error) -> bool {
    matches!(error, Error::Io { .. })
}
