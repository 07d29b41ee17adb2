//! What `Storage` and `StorageIo` promise, asked of every backend.

mod common;

use std::io::ErrorKind;
use std::path::Path;

use common::{BLOCK, block_write, blocks, read_all, run, sync, write, write_durably};
use corewal_io::{
    BLOCK_SIZE, EntryKind, FileStorage, OpenMode, Operation, SimOptions, SimStorage, Storage, StorageIo, Wait,
};

type Law<S> = fn(&S, &Path);

/// Every law with its name, each run in a directory of its own.
fn contract<S: Storage>(storage: &S, root: &Path) {
    let laws: [(&str, Law<S>); 19] = [
        ("a created file is empty and there", created_file_is_empty),
        ("an existing entry is not created again", existing_is_refused),
        ("a missing file is not found", missing_is_not_found),
        ("a directory is not opened as a file", directory_is_no_file),
        ("writes go where they are sent", writes_go_where_sent),
        ("a part of a buffer is written", part_of_buffer),
        ("a write gives its buffer back", buffer_comes_back),
        ("durable writes and syncs complete", durable_writes),
        ("a broken write is refused at submit", broken_write_is_refused),
        ("tokens of writes and syncs differ", tokens_differ),
        ("polling nothing does not block", polling_nothing),
        ("reading ends at the end of the file", reading_past_the_end),
        ("set_len cuts and extends with zeros", set_len),
        ("settle keeps what was written", settle),
        ("rename replaces its target", rename),
        ("rename of a missing file or of a directory fails", bad_renames),
        ("removed files are gone, open ones stay usable", remove),
        ("directories list in name order", list),
        ("a lock excludes and can be seen", lock),
    ];
    for (number, (name, law)) in laws.iter().enumerate() {
        println!("{name}");
        let dir = root.join(format!("law-{number}"));
        storage.create_dir(&dir).unwrap();
        law(storage, &dir);
        storage.sync_dir(&dir).unwrap();
    }
}

#[test]
fn the_blocking_backend_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&FileStorage::new(), dir.path());
}

#[test]
fn the_simulated_disk_keeps_the_contract_with_every_seed() {
    for seed in 0..50 {
        let options = SimOptions { seed, ..SimOptions::default() };
        contract(&SimStorage::new(options), Path::new("/"));
    }
}

#[test]
fn a_disk_found_after_a_crash_keeps_the_contract() {
    use corewal_io::CrashKind;

    for kind in [CrashKind::Process, CrashKind::Power] {
        let after = SimStorage::default().snapshot().crash(kind, 1);
        contract(&after, Path::new(""));
    }
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("it should fail").kind()
}

fn created_file_is_empty<S: Storage>(storage: &S, dir: &Path) {
    let path = dir.join("a");
    let file = storage.open(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(storage.len(&file).unwrap(), 0);
    let again = storage.open(&path, OpenMode::Read).unwrap();
    assert_eq!(storage.len(&again).unwrap(), 0);
}

fn existing_is_refused<S: Storage>(storage: &S, dir: &Path) {
    let path = dir.join("a");
    storage.open(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(kind(storage.open(&path, OpenMode::CreateNew)), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.create_dir(&path)), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.create_dir(dir)), ErrorKind::AlreadyExists);
}

fn missing_is_not_found<S: Storage>(storage: &S, dir: &Path) {
    let path = dir.join("a");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(kind(storage.open(&path, mode)), ErrorKind::NotFound);
    }
    assert_eq!(kind(storage.remove(&path)), ErrorKind::NotFound);
    assert_eq!(kind(storage.list(&path)), ErrorKind::NotFound);
    assert_eq!(kind(storage.sync_dir(&path)), ErrorKind::NotFound);
    assert_eq!(kind(storage.create_dir(&path.join("b"))), ErrorKind::NotFound);
    assert_eq!(kind(storage.open(&path.join("b"), OpenMode::CreateNew)), ErrorKind::NotFound);
    assert!(!storage.is_locked(&path).unwrap());
    assert!(storage.list(dir).unwrap().is_empty(), "nothing was created");
}

