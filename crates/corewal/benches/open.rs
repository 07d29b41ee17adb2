//! What opening costs: the state rebuilt from the log. 16-byte keys, 100-byte
//! values; throughput is in records, so cores in parallel add up.
#![allow(missing_docs, clippy::disallowed_methods, reason = "a benchmark")]

use std::path::Path;

use corewal::{Commit, Options};
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

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    for (cores, keys) in [(1, 100_000), (1, RECORDS), (2, 100_000), (2, RECORDS)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fill(dir.path(), cores, keys);
        let name = BenchmarkId::new(format!("{cores} core(s)"), format!("{keys} keys"));
        group.bench_with_input(name, dir.path(), |bencher, dir| {
            bencher.iter_with_large_drop(|| Options::new().open(dir).expect("opens"));
        });
    }
    group.finish();
}

criterion_group!(benches, open);
criterion_main!(benches);
