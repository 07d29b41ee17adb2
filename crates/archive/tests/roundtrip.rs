//! Archives in a directory: push, list, verify, restore, go on elsewhere.

#![allow(clippy::disallowed_methods, reason = "tests are outside the simulated engine")]

mod common;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::{LOG, Machine, assert_holds, files, time_of};
use corewal_archive::{Archive, Error, Options, Takeover, Target, Unrestorable};
use corewal_format::Epoch;
use object_store::memory::InMemory;

fn options() -> Options {
    // Small pieces, so that files come in several.
    Options { holder: "test".to_owned(), piece_bytes: 1_000, ..Options::default() }
}

fn local(dir: &Path) -> Archive {
    Archive::open(dir.to_str().unwrap(), options()).unwrap()
}

#[test]
fn a_store_comes_back_as_it_was_and_goes_on_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let archive = local(&dir.path().join("archive"));
    assert_eq!(archive.stores().unwrap(), []);
    assert!(matches!(archive.list(LOG), Err(Error::NoArchive)));

    let mut machine = Machine::new(&dir.path().join("machine"), 1, 3, 5_000);
    let mut owner = archive.own(LOG, Takeover::First).unwrap();
    (0..3).for_each(|_| machine.advance());
    machine.checkpoint();
    machine.advance();
    let pushed = owner.push(&machine.inventory()).unwrap();
    assert_eq!((pushed.epoch, pushed.uploaded, pushed.uploaded_bytes), (Epoch(4), 14, 65_000));
    assert_eq!(owner.waiting(&machine.inventory()).unwrap(), (0, 0));
    let again = owner.push(&machine.inventory()).unwrap();
    assert_eq!((again.uploaded, again.kept), (0, 14));
    machine.advance();
    assert_eq!(owner.waiting(&machine.inventory()).unwrap(), (3, 15_000));
    owner.push(&machine.inventory()).unwrap();

    let overview = archive.list(LOG).unwrap();
    assert_eq!((overview.epoch, overview.parts, overview.bytes), (Epoch(5), 17, 80_000));
    assert_eq!((overview.owners.len(), overview.owners[0].holder.as_deref()), (1, Some("test")));
    assert_eq!(overview.coverage.len(), 2, "{:?}", overview.coverage);
    let verified = archive.verify(LOG).unwrap();
    assert_eq!((verified.findings.len(), verified.parts, verified.orphans), (0, 17, 0));
    assert_eq!(archive.stores().unwrap(), [LOG]);

    let to = dir.path().join("below/restored");
    let restored = archive
        .restore(LOG, Target::Latest, &to, |dir, restored| {
            fs::write(dir.join("MANIFEST"), &restored.checkpoint.as_ref().unwrap().text)
        })
        .unwrap();
    assert_eq!((restored.reaches, restored.segments.len()), (Epoch(5), 9));
    assert_eq!(fs::read_to_string(to.join("MANIFEST")).unwrap(), "checkpoint 1 of machine 1\n");
    assert_eq!(files(&to).len(), 12, "two runs, nine segments, the manifest, and nothing else");
    assert!(!dir.path().join("below/restored.partial").exists());

    // Another machine goes on from there; the first one is told.
    let mut other = Machine::from_restored(&to, 2, 5_000, &restored);
    let mut second = archive.own(LOG, Takeover::Continue(restored.lineage)).unwrap();
    other.advance();
    other.checkpoint();
    let pushed = second.push(&other.inventory()).unwrap();
    assert_eq!((pushed.epoch, pushed.uploaded, pushed.kept), (Epoch(6), 5, 11), "what was inherited is not uploaded");
    assert!(matches!(owner.push(&machine.inventory()), Err(Error::Fenced { .. })));
    let to = dir.path().join("again");
    archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())).unwrap();
    other.release();
    assert_holds(&to, &corewal_archive::Inventory { segments: vec![], ..other.inventory() });
}

#[test]
fn former_epochs_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::with_store(Arc::new(InMemory::new()), "some/prefix", options()).unwrap();
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 2, 600);
    let mut owner = archive.own(LOG, Takeover::First).unwrap();
    for _ in 0..4 {
        (0..3).for_each(|_| machine.advance());
        owner.push(&machine.inventory()).unwrap();
        machine.checkpoint();
        machine.release();
        owner.push(&machine.inventory()).unwrap();
    }
    let restore = |target, name: &str| {
        let to = dir.path().join(name);
        archive.restore(LOG, target, &to, |_, _| Ok(())).map(|restored| (restored, files(&to)))
    };
    // The store has the checkpoint of epoch 12 only; the archive has one more.
    let (restored, found) = restore(Target::Epoch(Epoch(10)), "epoch").unwrap();
    assert_eq!((restored.checkpoint.unwrap().epoch, restored.reaches), (Epoch(9), Epoch(10)));
    for (facts, name) in &restored.segments {
        let bytes = common::content(1, facts.number.0 << 8 | u64::from(facts.core.0), 600);
        assert!(found.contains(&(name.clone(), bytes)), "{name}");
    }
    let (restored, _) = restore(Target::Time(time_of(11) + 1), "time").unwrap();
    assert_eq!((restored.checkpoint.unwrap().epoch, restored.reaches), (Epoch(9), Epoch(12)));
    let (restored, _) = restore(Target::Latest, "latest").unwrap();
    assert_eq!((restored.checkpoint.unwrap().epoch, restored.reaches), (Epoch(12), Epoch(12)));
    let refused = restore(Target::Epoch(Epoch(5)), "old").map(drop);
    assert!(matches!(refused, Err(Error::Unrestorable(Unrestorable::TooOld { oldest: Epoch(9) }))), "{refused:?}");
    let refused = restore(Target::Epoch(Epoch(13)), "new").map(drop);
    assert!(matches!(refused, Err(Error::Unrestorable(Unrestorable::NotReached { newest: Epoch(12) }))));
    assert_eq!(archive.verify(LOG).unwrap().orphans, 0);
}

