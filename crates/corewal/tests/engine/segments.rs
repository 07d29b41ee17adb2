//! Segments that are made ahead of need and written over: what they cost, what
//! happens when the next one is not there, and that what a file held in an
//! earlier life never comes back.

use std::path::{Path, PathBuf};

use corewal::format::{BLOCK_LEN, SegmentHeader};
use corewal::io::{CrashKind, Fault, FaultKind, OperationKind, SimOptions, SimStorage};
use corewal::{Change, Commit, Error, LogId, Lsn, Options, Recover, State, Writer};

const DIR: &str = "/db/core-0000";

/// The numbers of the payloads that counted.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl State for Seen {
    fn apply(&mut self, change: Change<'_>) {
        let Change::Payload(bytes) = change else { return };
        self.0.push(u64::from_le_bytes(bytes[..8].try_into().unwrap()));
    }
}

fn options() -> Options {
    let small = Options::new().cores(1).buffers(8).buffer_bytes(4096).segment_bytes(16_384);
    small.log_id(LogId([9; 16])).recover(Recover::Latest).single_threaded()
}

fn writer(disk: &SimStorage) -> Writer<SimStorage> {
    options().open_writers(disk.clone(), "/db").unwrap().0.remove(0)
}

/// A commit that fills most of a block, and the position behind it.
fn commit(writer: &mut Writer<SimStorage>, number: u64) -> Lsn {
    let payload: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(3000).collect();
    writer.payload(&payload).unwrap();
    let end = writer.commit(&Commit::new()).unwrap();
    writer.sync().unwrap();
    end
}

fn segments(disk: &SimStorage) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.starts_with(DIR) && path.extension().is_some_and(|extension| extension == "wal"));
    files
}

fn header(disk: &SimStorage, path: &Path) -> SegmentHeader {
    SegmentHeader::decode(&disk.read_file(path).unwrap()).unwrap()
}

