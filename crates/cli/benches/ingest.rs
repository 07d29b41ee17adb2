//! What the program ingests, from a file of NDJSON to durable epochs: the built
//! binary, two cores, an epoch every 100 ms, on the disk under the temporary
//! directory. Throughput is in records; the time is the program's own, from the
//! first record to the last durable epoch.
#![allow(missing_docs, clippy::disallowed_methods, reason = "a benchmark")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const LINES: u64 = 2_000_000;

/// Flights-like records of that many fields more than the three that matter.
fn input(dir: &Path, padding_fields: usize) -> PathBuf {
    let mut lines = String::new();
    for line in 0..LINES {
        write!(lines, "{{\"tailnum\":\"N{:05}\",\"distance\":{},\"origin\":\"EWR\"", line * 7919 % 4043, line % 5000)
            .expect("to memory");
        for field in 0..padding_fields {
            write!(lines, ",\"field_{field}\":\"{}\"", line % 97).expect("to memory");
        }
        lines.push_str("}\n");
    }
    let path = dir.join(format!("input-{padding_fields}.ndjson"));
    std::fs::write(&path, lines).expect("writes the input");
    path
}

fn run(input: &Path, reduce: &str) -> Duration {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_corewal"))
        .args(["--json", "ingest", "--cores", "2", "--key", "tailnum", "--epoch-every", "100ms", "--reduce", reduce])
        .arg("--dir")
        .arg(dir.path().join("store"))
        .arg(input)
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["records"], LINES);
    Duration::from_secs_f64(summary["seconds"].as_f64().expect("a number"))
}

fn ingest(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(LINES)).sample_size(10);
    for padding_fields in [2, 13] {
        let input = input(dir.path(), padding_fields);
        let bytes = std::fs::metadata(&input).expect("was written").len() / LINES;
        for reduce in ["count", "sum:distance", "last"] {
            group.bench_with_input(BenchmarkId::new(reduce, format!("{bytes} B a line")), &input, |bencher, input| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| run(input, reduce)).sum());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
