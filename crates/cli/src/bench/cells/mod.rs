//! The cells: one function each that measures it once on one backend, and
//! checks what it left.

mod append;
mod commit;
mod keyed;
mod open;
mod read;
mod streams;

use std::path::{Path, PathBuf};

use corewal::Options;
use corewal::io::FileStorage;

use super::cell::Cell;
use super::check;
use super::figures::Latencies;
use super::limits::Limits;
use super::sizes::Sizes;
use super::timer::{Stop, Timer};
use super::work::Log;
use crate::exit::Failure;

/// What a cell works with.
pub(super) struct Stage<'b> {
    /// Where its store goes; nothing is there yet.
    pub(super) dir: PathBuf,
    pub(super) storage: FileStorage,
    pub(super) sizes: Sizes,
    pub(super) stop: &'b Stop,
    pub(super) limits: &'b mut Limits,
    /// What this run has measured on this backend so far.
    pub(super) earlier: &'b dyn Fn(Cell) -> Option<f64>,
}

impl Stage<'_> {
    fn timer(&self) -> Timer {
        self.stop.timer(self.sizes.cell)
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn storage(&self) -> FileStorage {
        self.storage.clone()
    }

    /// A store with bare logs, warmed up.
    fn logs(&self, options: Options, value_len: usize) -> corewal::Result<Vec<Log>> {
        let mut logs = Log::create(self.storage(), &self.dir, options, value_len)?;
        if self.sizes.warm {
            logs.iter_mut().try_for_each(|log| log.warm_up(self.stop))?;
        }
        Ok(logs)
    }

    /// A store with one of them.
    fn log(&self, options: Options, value_len: usize) -> corewal::Result<Log> {
        Ok(self.logs(options.cores(1), value_len)?.remove(0))
    }

    /// Takes the log's end for a crash, and looks whether all is there.
    fn finish(&self, log: Log) -> Result<(), Failure> {
        let held = log.held();
        drop(log);
        check::numbers(self.storage(), &self.dir, &[held])
    }
}

/// What one measurement of a cell gave.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// In the cell's unit.
    pub(super) figure: f64,
    /// What it is compared with, in the same unit.
    pub(super) limit: Option<f64>,
    /// What that is.
    pub(super) against: String,
    /// Of its commits, if it has any.
    pub(super) latencies: Option<Latencies>,
}

/// Measures a cell once.
pub(super) fn measure(cell: Cell, stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    match cell {
        Cell::Encode => append::encode(stage),
        Cell::Append => append::to_disk(stage),
        Cell::Single => commit::single(stage),
        Cell::InFlight(depth) => streams::in_flight(stage, depth),
        Cell::Turns(depth) => streams::turns(stage, depth),
        Cell::Batch(batch) => streams::batch(stage, batch),
        Cell::TwoCores => streams::two_cores(stage),
        Cell::Bulk(depth) => streams::bulk(stage, depth),
        Cell::HalfLoad => commit::half_load(stage),
        Cell::Check => read::check(stage),
        Cell::Scan => read::scan(stage),
        Cell::Open { cores, distinct } => open::open(stage, cores, distinct),
        Cell::Keyed => keyed::keyed(stage),
    }
}