#[test]
fn an_untouched_store_of_two_cores_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let list = || {
        let cores = ["core-0000", "core-0001"].map(|core| std::fs::read_dir(dir.path().join(core)).unwrap());
        cores.into_iter().flatten().map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let store = Options::new().cores(2).open(dir.path()).unwrap();
    // The second segment is made on a thread of its own, and left unfinished if
    // the store is dropped before: so the store stays open until both are there.
    let began = std::time::Instant::now();
    while list().iter().filter(|path| path.extension().is_some_and(|extension| extension == "wal")).count() < 4 {
        assert!(began.elapsed().as_secs() < 60, "one segment in use and one ready, a core: {:?}", list());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(store);
    let total: u64 = list().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((4 << 20..=16 << 20).contains(&total), "{total} bytes");
}

#[test]
fn each_segment_is_twice_as_large_as_the_one_before() {
    let disk = SimStorage::default();
    let options = Options::new().cores(1).segment_bytes(8 << 20).recover(Recover::Latest).single_threaded();
    let mut writer = options.open_writers(disk.clone(), "/db").unwrap().0.remove(0);
    while segments(&disk).len() < 6 {
        writer.payload(&[1; 100_000]).unwrap();
        writer.commit(&Commit::new()).unwrap();
        writer.sync().unwrap();
    }
    let sizes = segments(&disk).iter().map(|path| disk.read_file(path).unwrap().len() >> 20).collect::<Vec<_>>();
    assert_eq!(sizes, [1, 2, 4, 8, 8, 8]);
}

#[test]
fn where_the_next_segment_is_not_there_append_says_so_and_loses_nothing() {
    let disk = SimStorage::default();
    let mut writer = writer(&disk);
    // Without a submit or a poll nobody makes the segment behind the next.
    let mut appended = 0_u64;
    let error = loop {
        match writer.payload(&[1; 3000]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full() && appended >= 3, "{error} after {appended}");
    writer.submit().unwrap();
    writer.payload(&[1; 3000]).unwrap();
    writer.commit(&Commit::new()).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let opened = options().open_on(disk, "/db", |_| Seen::default()).unwrap();
    assert_eq!(opened.shards[0].state().0.len() as u64, appended + 1);
}

/// Found by the fuzzer. A segment that was made ahead and cut short by hand,
/// within a block, was written to as if it had its last block, and then seemed
/// to have lost it: the store did not open any more.
#[test]
fn a_segment_made_ahead_that_was_cut_short_gets_its_last_block_back() {
    let disk = SimStorage::default();
    let mut one = writer(&disk);
    commit(&mut one, 1);
    drop(one);
    let ahead = segments(&disk).pop().unwrap();
    let mut bytes = disk.read_file(&ahead).unwrap();
    assert!(segments(&disk).len() == 2 && bytes.len() == 16_384, "{}: {}", ahead.display(), bytes.len());
    bytes.truncate(12_576);
    disk.write_file(&ahead, bytes);
    for number in 2..12 {
        let mut again = writer(&disk);
        commit(&mut again, number);
    }
    assert!(segments(&disk).len() > 3);
    let opened = options().open_on(disk, "/db", |_| Seen::default()).unwrap();
    assert_eq!(opened.shards[0].state().0, (1..12).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_cannot_be_made_is_an_error_that_passes() {
    let disk = SimStorage::default();
    let mut writer = writer(&disk);
    disk.inject(Fault { on: OperationKind::Create, skip: 0, kind: FaultKind::Error(28), sticky: true });
    let mut durable = 0_u64;
    let error = loop {
        match writer.payload(&durable.to_le_bytes().repeat(300)) {
            Ok(_) => {
                writer.commit(&Commit::new()).unwrap();
                writer.sync().unwrap();
                durable += 1;
            }
            Err(error) if error.is_full() => writer.submit().unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::OutOfSpace { budget: None, .. }), "{error}");
    assert!(writer.payload(b"full").unwrap_err().is_full(), "it is being tried again");
    disk.clear_faults();
    writer.submit().unwrap();
    commit(&mut writer, durable);
    drop(writer);
    let opened = options().open_on(disk, "/db", |_| Seen::default()).unwrap();
    assert_eq!(opened.shards[0].state().0, (0..=durable).collect::<Vec<_>>());
}

/// Fills and releases segments over and over, so that every file is used many
/// times, and crashes after each commit.
#[test]
fn bytes_of_an_earlier_life_never_come_back() {
    let (mut lives, mut recycled) = (0, 0);
    for seed in 0..6 {
        let disk = SimStorage::new(SimOptions { seed, direct: seed % 2 == 0, ..SimOptions::default() });
        let mut writer = writer(&disk);
        let mut ends = Vec::new();
        for number in 0..60 {
            ends.push(commit(&mut writer, number));
            if number % 7 == 6 {
                writer.release_below(ends[ends.len() - 3]).unwrap();
            }
            let last = segments(&disk).into_iter().rev().find(|path| {
                let base = header(&disk, path).identity.base_lsn;
                base < writer.durable_lsn()
            });
            let last = last.expect("one is in use");
            let bytes = disk.read_file(&last).unwrap();
            let behind = writer.durable_lsn().get() - header(&disk, &last).identity.base_lsn.get();
            recycled += u64::from(header(&disk, &last).recycled);
            lives += u64::from(bytes[behind as usize..].iter().any(|&byte| byte != 0));
            for kind in [CrashKind::Process, CrashKind::Power] {
                let crashed = disk.snapshot().crash(kind, number);
                let opened = options().open_on(crashed, "/db", |_| Seen::default()).unwrap();
                let seen = &opened.shards[0].state().0;
                assert_eq!(seen.last(), Some(&number));
                assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "seed {seed}: {seen:?}");
                // The earlier life is not taken for an unfinished write either.
                assert_eq!(opened.report.cores[0].cut, None, "seed {seed}, {number}");
            }
        }
    }
    assert!(recycled > 50 && lives > 50, "files were used again ({recycled}) with old bytes in them ({lives})");
}

/// Whole frames of another life, planted where the log goes on: at their own
/// offsets, in the segment in use and in the one that is ready.
#[test]
fn planted_frames_of_an_earlier_life_never_join_the_log() {
    let disk = SimStorage::default();
    let mut writer = writer(&disk);
    commit(&mut writer, 0);
    commit(&mut writer, 1);
    let old = disk.read_file(&segments(&disk)[0]).unwrap();
    commit(&mut writer, 2);
    drop(writer);
    for path in &segments(&disk)[1..] {
        let mut bytes = disk.read_file(path).unwrap();
        let mut block = vec![0; BLOCK_LEN];
        SegmentHeader { recycled: true, ..header(&disk, path) }.encode(&mut block);
        bytes[..BLOCK_LEN].copy_from_slice(&block);
        for (at, block) in bytes.chunks_mut(BLOCK_LEN).enumerate().skip(1) {
            if block.iter().all(|&byte| byte == 0) {
                block.copy_from_slice(&old[at * BLOCK_LEN..][..BLOCK_LEN]);
            }
        }
        disk.write_file(path, bytes);
    }
    for number in 3..20 {
        let opened = options().open_on(disk.clone(), "/db", |_| Seen::default()).unwrap();
        assert_eq!(opened.shards[0].state().0, (0..number).collect::<Vec<_>>());
        assert_eq!(opened.report.cores[0].cut, None);
        drop(opened);
        commit(&mut self::writer(&disk), number);
    }
}

/// The crash loop found it: a power cut brought a released segment's old name
/// back, on a file that carried the header of the next segment already.
#[test]
fn a_file_never_stands_under_the_name_of_another_segment() {
    for seed in 0..40 {
        let disk = SimStorage::new(SimOptions { seed, ..SimOptions::default() });
        disk.record_snapshots(true);
        let mut writer = writer(&disk);
        for number in 0..9 {
            let end = commit(&mut writer, number);
            writer.release_below(end).unwrap();
        }
        drop(writer);
        let snapshots = disk.take_snapshots();
        for snapshot in snapshots.iter().step_by(3) {
            let killed = snapshot.crash(CrashKind::Process, seed);
            drop(options().open_on(killed.clone(), "/db", |_| Seen::default()).unwrap());
            let cut = killed.snapshot().crash(CrashKind::Power, seed);
            drop(options().open_on(cut, "/db", |_| Seen::default()).unwrap());
        }
    }
}
