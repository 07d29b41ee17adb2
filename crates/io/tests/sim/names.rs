//! What a power cut leaves of names.

use std::collections::BTreeSet;
use std::path::Path;

use corewal_io::{CrashKind, OpenMode, SimStorage, Storage};

use crate::common::{sync, write};
use crate::world::{SEEDS, root};

/// What each name leads to, by the file's first byte, after every crash.
fn found(disk: &SimStorage, names: &[&str]) -> BTreeSet<Vec<Option<u8>>> {
    let snapshot = disk.snapshot();
    let crash = |seed| {
        let after = snapshot.crash(CrashKind::Power, seed);
        let read = |name: &&str| {
            let content = after.read_file(Path::new(name));
            content.map(|bytes| bytes.first().copied().unwrap_or(0))
        };
        names.iter().map(read).collect()
    };
    (0..SEEDS).map(crash).collect()
}

/// A disk with files whose content is durable, and whose names are.
fn disk_with(files: &[(&str, u8)]) -> SimStorage {
    let disk = SimStorage::default();
    for (name, byte) in files {
        disk.write_file(Path::new(name), vec![*byte]);
    }
    disk
}

#[test]
fn a_created_file_may_be_lost_until_its_directory_is_synced() {
    let disk = SimStorage::default();
    let file = disk.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    let mut io = disk.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    sync(&mut io, &file);
    // A sync of the file does not sync its name.
    let outcomes = found(&disk, &["a"]);
    assert_eq!(outcomes, BTreeSet::from([vec![None], vec![Some(7)]]));
    disk.sync_dir(root()).unwrap();
    assert_eq!(found(&disk, &["a"]), BTreeSet::from([vec![Some(7)]]));
}

#[test]
fn a_synced_name_does_not_make_the_content_durable() {
    let disk = SimStorage::default();
    let file = disk.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    write(&mut disk.io(0).unwrap(), &file, 0, 7);
    disk.sync_dir(root()).unwrap();
    let outcomes = found(&disk, &["a"]);
    assert!(outcomes.contains(&vec![Some(0)]) && outcomes.contains(&vec![Some(7)]));
    assert!(!outcomes.contains(&vec![None]));
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let disk = disk_with(&[("a", 1)]);
    disk.remove(Path::new("a")).unwrap();
    let outcomes = found(&disk, &["a"]);
    assert_eq!(outcomes, BTreeSet::from([vec![None], vec![Some(1)]]));
    disk.sync_dir(root()).unwrap();
    assert_eq!(found(&disk, &["a"]), BTreeSet::from([vec![None]]));
}

#[test]
fn a_rename_not_followed_by_a_directory_sync_may_be_undone_but_never_loses_both_names() {
    let disk = disk_with(&[("new", 2), ("current", 1)]);
    disk.rename(Path::new("new"), Path::new("current")).unwrap();
    let outcomes = found(&disk, &["new", "current"]);
    let expected = [
        vec![Some(2), Some(1)], // undone
        vec![Some(2), Some(2)], // the new name came, the old is still there
        vec![None, Some(2)],    // done
    ];
    assert_eq!(outcomes, BTreeSet::from(expected));
    disk.sync_dir(root()).unwrap();
    let expected = BTreeSet::from([vec![None, Some(2)]]);
    assert_eq!(found(&disk, &["new", "current"]), expected);
}

#[test]
fn a_chain_of_renames_never_loses_the_file() {
    let disk = disk_with(&[("a", 1)]);
    disk.rename(Path::new("a"), Path::new("b")).unwrap();
    disk.rename(Path::new("b"), Path::new("c")).unwrap();
    disk.rename(Path::new("c"), Path::new("a")).unwrap();
    for outcome in found(&disk, &["a", "b", "c"]) {
        assert!(outcome.contains(&Some(1)), "{outcome:?}");
    }
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let disk = disk_with(&[("one/a", 1), ("two/b", 2)]);
    disk.rename(Path::new("one/a"), Path::new("two/a")).unwrap();
    for synced in ["one", "two"] {
        for outcome in found(&disk, &["one/a", "two/a"]) {
            assert!(outcome.contains(&Some(1)), "{outcome:?} before {synced}");
        }
        disk.sync_dir(Path::new(synced)).unwrap();
        let outcomes = found(&disk, &["one/a", "two/a"]);
        assert!(outcomes.iter().all(|outcome| outcome[1] == Some(1)));
    }
}

#[test]
fn a_name_leads_to_what_it_led_to_at_any_time_since_it_was_durable() {
    let disk = disk_with(&[("m", 1), ("x", 2), ("y", 3)]);
    disk.rename(Path::new("x"), Path::new("m")).unwrap();
    disk.rename(Path::new("y"), Path::new("m")).unwrap();
    let outcomes = found(&disk, &["m"]);
    let expected = [1, 2, 3].map(|byte| vec![Some(byte)]);
    assert_eq!(outcomes, BTreeSet::from(expected));
}

#[test]
fn a_directory_that_is_lost_takes_what_is_in_it_along() {
    let disk = SimStorage::default();
    disk.create_dir(Path::new("d")).unwrap();
    disk.open(Path::new("d/a"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    assert!(found(&disk, &["d/a"]).contains(&vec![None]));
    disk.sync_dir(root()).unwrap();
    assert_eq!(found(&disk, &["d/a"]), BTreeSet::from([vec![Some(0)]]));
}

#[test]
fn names_survive_the_process_without_a_sync() {
    let disk = disk_with(&[("a", 1)]);
    disk.rename(Path::new("a"), Path::new("b")).unwrap();
    disk.open(Path::new("c"), OpenMode::CreateNew).unwrap();
    for seed in 0..50 {
        let after = disk.snapshot().crash(CrashKind::Process, seed);
        assert_eq!(after.files(), disk.files());
        // But they are as little durable as before.
        let lost = |seed| {
            let later = after.snapshot().crash(CrashKind::Power, seed);
            later.read_file(Path::new("c")).is_none()
        };
        assert!((0..50).any(lost));
    }
}
