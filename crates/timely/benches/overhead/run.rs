//! A run of one of the programs, in a process of its own.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::communication::Config as Communication;
use timely::{Config, WorkerConfig};

use crate::events::{Events, Key};
use crate::{durable, plain};

/// The variable that tells a process to run a program.
pub(crate) const RUN: &str = "COREWAL_BENCH_RUN";

/// Each so many updates of a worker make a row of output.
pub(crate) const ROW_EACH: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Program {
    /// With this kind of state.
    Durable(State),
    Plain,
}

/// How the durable program has its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Of a type, with `durable_state_machine`.
    Typed,
    /// As bytes, with `durable_update`.
    Bytes,
}

impl State {
    /// Those that `COREWAL_STATE` wants.
    pub(crate) fn wanted() -> Vec<Self> {
        let given = std::env::var("COREWAL_STATE").unwrap_or_else(|_| "typed".into());
        let state = |name: &str| match name {
            "typed" => Self::Typed,
            "bytes" => Self::Bytes,
            _ => panic!("COREWAL_STATE: typed or bytes, not {name}"),
        };
        given.split(',').map(state).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Typed => "typed",
            Self::Bytes => "bytes",
        }
    }
}

/// What a process is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) program: Program,
    pub(crate) dir: PathBuf,
    pub(crate) events: Events,
    pub(crate) epoch_micros: u64,
    pub(crate) checkpoints: bool,
    /// Of each process.
    pub(crate) workers: u16,
    pub(crate) process: usize,
    /// Of the processes, if there are several.
    pub(crate) addresses: Vec<String>,
}

impl Run {
    pub(crate) fn processes(&self) -> u16 {
        self.addresses.len().max(1) as u16
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join("output")
    }

    pub(crate) fn config(&self) -> Config {
        let threads = usize::from(self.workers);
        let communication = if self.processes() == 1 {
            Communication::Process(threads)
        } else {
            let (process, addresses) = (self.process, self.addresses.clone());
            Communication::Cluster { threads, process, addresses, report: false, zerocopy: false }
        };
        Config { communication, worker: WorkerConfig::default() }
    }
}

/// A row of output.
pub(crate) fn row(key: &Key, count: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(32);
    row.extend_from_slice(key);
    row.push(b' ');
    row.extend_from_slice(count.to_string().as_bytes());
    row
}

/// How a run went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    /// From when the dataflow was made until everything was done: with
    /// durability, until all is complete. Closing the stores, for which a last
    /// checkpoint is made, comes after.
    pub(crate) took: Duration,
}

impl Ran {
    /// What a worker starts, and its process reads.
    pub(crate) fn clock() -> (Arc<OnceLock<Instant>>, Arc<OnceLock<Instant>>) {
        let clock = Arc::new(OnceLock::new());
        (Arc::clone(&clock), clock)
    }

    pub(crate) fn since(began: &OnceLock<Instant>, end: Instant) -> Self {
        Self { took: end - *began.get().expect("a worker has started") }
    }
}

/// Runs what this process is told to, if anything, and says how it went.
pub(crate) fn run_if_told() -> bool {
    let Ok(told) = std::env::var(RUN) else { return false };
    let run: Run = serde_json::from_str(&told).expect("as another process wrote it");
    let ran = match run.program {
        Program::Durable(state) => durable::run(&run, state),
        Program::Plain => plain::run(&run),
    };
    println!("{}", serde_json::to_string(&ran).expect("numbers"));
    true
}
