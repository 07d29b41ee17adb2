//! What checkpoints bound, and what they cost: many puts over few keys, with
//! and without them. Disk use, the time of a commit, the time of opening.
//!
//! `COREWAL_PUTS` puts (default 50 million) over `COREWAL_KEYS` keys (default a
//! million), a durable commit for each 1,024; `COREWAL_CORES` cores. The stores
//! with checkpoints are opened in turns, `COREWAL_OPENS` times each.
//!
//! First as fast as it goes; then `COREWAL_RATE` puts a second (default 300,000)
//! for `COREWAL_SECONDS` (default 30), a load that the machine has no trouble
//! with: there a commit shows what a checkpoint beside it costs.
#![allow(missing_docs, clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "for people to read")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corewal::{Checkpoints, Commit, Options};

const BATCH: u64 = 1024;
const MIB: f64 = (1 << 20) as f64;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

fn options(cores: u16, policy: Checkpoints) -> Options {
    let segments = number("COREWAL_SEGMENT", 16 << 20);
    Options::new().cores(cores).segment_bytes(segments).checkpoints(policy)
}

/// Bytes that the files of a store take.
fn space(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => space(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

struct Filled {
    peak: u64,
    latencies: Vec<u32>,
    took: Duration,
    made: u64,
    written: u64,
    held: u64,
}

/// Puts as fast as it goes, or at most `rate` a second and core.
fn fill(dir: &Path, cores: u16, puts: u64, keys: u64, policy: Checkpoints, rate: Option<u64>) -> Filled {
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let opened = options(cores, policy).open(dir).expect("opens");
    let started = Instant::now();
    let (store, shards) = (opened.store, opened.shards);
    let (latencies, took, status) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(space(dir), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let workers: Vec<_> = shards
            .into_iter()
            .map(|mut shard| {
                let store = store.clone();
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(7);
                    let (mut latencies, mut own) = (Vec::new(), 0_u64);
                    for record in 0..puts {
                        let number = if record < keys { record } else { random.u64(..keys) };
                        let mut key = [0_u8; 16];
                        key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
                        if store.route(&key) != shard.core() {
                            continue;
                        }
                        shard.put(&key, &[record as u8; 100]).expect("puts");
                        own += 1;
                        if own.is_multiple_of(BATCH) {
                            let due = rate.map(|rate| Duration::from_secs_f64(own as f64 / rate as f64));
                            std::thread::sleep(due.unwrap_or_default().saturating_sub(started.elapsed()));
                            if shard.core().0 == 0 && own.is_multiple_of(64 * BATCH) {
                                store.announce_epoch();
                            }
                            let began = Instant::now();
                            shard.commit(&Commit::new().offset_u64("in", record)).expect("commits");
                            shard.sync().expect("syncs");
                            latencies.push(began.elapsed().as_micros() as u32);
                        }
                    }
                    shard.commit(&Commit::new()).expect("commits");
                    (shard, latencies)
                })
            })
            .collect();
        let mut all = Vec::new();
        let mut shards = Vec::new();
        for worker in workers {
            let (shard, latencies) = worker.join().expect("no panic");
            all.extend(latencies);
            shards.push(shard);
        }
        store.announce_epoch();
        for shard in &mut shards {
            shard.sync().expect("syncs");
        }
        for shard in shards {
            shard.close().expect("closes");
        }
        let (took, status) = (started.elapsed(), store.checkpoint_status());
        assert_eq!(status.error, None);
        // Makes the checkpoint that is due.
        drop(store);
        done.store(true, Ordering::Relaxed);
        all.sort_unstable();
        (all, took, status)
    });
    Filled { peak: peak.into_inner(), latencies, took, made: status.made, written: status.written, held: status.held }
}

