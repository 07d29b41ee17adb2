//! What `Storage` and `StorageIo` promise, asked of every backend.

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use common::{BLOCK, block_write, blocks, read_all, run, sync, write, write_durably};
use corewal_io::{
    AlignedBuf, BLOCK_SIZE, Backend, EntryKind, FileStorage, OpenMode, Operation, SimOptions, SimStorage, Storage,
    StorageIo, Token, Wait,
};

type Law<S> = fn(&S, &Path);

/// Every law with its name, each run in a directory of its own.
fn contract<S: Storage>(storage: &S, root: &Path) {
    let laws: [(&str, Law<S>); 29] = [
        ("a created file is empty and there", created_file_is_empty),
        ("an existing entry is not created again", existing_is_refused),
        ("a missing file is not found", missing_is_not_found),
        ("a directory is not opened as a file", directory_is_no_file),
        ("writes go where they are sent", writes_go_where_sent),
        ("a part of a buffer is written", part_of_buffer),
        ("a write gives its buffer back", buffer_comes_back),
        ("durable writes and syncs complete", durable_writes),
        ("a lone operation is performed to its end", lone_operation),
        ("durable writes beside each other all arrive", many_in_flight),
        ("what is queued begins with what comes next, and all of it completes", queued),
        ("parts of one memory are written beside each other", parts_beside_each_other),
        ("what was submitted happens though nobody polls", dropped_in_flight),
        ("what was queued happens though nobody polls", dropped_while_queued),
        ("parts of buffers that are queued side by side are written and come back each by itself", queued_beside),
        ("write_at writes all, or refuses", write_at),
        ("zero writes zeros, and extends the file", zero),
        ("a broken write is refused at submit", broken_write_is_refused),
        ("tokens of writes and syncs differ", tokens_differ),
        ("polling nothing does not block", polling_nothing),
        ("reading ends at the end of the file", reading_past_the_end),
        ("set_len cuts and extends with zeros", set_len),
        ("a file is extended with zeros that may not be written", extend),
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

/// The contract on real files, unless the storage cannot write here as the
/// test wants.
fn on_files(storage: &FileStorage, wanted: &str) {
    let dir = tempfile::tempdir().unwrap();
    let probe = storage.open(&dir.path().join("probe"), OpenMode::CreateNew).unwrap();
    let path = storage.write_path(&probe);
    let found = format!("{}, {}", path.backend, if path.direct { "direct" } else { "buffered" });
    if found != wanted {
        println!("skipped: this machine has no {wanted}: {path}");
        return;
    }
    contract(storage, dir.path());
}

#[test]
fn plain_calls_through_the_cache_keep_the_contract() {
    on_files(&FileStorage::new().backend(Backend::Blocking).direct(false), "blocking, buffered");
}

#[test]
fn plain_calls_past_the_cache_keep_the_contract() {
    on_files(&FileStorage::new().backend(Backend::Blocking), "blocking, direct");
}

#[test]
fn a_ring_past_the_cache_keeps_the_contract() {
    on_files(&FileStorage::new(), "io_uring, direct");
}

#[test]
fn a_ring_through_the_cache_keeps_the_contract() {
    on_files(&FileStorage::new().direct(false), "io_uring, buffered");
}

#[test]
fn a_ring_with_a_kernel_thread_keeps_the_contract() {
    let storage = FileStorage::new().sqpoll(Some(std::time::Duration::from_millis(2)));
    on_files(&storage, "io_uring, direct");
}

#[cfg(target_os = "linux")]
#[test]
fn a_ring_that_has_an_owner_keeps_the_contract() {
    use corewal_io::Ring;

    match Ring::new(32) {
        Ok(ring) => on_files(&FileStorage::new().rings(vec![ring]), "io_uring, direct"),
        Err(error) => println!("skipped: {error}"),
    }
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

fn lone_operation<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    for number in 0..3 {
        let byte = u8::try_from(number).unwrap() + 1;
        let operation = block_write(&mut io, &file, number, byte, number % 2 == 0);
        let done = io.perform(operation).unwrap();
        assert_eq!(done.result.unwrap(), BLOCK_SIZE);
        assert_eq!(done.buffer.expect("the buffer")[0], byte);
    }
    let done = io.perform(Operation::Sync { file: file.clone() }).unwrap();
    assert_eq!(done.result.unwrap(), 0);
    assert!(done.buffer.is_none());
    // Submitted ones are told from them.
    write(&mut io, &file, 3, 4);
    assert_eq!(blocks(&read_all(storage, &file)), [1, 2, 3, 4]);
}

fn many_in_flight<S: Storage>(storage: &S, dir: &Path) {
    const COUNT: u64 = 40;
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    storage.zero(&file, 0, COUNT * BLOCK).unwrap();
    let mut io = storage.io(0).unwrap();
    let mut expected = BTreeMap::new();
    let mut completions = Vec::new();
    let mut taken = Vec::new();
    for number in 0..COUNT {
        let byte = u8::try_from(number).unwrap() + 1;
        // Not in the order of their places.
        let operation = block_write(&mut io, &file, number * 7 % COUNT, byte, true);
        assert!(expected.insert(io.submit(operation).unwrap(), byte).is_none());
        if number % 9 == 0 {
            io.poll(Wait::No, &mut completions).unwrap();
            taken.append(&mut completions);
        }
        assert_eq!(io.in_flight() + taken.len(), expected.len());
    }
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut taken).unwrap();
    }
    for done in taken {
        let byte = expected.remove(&done.token).expect("each completes once");
        assert_eq!(done.result.unwrap(), BLOCK_SIZE);
        assert_eq!(done.buffer.expect("the buffer")[0], byte);
    }
    assert!(expected.is_empty());
    let found = blocks(&read_all(storage, &file));
    for number in 0..COUNT {
        assert_eq!(found[usize::try_from(number * 7 % COUNT).unwrap()], u8::try_from(number).unwrap() + 1);
    }
}