fn directory_is_no_file<S: Storage>(storage: &S, dir: &Path) {
    let path = dir.join("a");
    storage.create_dir(&path).unwrap();
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(kind(storage.open(&path, mode)), ErrorKind::InvalidInput);
    }
    assert_eq!(kind(storage.open(&path, OpenMode::CreateNew)), ErrorKind::AlreadyExists);
    let file = dir.join("b");
    storage.open(&file, OpenMode::CreateNew).unwrap();
    assert_eq!(kind(storage.sync_dir(&file)), ErrorKind::NotADirectory);
}

fn writes_go_where_sent<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 2, 3);
    write(&mut io, &file, 0, 1);
    assert_eq!(blocks(&read_all(storage, &file)), [1, 0, 3]);
    write(&mut io, &file, 0, 9);
    assert_eq!(blocks(&read_all(storage, &file)), [9, 0, 3]);
    // Whoever opens it now sees the same.
    let again = storage.open(&dir.join("a"), OpenMode::Read).unwrap();
    assert_eq!(blocks(&read_all(storage, &again)), [9, 0, 3]);
}

fn part_of_buffer<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    let mut buffer = io.buffer(3 * BLOCK_SIZE);
    for (number, block) in buffer.chunks_mut(BLOCK_SIZE).enumerate() {
        block.fill(u8::try_from(number).unwrap() + 1);
    }
    let done = run(
        &mut io,
        Operation::Write { file: file.clone(), offset: 0, buffer, range: BLOCK_SIZE..3 * BLOCK_SIZE, data_sync: false },
    );
    assert_eq!(done.result.unwrap(), 2 * BLOCK_SIZE);
    assert_eq!(blocks(&read_all(storage, &file)), [2, 3]);
}

fn buffer_comes_back<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    let buffer = io.buffer(1);
    assert_eq!(buffer.capacity(), BLOCK_SIZE);
    let address = buffer.as_ptr();
    let done = run(&mut io, Operation::Write { file, offset: 0, buffer, range: 0..BLOCK_SIZE, data_sync: false });
    assert_eq!(done.buffer.expect("the buffer").as_ptr(), address);
    assert_eq!(io.in_flight(), 0);
}

fn durable_writes<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write_durably(&mut io, &file, 0, 1);
    write_durably(&mut io, &file, 1, 2);
    sync(&mut io, &file);
    assert_eq!(blocks(&read_all(storage, &file)), [1, 2]);
}

fn broken_write_is_refused<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    for (offset, range) in [(1, 0..BLOCK_SIZE), (0, 0..1), (0, 0..0), (0, 0..2 * BLOCK_SIZE)] {
        let operation =
            Operation::Write { file: file.clone(), offset, buffer: io.buffer(BLOCK_SIZE), range, data_sync: false };
        assert_eq!(kind(io.submit(operation)), ErrorKind::InvalidInput);
        assert_eq!(io.in_flight(), 0);
    }
}

fn tokens_differ<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    let mut tokens = Vec::new();
    for number in 0..4 {
        let operation = block_write(&mut io, &file, number, 1, false);
        tokens.push(io.submit(operation).unwrap());
        let file = file.clone();
        tokens.push(io.submit(Operation::Sync { file }).unwrap());
    }
    assert_eq!(io.in_flight(), 8);
    let mut completions = Vec::new();
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    let mut completed: Vec<_> = completions.iter().map(|one| one.token).collect();
    completed.sort();
    assert_eq!(completed, tokens, "each completes once");
    assert!(completions.iter().all(|one| one.result.is_ok()));
    let buffers = completions.iter().filter(|one| one.buffer.is_some());
    assert_eq!(buffers.count(), 4, "a sync has no buffer");
}

fn polling_nothing<S: Storage>(storage: &S, _dir: &Path) {
    let mut io = storage.io(0).unwrap();
    let mut completions = Vec::new();
    io.poll(Wait::No, &mut completions).unwrap();
    io.poll(Wait::One, &mut completions).unwrap();
    assert!(completions.is_empty());
}

