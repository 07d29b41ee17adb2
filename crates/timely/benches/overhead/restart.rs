//! How soon a job that was killed goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::child::Running;
use crate::events::{Events, Order, TICK};
use crate::run::{Program, Run, State};
use crate::{directory, median, number, numbers};

const WORKERS: u16 = 2;

/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes that the files of a directory take.
fn space(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => space(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// The epoch that the newest record says is complete.
fn complete(run: &Run) -> u64 {
    let records = fs::read_dir(run.dir.join("job").join("records")).expect("a directory");
    let paths = records.map(|entry| entry.expect("a file").path());
    let newest = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).max();
    let bytes = fs::read(newest.expect("a record")).expect("nobody removes it");
    let record: serde_json::Value = serde_json::from_slice(&bytes).expect("a record");
    record["complete"].as_u64().expect("a number")
}

/// The epoch of a file of output, if the name is that of one.
fn epoch(name: &str) -> Option<u64> {
    name.strip_prefix("out-")?.get(..20)?.parse().ok()
}

/// Waits until `seen` says so, of the names in a directory.
fn wait(running: &mut Running, dir: &Path, mut seen: impl FnMut(&str) -> bool) {
    let began = Instant::now();
    loop {
        // Not there before the first file is.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(&mut seen) {
                return;
            }
        }
        running.check();
        assert!(began.elapsed() < PATIENCE, "no output");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs the job until all partitions are at ticks, and everything before them
/// is complete, and kills it.
fn fill(run: &Run) {
    let mut running = Running::start(run);
    let (mut looked, mut partitions) = (BTreeSet::new(), BTreeSet::new());
    let dir = run.output();
    wait(&mut running, &dir, |name| {
        if epoch(name).is_some() && looked.insert(name.to_owned()) {
            let rows = fs::read(dir.join(name)).expect("it stays");
            let ticks = rows.split(|&byte| byte == b'\n').filter(|row| row.starts_with(TICK));
            // As the source makes them: the partition, and a number of three digits.
            partitions.extend(ticks.map(|row| row[..13].to_vec()));
        }
        partitions.len() == usize::from(WORKERS)
    });
    running.kill();
}

/// From the start of the process to output of it, which is killed then.
fn time(run: &Run) -> Duration {
    let recovered = complete(run);
    let dir = run.output();
    // What is there is none of it; and the less is listed the better.
    fs::remove_dir_all(&dir).expect("it is ours");
    let began = Instant::now();
    let mut running = Running::start(run);
    wait(&mut running, &dir, |name| epoch(name).is_some_and(|epoch| epoch > recovered));
    let took = began.elapsed();
    running.kill();
    took
}

pub(crate) fn restart(quick: bool) {
    let updates = number("COREWAL_UPDATES", if quick { 10_000 } else { 10_000_000 });
    let starts = number("COREWAL_STARTS", if quick { 1 } else { 3 });
    let keys = if quick { vec![1_000] } else { vec![1_000_000, 10_000_000] };
    println!(
        "a job of {WORKERS} workers, killed after {updates} updates, no checkpoint: to the first new output, of {starts}"
    );
    println!("{:<12} {:>12} {:>10} {:>24}", "keys", "log", "median", "lowest to highest");
    for keys in numbers("COREWAL_RESTART_KEYS", &keys) {
        let dir = directory();
        let partitions = u64::from(WORKERS);
        let run = Run {
            program: Program::Durable(State::wanted()[0]),
            dir: dir.path().to_owned(),
            events: Events { partitions, events: updates, keys, order: Order::Scattered, json: false, ticks: true },
            epoch_micros: 100_000,
            checkpoints: false,
            workers: WORKERS,
            process: 0,
            addresses: Vec::new(),
        };
        fill(&run);
        let log = space(&run.dir.join("job").join("stores"));
        let mut took: Vec<_> = (0..starts).map(|_| time(&run).as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        println!(
            "{keys:<12} {:>8.0} MiB {:>8.2} s {:>24}",
            log as f64 / (1 << 20) as f64,
            median(took.clone()),
            format!("{:.2} s to {:.2} s", took[0], took[took.len() - 1])
        );
    }
}