fn parts_beside_each_other<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    let mut rest = io.buffer(6 * BLOCK_SIZE);
    let mut tokens = Vec::new();
    let mut offset = 0;
    for (blocks, byte) in [(1, 1), (2, 2), (3, 3)] {
        let len = blocks * BLOCK_SIZE;
        let behind = (rest.capacity() > len).then(|| rest.split_off(len));
        let mut buffer = std::mem::replace(&mut rest, behind.unwrap_or_else(|| io.buffer(1)));
        // The parts before are under way while this one is filled.
        buffer.fill(byte);
        let operation = Operation::Write { file: file.clone(), offset, buffer, range: 0..len, data_sync: true };
        tokens.push(io.submit(operation).unwrap());
        offset += len as u64;
    }
    let mut completions = Vec::new();
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    completions.sort_by_key(|done| done.token);
    let mut parts = completions.into_iter().zip(tokens).map(|(done, token)| {
        assert_eq!(done.token, token);
        let buffer = done.buffer.expect("the part");
        assert_eq!(done.result.unwrap(), buffer.capacity());
        buffer
    });
    let mut whole = parts.next().unwrap();
    for part in parts {
        whole.join(part).unwrap();
    }
    assert!(whole.is_whole());
    assert_eq!(blocks(&whole), [1, 2, 2, 3, 3, 3]);
    assert_eq!(read_all(storage, &file), *whole);
}