fn reopen(dir: &Path, cores: u16, policy: Checkpoints) -> Duration {
    let began = Instant::now();
    let opened = options(cores, policy).open(dir).expect("opens");
    let took = began.elapsed();
    let shards = opened.shards;
    drop(opened.store);
    shards.into_iter().for_each(|shard| shard.close().expect("closes"));
    took
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` asks whether it runs, not how fast it is.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let puts = number("COREWAL_PUTS", if quick { 20_000 } else { 50_000_000 });
    let keys = number("COREWAL_KEYS", if quick { 1_000 } else { 1_000_000 });
    let cores = number("COREWAL_CORES", 1) as u16;
    let with = Checkpoints::default().bytes(number("COREWAL_CHECKPOINT", if quick { 1 << 20 } else { 32 << 20 }));
    let live = keys * 124;
    println!("{puts} puts over {keys} keys, {cores} core(s); the live state takes {:.0} MiB", live as f64 / MIB);
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let runs =
        [("each key once", keys, with), ("with checkpoints", puts, with), ("without", puts, Checkpoints::manual())];
    let mut p99 = Vec::new();
    for (name, puts, policy) in runs {
        let at = dir.path().join(name);
        let filled = fill(&at, cores, puts, keys, policy, None);
        let at_percentile = |percent: usize| filled.latencies[(filled.latencies.len() - 1) * percent / 100];
        println!(
            "{name:<18} {:>6.2} M puts/s; commit p50 {:>5} us, p99 {:>6} us; disk at most {:>6.0} MiB ({:.2}x), \
             at the end {:>6.0} MiB; {:>3} checkpoints of {:>6.0} MiB written, {} segments waited",
            puts as f64 / filled.took.as_secs_f64() / 1e6,
            at_percentile(50),
            at_percentile(99),
            filled.peak as f64 / MIB,
            filled.peak as f64 / live as f64,
            space(&at) as f64 / MIB,
            filled.made,
            filled.written as f64 / MIB,
            filled.held,
        );
        p99.push(at_percentile(99));
    }
    let opens = number("COREWAL_OPENS", if quick { 1 } else { 15 });
    let mut took = [const { Vec::new() }; 2];
    for _ in 0..opens {
        for ((name, _, policy), took) in runs.into_iter().zip(&mut took) {
            took.push(reopen(&dir.path().join(name), cores, policy));
        }
    }
    let [once, bounded] = took.map(median);
    let (name, _, policy) = runs[2];
    let without = reopen(&dir.path().join(name), cores, policy);
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    println!(
        "opens in {:.1} ms, {:.1} ms and {:.1} ms (medians of {opens}; the last, once)",
        ms(once),
        ms(bounded),
        ms(without)
    );
    println!(
        "opening: {:.2}x of each key once; p99 of a commit: {:.2}x of without",
        bounded.as_secs_f64() / once.as_secs_f64(),
        f64::from(p99[1]) / f64::from(p99[2])
    );
    let rate = number("COREWAL_RATE", 300_000);
    let puts = number("COREWAL_SECONDS", if quick { 0 } else { 30 }) * rate;
    for number in 1..=number("COREWAL_RUNS", 1) {
        let at_rate = |name, policy| {
            let at = dir.path().join(format!("{name} {number}"));
            let filled = fill(&at, cores, puts.max(BATCH), keys, policy, Some(rate / u64::from(cores)));
            std::fs::remove_dir_all(at).expect("it is ours");
            let at_percentile = |percent: usize| filled.latencies[(filled.latencies.len() - 1) * percent / 100];
            (at_percentile(50), at_percentile(99), filled.made, filled.held)
        };
        let ((p50, p99, made, held), without) =
            (at_rate("paced", with), at_rate("paced, without", Checkpoints::manual()));
        println!(
            "at {:.2} M puts/s: commit p50 {p50} us, p99 {p99} us with {made} checkpoints ({held} segments waited); \
             {} us and {} us without: {:.2}x at p99",
            rate as f64 / 1e6,
            without.0,
            without.1,
            f64::from(p99) / f64::from(without.1),
        );
    }
}