fn reading_past_the_end<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    let mut buffer = [0; 100];
    assert_eq!(storage.read_at(&file, BLOCK - 10, &mut buffer).unwrap(), 10);
    assert_eq!(buffer[..11], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
    assert_eq!(storage.read_at(&file, BLOCK, &mut buffer).unwrap(), 0);
    assert_eq!(storage.read_at(&file, 1 << 30, &mut buffer).unwrap(), 0);
    assert_eq!(storage.read_at(&file, 0, &mut []).unwrap(), 0);
}

fn set_len<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    storage.set_len(&file, 100).unwrap();
    assert_eq!(storage.len(&file).unwrap(), 100);
    storage.set_len(&file, 200).unwrap();
    let bytes = read_all(storage, &file);
    assert_eq!(bytes[..100], [7; 100]);
    assert_eq!(bytes[100..], [0; 100], "what was cut does not come back");
    let reader = storage.open(&dir.join("a"), OpenMode::Read).unwrap();
    assert!(storage.set_len(&reader, 0).is_err());
    assert_eq!(storage.len(&file).unwrap(), 200);
}

fn settle<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    storage.settle(&file, 0).unwrap();
    assert_eq!(blocks(&read_all(storage, &file)), [7]);
}

fn rename<S: Storage>(storage: &S, dir: &Path) {
    let (one, two) = (dir.join("one"), dir.join("two"));
    let file = storage.open(&one, OpenMode::CreateNew).unwrap();
    storage.open(&two, OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    storage.rename(&one, &two).unwrap();
    assert_eq!(kind(storage.open(&one, OpenMode::Read)), ErrorKind::NotFound);
    let found = storage.open(&two, OpenMode::Read).unwrap();
    assert_eq!(blocks(&read_all(storage, &found)), [7]);
    // The handle follows the file, not the name.
    write(&mut io, &file, 0, 8);
    assert_eq!(blocks(&read_all(storage, &found)), [8]);
    storage.rename(&two, &two).unwrap();
    assert_eq!(storage.list(dir).unwrap().len(), 1);
}

fn bad_renames<S: Storage>(storage: &S, dir: &Path) {
    let (one, two) = (dir.join("one"), dir.join("two"));
    assert_eq!(kind(storage.rename(&one, &two)), ErrorKind::NotFound);
    storage.create_dir(&one).unwrap();
    assert_eq!(kind(storage.rename(&one, &two)), ErrorKind::IsADirectory);
    assert_eq!(storage.list(dir).unwrap().len(), 1);
}

fn remove<S: Storage>(storage: &S, dir: &Path) {
    let path = dir.join("a");
    let file = storage.open(&path, OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    storage.remove(&path).unwrap();
    storage.sync_dir(dir).unwrap();
    assert!(storage.list(dir).unwrap().is_empty());
    write(&mut io, &file, 1, 8);
    assert_eq!(blocks(&read_all(storage, &file)), [7, 8]);
    let sub = dir.join("sub");
    storage.create_dir(&sub).unwrap();
    assert!(storage.remove(&sub).is_err(), "remove is for files");
}

fn list<S: Storage>(storage: &S, dir: &Path) {
    for name in ["b", "a", "c10", "c9"] {
        storage.open(&dir.join(name), OpenMode::CreateNew).unwrap();
    }
    storage.create_dir(&dir.join("aa")).unwrap();
    let entries = storage.list(dir).unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    let file = EntryKind::File;
    assert_eq!(found, [("a", file), ("aa", EntryKind::Directory), ("b", file), ("c10", file), ("c9", file)]);
}

fn lock<S: Storage>(storage: &S, dir: &Path) {
    let path = dir.join("LOCK");
    assert!(!storage.is_locked(&path).unwrap());
    let held = storage.lock(&path).unwrap().expect("nobody has it");
    assert!(storage.is_locked(&path).unwrap());
    assert!(storage.lock(&path).unwrap().is_none());
    assert!(storage.clone().lock(&path).unwrap().is_none());
    drop(held);
    assert!(!storage.is_locked(&path).unwrap());
    assert!(storage.lock(&path).unwrap().is_some());
    assert_eq!(storage.list(dir).unwrap().len(), 1, "the lock's file stays");
}