/// Short writes and long ones, queued and submitted in turns, waited for one at
/// a time or looked for.
fn queued<S: Storage>(storage: &S, dir: &Path) {
    const COUNT: u8 = 40;
    const LONG: usize = 8;
    let place = |number: u8| u64::from(number) * LONG as u64 * BLOCK;
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    storage.zero(&file, 0, place(COUNT)).unwrap();
    let mut io = storage.io(0).unwrap();
    let (mut tokens, mut completions) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let len = if number % 5 == 0 { LONG * BLOCK_SIZE } else { BLOCK_SIZE };
        let mut buffer = io.buffer(len);
        buffer.fill(number + 1);
        let offset = place(number);
        let operation = Operation::Write { file: file.clone(), offset, buffer, range: 0..len, data_sync: true };
        tokens.push(if number % 7 == 6 { io.submit(operation) } else { io.queue(operation) }.unwrap());
        if number % 11 == 10 {
            io.poll(if number % 2 == 0 { Wait::One } else { Wait::No }, &mut completions).unwrap();
        }
        assert_eq!(io.in_flight() + completions.len(), tokens.len());
    }
    tokens.push(io.queue(Operation::Sync { file: file.clone() }).unwrap());
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    assert!(completions.iter().all(|done| done.result.is_ok()));
    let mut found: Vec<_> = completions.iter().map(|done| done.token).collect();
    found.sort_unstable_by_key(|token| token.0);
    assert_eq!(found, tokens);
    for (part, number) in blocks(&read_all(storage, &file)).chunks(LONG).zip(0..) {
        let written = if number % 5 == 0 { LONG } else { 1 };
        let expected = (0..LONG).map(|at| if at < written { number + 1 } else { 0 });
        assert!(part.iter().copied().eq(expected), "write {number}: {part:?}");
    }
}

/// Parts of buffers at consecutive places, with gaps in the file and in memory
/// here and there, of several lengths, some to be durable and some not.
fn queued_beside<S: Storage>(storage: &S, dir: &Path) {
    const BUFFER: usize = 16;
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    storage.zero(&file, 0, 300 * BLOCK).unwrap();
    let mut io = storage.io(0).unwrap();
    let (mut offset, mut rest) = (0, None);
    let (mut expected, mut lens, mut completions) = (vec![0; 300], Vec::new(), Vec::new());
    for number in 0..90_usize {
        let blocks = 1 + number % 3;
        let mut part = rest.take().unwrap_or_else(|| io.buffer(BUFFER * BLOCK_SIZE));
        if part.capacity() > blocks * BLOCK_SIZE {
            rest = Some(part.split_off(blocks * BLOCK_SIZE));
        }
        if number % 17 == 16 {
            // The next one stands elsewhere.
            rest = None;
        }
        offset += u64::from(number % 13 == 12);
        part.fill(u8::try_from(number).unwrap() + 1);
        // Of some, a part alone.
        let from = usize::from(number % 19 == 18 && part.capacity() > BLOCK_SIZE);
        let range = from * BLOCK_SIZE..part.capacity();
        let len = range.len() / BLOCK_SIZE;
        let at = usize::try_from(offset).unwrap();
        expected[at..at + len].fill(u8::try_from(number).unwrap() + 1);
        let data_sync = number % 40 < 30;
        let operation = Operation::Write { file: file.clone(), offset: offset * BLOCK, buffer: part, range, data_sync };
        lens.push((io.queue(operation).unwrap(), len * BLOCK_SIZE));
        offset += len as u64;
        if number % 50 == 49 {
            io.poll(Wait::One, &mut completions).unwrap();
        }
        assert_eq!(io.in_flight() + completions.len(), lens.len());
    }
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    completions.sort_by_key(|done| done.token);
    for ((done, number), (token, len)) in completions.iter().zip(1..).zip(lens) {
        assert_eq!((done.token, *done.result.as_ref().unwrap()), (token, len));
        assert!(done.buffer.as_ref().unwrap().iter().all(|byte| *byte == number));
    }
    assert_eq!(completions.len(), 90);
    assert_eq!(blocks(&read_all(storage, &file)), expected);
}

fn dropped_in_flight<S: Storage>(storage: &S, dir: &Path) {
    dropped(storage, dir, 64, S::Io::submit);
}

fn dropped_while_queued<S: Storage>(storage: &S, dir: &Path) {
    dropped(storage, dir, 1, S::Io::queue);
}

