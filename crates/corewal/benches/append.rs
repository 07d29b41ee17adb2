//! What appending costs, against copying and checksumming the same bytes in
//! memory in the same run. 16-byte keys, 100-byte values.
//!
//! * `floor/copy and checksum`: the bytes are copied into a ring of the size of
//!   the writer's buffers, with a CRC-32C a record.
//! * `append/memory`: the whole write path onto a medium that takes everything
//!   and keeps nothing: what the engine itself costs.
//! * `append/file`: the same onto a growing file, handed to the kernel a buffer
//!   at a time, never synced.
#![allow(missing_docs, clippy::disallowed_methods, reason = "a benchmark")]

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use corewal::io::{
    AlignedBuf, Completion, DirEntry, FileStorage, OpenMode, Operation, Storage, StorageIo, Token, Wait, WritePath,
};
use corewal::{LogId, Options, Recover, Writer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RECORDS: u64 = 10_000;
const BUFFER: usize = 128 << 10;
/// A log is emptied when it has grown so far, outside the measured time.
const RESET_AFTER: u64 = 512 << 20;

fn floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("floor");
    group.throughput(Throughput::Elements(RECORDS));
    let (mut ring, key, value) = (vec![0_u8; BUFFER], [7_u8; 16], [9_u8; 100]);
    group.bench_function("copy and checksum", |bencher| {
        bencher.iter(|| {
            let (mut at, mut sum) = (0, 0_u32);
            for _ in 0..RECORDS {
                if at + 116 > ring.len() {
                    at = 0;
                }
                ring[at..at + 16].copy_from_slice(std::hint::black_box(&key));
                ring[at + 16..at + 116].copy_from_slice(std::hint::black_box(&value));
                sum ^= crc32c::crc32c(&ring[at..at + 116]);
                at += 116;
            }
            sum
        });
    });
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(RECORDS));
    let options = || Options::new().cores(1).buffer_bytes(BUFFER).recover(Recover::Latest);
    let mut memory = options()
        .log_id(LogId([1; 16]))
        .segment_bytes(1 << 50)
        .open_writers(Nowhere, "/nowhere")
        .expect("opens")
        .0
        .remove(0);
    group.bench_function("memory", |bencher| bencher.iter_custom(|rounds| stream(&mut memory, rounds)));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut file = options().open_writers(FileStorage::new(), dir.path()).expect("opens").0.remove(0);
    group.bench_function("file", |bencher| bencher.iter_custom(|rounds| stream(&mut file, rounds)));
    group.finish();
}

fn stream<S: Storage>(writer: &mut Writer<S>, rounds: u64) -> Duration {
    let (key, value) = ([7_u8; 16], [9_u8; 100]);
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        let began = Instant::now();
        for _ in 0..RECORDS {
            while let Err(error) = writer.put(std::hint::black_box(&key), std::hint::black_box(&value)) {
                assert!(error.is_full(), "{error}");
                writer.submit().expect("submits");
                writer.wait().expect("completes");
            }
        }
        took += began.elapsed();
        if writer.appended_lsn().get() - writer.start_lsn().get() > RESET_AFTER && writer.start_lsn().get() < 1 << 49 {
            writer.reset().expect("resets");
        }
    }
    took
}

/// A medium that takes everything and keeps nothing, but for what opening
/// needs to see.
#[derive(Clone, Debug)]
struct Nowhere;

#[derive(Debug, Default)]
struct NowhereIo {
    token: u64,
    done: Vec<Completion>,
}

impl Storage for Nowhere {
    type File = ();
    type Io = NowhereIo;
    type Lock = ();

    fn io(&self, _: usize) -> io::Result<NowhereIo> {
        Ok(NowhereIo::default())
    }
    fn write_path(&self, (): &()) -> WritePath {
        WritePath { backend: "nowhere", direct: false, instead: None }
    }
    fn write_at(&self, (): &(), _: u64, _: &AlignedBuf, _: std::ops::Range<usize>) -> io::Result<()> {
        Ok(())
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<()> {
        let new = mode == OpenMode::CreateNew || path.extension().is_some_and(|name| name == "wal");
        if new { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
    fn len(&self, (): &()) -> io::Result<u64> {
        Ok(0)
    }
    fn read_at(&self, (): &(), offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // The header of the one segment there ever is.
        if offset > 0 {
            return Ok(0);
        }
        let identity = corewal::format::SegmentIdentity {
            log_id: corewal::LogId([1; 16]),
            core: corewal::CoreId(0),
            segment: corewal::SegmentId(0),
            base_lsn: corewal::Lsn(0),
        };
        corewal::format::SegmentHeader { identity, cores: 1, recycled: false, run: false }.encode(&mut buffer[..4096]);
        Ok(4096)
    }
    fn set_len(&self, (): &(), _: u64) -> io::Result<()> {
        Ok(())
    }
    fn settle(&self, (): &(), _: u64) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let segment = DirEntry { name: "00000000000000000000.wal".into(), kind: corewal::io::EntryKind::File };
        Ok(if dir.ends_with("core-0000") { vec![segment] } else { vec![] })
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Option<()>> {
        Ok(Some(()))
    }
    fn is_locked(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

impl StorageIo for NowhereIo {
    type File = ();

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        AlignedBuf::new(capacity)
    }
    fn submit(&mut self, operation: Operation<()>) -> io::Result<Token> {
        let token = Token(self.token);
        self.token += 1;
        self.done.push(match operation {
            Operation::Write { buffer, range, .. } => {
                Completion { token, result: Ok(range.len()), buffer: Some(buffer) }
            }
            Operation::Sync { .. } => Completion { token, result: Ok(0), buffer: None },
        });
        Ok(token)
    }
    fn poll(&mut self, _: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.done);
        Ok(())
    }
    fn in_flight(&self) -> usize {
        self.done.len()
    }
}

criterion_group!(benches, floor, append);
criterion_main!(benches);