#[test]
fn a_restore_goes_on_where_it_was_and_leaves_no_half() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("archive");
    let archive = local(&place);
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 2, 3_000);
    (0..3).for_each(|_| machine.advance());
    archive.own(LOG, Takeover::First).unwrap().push(&machine.inventory()).unwrap();
    let (to, partial) = (dir.path().join("restored"), dir.path().join("restored.partial"));

    // A part is out of reach: nothing has the name.
    let listed = files(&place);
    let (hidden, bytes) = listed.iter().rfind(|(name, _)| name.contains("parts/")).unwrap();
    fs::remove_file(place.join(hidden)).unwrap();
    assert!(matches!(archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())), Err(Error::Missing { .. })));
    assert!(!to.exists() && partial.exists());
    fs::write(place.join(hidden), bytes).unwrap();

    // Damage to what was gathered is found, what does not belong is removed.
    let gathered = files(&partial);
    let whole = gathered.iter().filter(|(name, _)| name.ends_with(".wal")).count();
    assert!(whole >= 1, "{whole}");
    let (name, bytes) = gathered.iter().find(|(name, _)| name.ends_with(".wal")).unwrap();
    let mut damaged = bytes.clone();
    damaged[17] ^= 1;
    fs::write(partial.join(name), damaged).unwrap();
    fs::create_dir(partial.join("strange")).unwrap();
    fs::write(partial.join("strange/file"), "x").unwrap();
    let failed = archive.restore(LOG, Target::Latest, &to, |_, _| Err(io::Error::other("not today")));
    assert!(matches!(failed, Err(Error::File { doing: "complete", .. })));
    assert!(!to.exists());
    fs::create_dir(&to).unwrap();
    let restored = archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())).unwrap();
    assert_eq!(restored.downloaded, 0, "all was there by then");
    assert_holds(&to, &machine.inventory());
    assert_eq!(files(&to).len(), 6);
}

#[test]
fn a_restore_takes_nobodys_directory() {
    let dir = tempfile::tempdir().unwrap();
    let archive = local(&dir.path().join("archive"));
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 1, 100);
    machine.advance();
    archive.own(LOG, Takeover::First).unwrap().push(&machine.inventory()).unwrap();
    let refused = |path: &Path| {
        let result = archive.restore(LOG, Target::Latest, path, |_, _| Ok(()));
        assert!(matches!(result, Err(Error::NotEmpty { .. })), "{result:?}");
    };
    refused(&machine.dir);
    let to = dir.path().join("restored");
    fs::create_dir(dir.path().join("restored.partial")).unwrap();
    fs::write(dir.path().join("restored.partial/mine"), "mine").unwrap();
    refused(&to);
    assert_eq!(fs::read(dir.path().join("restored.partial/mine")).unwrap(), b"mine");
}

#[test]
fn anybody_may_collect() {
    let dir = tempfile::tempdir().unwrap();
    let archive = local(&dir.path().join("archive"));
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 1, 100);
    machine.advance();
    machine.checkpoint();
    let mut first = archive.own(LOG, Takeover::First).unwrap();
    first.push(&machine.inventory()).unwrap();
    let mut second = archive.own(LOG, Takeover::Force).unwrap();
    // A push that is fenced leaves its uploads behind.
    machine.advance();
    assert!(matches!(first.push(&machine.inventory()), Err(Error::Fenced { .. })));
    assert_eq!(archive.verify(LOG).unwrap().findings, []);
    assert_eq!(archive.gc(LOG).unwrap().removed, 1, "the index before the two that are kept");
    second.push(&machine.inventory()).unwrap();
    let left = archive.verify(LOG).unwrap();
    let collected = archive.gc(LOG).unwrap();
    assert!(collected.removed >= left.orphans && collected.waits_for.is_none());
    let verified = archive.verify(LOG).unwrap();
    assert_eq!((verified.findings.len(), verified.orphans), (0, 0));
    assert!(matches!(archive.gc(corewal_format::LogId([1; 16])), Err(Error::NoArchive)));
}

#[test]
fn an_inventory_that_contradicts_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::with_store(Arc::new(InMemory::new()), "", options()).unwrap();
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 1, 100);
    machine.advance();
    machine.checkpoint();
    let mut owner = archive.own(LOG, Takeover::First).unwrap();
    let good = machine.inventory();
    let mut refused = |change: fn(&mut corewal_archive::Inventory)| {
        let mut inventory = good.clone();
        change(&mut inventory);
        assert!(matches!(owner.push(&inventory), Err(Error::Inventory { .. })));
    };
    refused(|inventory| inventory.log_id.0[0] ^= 1);
    refused(|inventory| inventory.segments[0].file.name = "../escape".to_owned());
    refused(|inventory| inventory.segments[0].file.name = "/etc/passwd".to_owned());
    refused(|inventory| inventory.segments.push(inventory.segments[0].clone()));
    refused(|inventory| inventory.checkpoints.push(inventory.checkpoints[0].clone()));
    refused(|inventory| inventory.segments[0].file.name = inventory.checkpoints[0].runs[0].name.clone());
    refused(|inventory| inventory.segments[0].file.name = "runs".to_owned());
    refused(|inventory| inventory.segments[0].facts.cores = 0);
    refused(|inventory| inventory.segments[0].facts.next = inventory.segments[0].facts.number);
    owner.push(&good).unwrap();
}