fn dropped<S: Storage>(
    storage: &S,
    dir: &Path,
    blocks: usize,
    begin: fn(&mut S::Io, Operation<S::File>) -> std::io::Result<Token>,
) {
    const COUNT: usize = 8;
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    for number in 0..COUNT {
        let mut buffer = io.buffer(blocks * BLOCK_SIZE);
        let len = buffer.capacity();
        buffer.fill(u8::try_from(number).unwrap() + 1);
        let offset = (number * len) as u64;
        let operation = Operation::Write { file: file.clone(), offset, buffer, range: 0..len, data_sync: true };
        begin(&mut io, operation).unwrap();
    }
    drop(io);
    // What is allocated now must not be what those writes still read.
    let others: Vec<_> = (0..COUNT).map(|_| vec![0xee_u8; blocks * BLOCK_SIZE]).collect();
    let bytes = read_all(storage, &file);
    for (number, part) in bytes.chunks(blocks * BLOCK_SIZE).enumerate() {
        assert!(part.iter().all(|byte| usize::from(*byte) == number + 1), "write {number}");
    }
    assert_eq!(bytes.len(), COUNT * others[0].len());
}

fn write_at<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut buffer = AlignedBuf::new(3 * BLOCK_SIZE);
    for (number, block) in buffer.chunks_mut(BLOCK_SIZE).enumerate() {
        block.fill(u8::try_from(number).unwrap() + 1);
    }
    storage.write_at(&file, BLOCK, &buffer, BLOCK_SIZE..3 * BLOCK_SIZE).unwrap();
    assert_eq!(blocks(&read_all(storage, &file)), [0, 2, 3]);
    for (offset, range) in [(1, 0..BLOCK_SIZE), (0, 0..1), (0, 0..0), (0, 0..4 * BLOCK_SIZE)] {
        assert_eq!(kind(storage.write_at(&file, offset, &buffer, range)), ErrorKind::InvalidInput);
    }
    let reader = storage.open(&dir.join("a"), OpenMode::Read).unwrap();
    assert!(storage.write_at(&reader, 0, &buffer, 0..BLOCK_SIZE).is_err());
    assert_eq!(blocks(&read_all(storage, &reader)), [0, 2, 3]);
    assert_eq!(storage.write_path(&reader), storage.write_path(&file), "a reader tells what writers do");
}

fn zero<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    for number in 0..4 {
        write(&mut io, &file, number, 7);
    }
    storage.zero(&file, BLOCK, 2 * BLOCK).unwrap();
    assert_eq!(blocks(&read_all(storage, &file)), [7, 0, 0, 7]);
    storage.zero(&file, 3 * BLOCK, 300 * BLOCK).unwrap();
    let bytes = read_all(storage, &file);
    assert_eq!(bytes.len(), 303 * BLOCK_SIZE);
    assert!(bytes[BLOCK_SIZE..].iter().all(|byte| *byte == 0));
    storage.zero(&file, 0, 0).unwrap();
    assert_eq!(storage.len(&file).unwrap(), 303 * BLOCK);
    assert_eq!(bytes[..BLOCK_SIZE], [7; BLOCK_SIZE]);
    storage.read_ahead(&file, 0, 303 * BLOCK);
    storage.read_ahead(&file, 1 << 40, 0);
    assert_eq!(read_all(storage, &file), bytes, "a hint changes nothing");
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

fn extend<S: Storage>(storage: &S, dir: &Path) {
    let file = storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
    let mut io = storage.io(0).unwrap();
    write(&mut io, &file, 0, 7);
    storage.extend(&file, BLOCK, 3 * BLOCK).unwrap();
    storage.extend(&file, 4 * BLOCK, 0).unwrap();
    assert_eq!(blocks(&read_all(storage, &file)), [7, 0, 0, 0]);
    write(&mut io, &file, 2, 8);
    storage.settle(&file, 0).unwrap();
    assert_eq!(blocks(&read_all(storage, &file)), [7, 0, 8, 0]);
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
