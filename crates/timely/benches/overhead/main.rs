//! What durability costs: the same count by key in Timely, with and without it;
//! and how soon a job that was killed goes on.
//!
//! 1. Events with keys of 16 bytes, drawn from `COREWAL_KEYS` (a list, default
//!    `1000000,10000`), are exchanged by key and counted; each thousandth update of a
//!    worker makes a row of output; an epoch each 100 ms. With `durable_source`,
//!    `durable_state_machine` and `durable_sink` (or with `durable_update`, as
//!    `COREWAL_STATE` says, a list of `typed` and `bytes`, default `typed`; the
//!    first of it holds for what follows as well); and without: the same source, the
//!    same exchange, a hash map, and files that are not synced. In turns,
//!    `COREWAL_PAIRS` times (default 5), as many events as plain Timely handles
//!    in `COREWAL_SECONDS` (default 3); medians. The events are made in memory,
//!    and then each read from a line of JSON (`COREWAL_JSON`, default `0,1`). For
//!    one process of `COREWAL_WORKERS` (a list, default `1,2`) and two processes
//!    of `COREWAL_PROCESSES` workers each (the same; 0 for none). Until all is
//!    complete.
//! 2. The same with durability and epochs of `COREWAL_EPOCHS` milliseconds (a
//!    list, default `1,10,1000`).
//! 3. `COREWAL_UPDATES` updates (default 10 million) over as many keys as
//!    `COREWAL_RESTART_KEYS` says (a list, default a million and 10 million), no
//!    checkpoint, SIGKILL; then from the start of the process to its first file
//!    of new output, `COREWAL_STARTS` times (default 3).
//!
//! Each run is a process of its own: none finds what another left in memory.
//! All files are below `COREWAL_BENCH_DIR` (default: in the target directory)
//! and removed at the end. A filter after `--` chooses: `overhead`, `epochs` or
//! `restart`.
#![allow(missing_docs, clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "for people to read")]
#![forbid(unsafe_code)]

mod child;
mod durable;
mod events;
mod overhead;
mod plain;
mod restart;
mod run;

/// A number that the environment gives.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// A list of numbers that the environment gives, with commas.
fn numbers(name: &str, default: &[u64]) -> Vec<u64> {
    let given = std::env::var(name).ok();
    given.map_or(default.to_vec(), |list| list.split(',').map(|value| value.parse().expect("a number")).collect())
}

/// Where each benchmark's files go.
fn directory() -> tempfile::TempDir {
    let parent = std::env::var("COREWAL_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    std::fs::create_dir_all(&parent).expect("a directory");
    tempfile::Builder::new().prefix("timely-overhead-").tempdir_in(parent).expect("a directory")
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

fn main() {
    if run::run_if_told() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` asks whether it runs, not how fast it is.
    let quick = !arguments.iter().any(|argument| argument == "--bench");
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    if wanted("overhead") {
        overhead::overhead(quick);
    }
    if wanted("epochs") {
        overhead::epochs(quick);
    }
    if wanted("restart") {
        restart::restart(quick);
    }
}
