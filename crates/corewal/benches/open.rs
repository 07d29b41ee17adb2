//! What opening costs: the log read and checked, and the state rebuilt from it.
//! 16-byte keys, 100-byte values; throughput is in records, so cores in parallel
//! add up.
#![allow(missing_docs, clippy::disallowed_methods, reason = "a benchmark")]

use std::path::Path;
use std::time::{Duration, Instant};

use corewal::io::{EntryKind, FileStorage, OpenMode, Storage};
use corewal::{Commit, Options, Reader};
use crc_fast::CrcAlgorithm;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const RECORDS: u64 = 2_000_000;

#[allow(clippy::cast_possible_truncation, reason = "any byte will do")]
fn fill(dir: &Path, cores: u16, keys: u64) {
    let mut opened = Options::new().cores(cores).open(dir).expect("opens");
    let mut random = fastrand::Rng::with_seed(1);
    for record in 0..RECORDS {
        let number = if keys == RECORDS { record } else { random.u64(..keys) };
        let mut key = [0_u8; 16];
        key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let core = opened.store.route(&key);
        opened.shards[core.index()].put(&key, &[record as u8; 100]).expect("puts");
        if record % 1024 == 1023 {
            for shard in &mut opened.shards {
                shard.commit(&Commit::new().offset_u64("input", record)).expect("commits");
            }
        }
    }
    let epoch = opened.store.next_epoch();
    for mut shard in opened.shards {
        shard.commit(&Commit::new()).expect("commits");
        shard.end_epoch(epoch).expect("ends the epoch");
        shard.close().expect("closes");
    }
}

/// The same bytes, read in large parts, with a checksum over each: what a scan
/// costs at least.
fn read_and_checksum(dir: &Path) -> u64 {
    let storage = FileStorage::new();
    let mut buffer = vec![0; 512 << 10];
    let mut sum = 0;
    for core in storage.list(dir).expect("lists").iter().filter(|entry| entry.kind == EntryKind::Directory) {
        for segment in storage.list(&dir.join(&core.name)).expect("lists") {
            let path = dir.join(&core.name).join(segment.name);
            let file = storage.open(&path, OpenMode::Read).expect("opens");
            let mut offset = 0;
            loop {
                let read = storage.read_at(&file, offset, &mut buffer).expect("reads");
                if read == 0 {
                    break;
                }
                sum ^= crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &buffer[..read]);
                offset += read as u64;
            }
        }
    }
    sum
}

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(RECORDS));
    let dir = tempfile::tempdir().expect("a temporary directory");
    fill(dir.path(), 1, 100_000);
    group.bench_function("floor read+crc", |bencher| bencher.iter(|| read_and_checksum(dir.path())));
    // A reader looks once over the whole log before it gives anything out.
    group.bench_function("check", |bencher| bencher.iter(|| Reader::open(dir.path()).expect("opens")));
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    for (cores, keys) in [(1, 100_000), (1, RECORDS), (2, 100_000), (2, RECORDS)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fill(dir.path(), cores, keys);
        let name = BenchmarkId::new(format!("{cores} core(s)"), format!("{keys} keys"));
        group.bench_with_input(name, dir.path(), |bencher, dir| {
            // Dropping the state is no part of it, but gives the lock back.
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let began = Instant::now();
                    let opened = Options::new().open(dir).expect("opens");
                    took += began.elapsed();
                    drop(opened);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scan, open);
criterion_main!(benches);
