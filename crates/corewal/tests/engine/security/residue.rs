//! Bytes of earlier use: what a buffer held before must not reach the disk
//! behind what it holds now.

use std::fs;
use std::path::Path;

use corewal::format::SegmentHeader;
use corewal::io::FileStorage;
use corewal::{Commit, Opened};

use super::world::{open_on, options, ways};

const MARKER: &[u8] = b"<<this was written once>>";

/// Where `MARKER` stands in `bytes`.
fn places(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len().saturating_sub(MARKER.len())).filter(|&at| bytes[at..].starts_with(MARKER)).collect()
}

/// The files of a directory whose names end so.
fn files(dir: &Path, end: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == end));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// `count` epochs of one put each, a frame for each.
fn write(opened: &mut Opened, count: u64, key: impl Fn(u64) -> Vec<u8>, value: &[u8]) {
    for n in 0..count {
        let epoch = opened.store.next_epoch();
        let shard = &mut opened.shards[0];
        shard.put(&key(n), value).unwrap();
        shard.commit(&Commit::new().offset_u64("input", n)).unwrap();
        shard.end_epoch(epoch).unwrap();
        shard.sync().unwrap();
    }
}

fn close(opened: Opened) {
    opened.shards.into_iter().for_each(|shard| shard.close().unwrap());
}

fn marked_key(n: u64) -> Vec<u8> {
    [b"key ", MARKER, n.to_string().as_bytes()].concat()
}

/// Frames full of the marker first, so that every buffer has held it, then
/// short ones: each leaves most of a block for padding, in buffers that were
/// used before.
fn leaves_nothing_behind(name: &str, storage: &FileStorage) {
    const MARKED: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_on(storage, options().cores(1), dir.path());
    let value = MARKER.repeat(250);
    write(&mut opened, MARKED, marked_key, &value);
    let marked_end = opened.shards[0].log().appended_lsn();
    write(&mut opened, 60, |n| format!("plain {n}").into_bytes(), b"short");
    close(opened);

    let mut seen = 0;
    let segments = files(&dir.path().join("core-0000"), "wal");
    assert!(segments.len() > 4, "{name}: several segments");
    for (path, bytes) in &segments {
        let header = SegmentHeader::decode(&bytes[..4096]).unwrap();
        assert!(!header.recycled, "{name}: a first life");
        let found = places(bytes);
        seen += found.len();
        for at in found {
            let lsn = header.identity.base_lsn.get() + at as u64;
            assert!(lsn < marked_end.get(), "{name}: {} at {at}, behind what was marked", path.display());
        }
    }
    // Each once: in its frame, and in no padding, no header and no second copy.
    assert_eq!(seen as u64, MARKED * 251, "{name}");
    for rest in ["LOCK", "MANIFEST", "MANIFEST.old"] {
        let bytes = fs::read(dir.path().join(rest)).unwrap_or_default();
        assert_eq!(places(&bytes), [] as [usize; 0], "{name}: {rest}");
    }
}

/// Runs are written from buffers of their own, and a run that holds nothing of a
/// value any more has nothing of it in its padding.
fn a_run_has_no_more_than_it_says(name: &str, storage: &FileStorage) {
    let dir = tempfile::tempdir().unwrap();
    let value = MARKER.repeat(250);
    let runs = || files(&dir.path().join("runs"), "run");
    let count = || runs().iter().map(|(_, bytes)| places(bytes).len()).sum::<usize>();
    let policy = corewal::Checkpoints::default().keep(1);
    let checkpoint = || corewal::checkpoint(dir.path(), policy).unwrap().unwrap();
    let key = |n: u64| format!("key {n}").into_bytes();

    let mut opened = open_on(storage, options().cores(1), dir.path());
    write(&mut opened, 40, key, &value);
    close(opened);
    checkpoint();
    assert_eq!(count(), 40 * 250, "{name}: each value once");

    let mut opened = open_on(storage, options().cores(1), dir.path());
    write(&mut opened, 40, key, b"plain");
    close(opened);
    checkpoint();
    // The next opening removes what no checkpoint names.
    close(open_on(storage, options().cores(1), dir.path()));
    let newest = runs().into_iter().max().unwrap().1;
    assert_eq!(places(&newest), [] as [usize; 0], "{name}: the run of changes");
}

#[test]
fn what_a_buffer_held_before_never_reaches_a_segment_by_any_way_of_writing() {
    for (name, storage) in ways() {
        leaves_nothing_behind(name, &storage);
    }
}

#[test]
fn what_a_buffer_held_before_never_reaches_a_run_by_any_way_of_writing() {
    for (name, storage) in ways() {
        a_run_has_no_more_than_it_says(name, &storage);
    }
}
