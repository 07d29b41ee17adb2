//! The blocking backend beyond the common contract: rights, links, locks.

#![allow(clippy::disallowed_methods, reason = "these tests look at what the backend left in the file system")]

mod common;

use std::fs;
#[cfg(unix)]
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{block_write, blocks, run, write, write_durably};
#[cfg(unix)]
use corewal_io::EntryKind;
use corewal_io::{BLOCK_SIZE, FileStorage, OpenMode, Storage};

#[test]
fn what_it_writes_is_in_the_file_for_all_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let path = dir.path().join("a");
    let file = storage.open(&path, OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 1, 2);
    write_durably(&mut io, &file, 0, 1);
    assert_eq!(blocks(&fs::read(&path).unwrap()), [1, 2]);
    assert!(format!("{file:?}").contains("\"a\"") || format!("{file:?}").contains("/a"));
}

#[test]
fn a_failed_write_is_told_by_its_completion_and_gives_the_buffer_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let path = dir.path().join("a");
    fs::write(&path, b"old").unwrap();
    let file = storage.open(&path, OpenMode::Read).unwrap();
    let mut io = storage.io(0).unwrap();
    for data_sync in [false, true] {
        let operation = block_write(&mut io, &file, 0, 1, data_sync);
        let done = run(&mut io, operation);
        let error = done.result.unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error:?}");
        assert_eq!(done.buffer.unwrap().capacity(), BLOCK_SIZE);
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[cfg(unix)]
#[test]
fn what_it_creates_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let (file, sub, lock) = (dir.path().join("file"), dir.path().join("sub"), dir.path().join("LOCK"));
    storage.open(&file, OpenMode::CreateNew).unwrap();
    storage.create_dir(&sub).unwrap();
    let held = storage.lock(&lock).unwrap();
    assert!(held.is_some());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&sub), 0o700);
    assert_eq!(mode(&lock), 0o600);
}

#[cfg(unix)]
#[test]
fn links_are_refused_and_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let target = dir.path().join("target");
    fs::write(&target, b"precious").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();

    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        for path in [&link, &dangling] {
            let error = storage.open(path, mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
    for path in [&link, &dangling] {
        let error = storage.open(path, OpenMode::CreateNew).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let error = storage.lock(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(storage.is_locked(path).is_err());
    }
    let entries = storage.list(dir.path()).unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Other, EntryKind::Other, EntryKind::File]);
    // Removing takes the link, not what it leads to.
    storage.remove(&link).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert!(!dir.path().join("nowhere").exists());
}

#[cfg(unix)]
#[test]
fn a_link_to_a_directory_is_not_synced_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let error = FileStorage::new().sync_dir(&link).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_is_refused() {
    let storage = FileStorage::new();
    let error = storage.open("/dev/zero".as_ref(), OpenMode::Read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// Asking who has the lock takes it for an instant in shared mode; an owner
/// who comes at that instant must not be turned away.
#[test]
fn asking_for_the_lock_all_the_time_keeps_no_owner_out() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let path = dir.path().join("LOCK");
    drop(storage.lock(&path).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let asking = {
        let (storage, path) = (storage.clone(), path.clone());
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                storage.is_locked(&path).unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut taken = 0;
    while taken < 200 || asked.load(Ordering::Relaxed) < 200 {
        let held = storage.lock(&path).unwrap();
        drop(held.expect("only readers are there"));
        taken += 1;
    }
    stop.store(true, Ordering::Relaxed);
    asking.join().unwrap();
}

#[test]
fn the_system_frees_the_lock_with_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let path = dir.path().join("LOCK");
    let one = storage.lock(&path).unwrap().unwrap();
    let other = dir.path().join("OTHER");
    let two = storage.lock(&other).unwrap().unwrap();
    drop(one);
    assert!(!storage.is_locked(&path).unwrap());
    assert!(storage.is_locked(&other).unwrap());
    drop(two);
    assert!(!storage.is_locked(&other).unwrap());
}
