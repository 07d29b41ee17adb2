//! What the durable operators of a worker are given.

use std::cell::{Cell, RefCell, RefMut};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ledger::{Ledger, first_epoch};
use crate::places::{Place, remove_litter};
use crate::staging::Staging;

/// A worker's part of a job: durable operators take it, each dataflow of the
/// worker may have some. Cheap to clone.
#[derive(Clone)]
pub struct Durable {
    shared: Rc<Shared>,
}

struct Shared {
    ledger: RefCell<Option<Ledger>>,
    facts: Facts,
    stop: Arc<Stop>,
    sources: Cell<u32>,
}

/// What a worker knows of its job.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) job: String,
    pub(crate) attempt: u64,
    /// What was complete when this start took over.
    pub(crate) recovered: u64,
    pub(crate) index: usize,
    pub(crate) place: Place,
    pub(crate) epoch_every: Duration,
    /// Where this process's store is, and perhaps those of others.
    pub(crate) stores_dir: PathBuf,
    /// The stores of this start.
    pub(crate) stores: Vec<String>,
    pub(crate) staging: Staging,
    /// Workers of this process that have made their dataflows.
    pub(crate) built: Arc<AtomicUsize>,
}

/// Why a process stops, if it does. Shared by its workers.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    why: Mutex<Option<Error>>,
    /// It is to end in order.
    asked: StopHandle,
}

/// Asks a job to stop; see [`Job::stop_handle`](crate::Job::stop_handle).
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Has the job stop. Returns at once; so does every call after the first.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Stop {
    pub(crate) fn new(asked: StopHandle) -> Self {
        Self { asked, ..Self::default() }
    }

    pub(crate) fn ask(&self) {
        self.asked.stop();
    }

    /// The first reason counts.
    pub(crate) fn stop(&self, why: Error) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Option<Error> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durable").field("facts", &self.shared.facts).finish_non_exhaustive()
    }
}

impl Durable {
    pub(crate) fn new(ledger: Ledger, facts: Facts, stop: Arc<Stop>) -> Self {
        let shared = Shared { ledger: RefCell::new(Some(ledger)), facts, stop, sources: Cell::new(0) };
        Self { shared: Rc::new(shared) }
    }

    /// The newest epoch that is complete: whatever happens, what belongs to it
    /// stays, and its output is published.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.ledger().complete()
    }

    /// The epoch that the job went on behind; 0 if it began anew.
    #[must_use]
    pub fn recovered(&self) -> u64 {
        self.shared.facts.recovered
    }

    /// How often the job was started, this time included.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.shared.facts.attempt
    }

    pub(crate) fn job(&self) -> &str {
        &self.shared.facts.job
    }

    pub(crate) fn index(&self) -> usize {
        self.shared.facts.index
    }

    pub(crate) fn peers(&self) -> usize {
        let Place { processes, workers, .. } = self.shared.facts.place;
        usize::from(processes) * usize::from(workers)
    }

    pub(crate) fn epoch_every(&self) -> Duration {
        self.shared.facts.epoch_every
    }

    /// Removes the stores that this start has no use for.
    pub(crate) fn remove_litter(&self) {
        let Facts { stores_dir, stores, staging, attempt, .. } = &self.shared.facts;
        if staging.rank == 0 {
            remove_litter(stores_dir, *attempt, stores);
        }
    }

    /// The same on a thread of its own: they may be large.
    pub(crate) fn remove_litter_beside(&self) {
        let Facts { stores_dir, stores, staging, attempt, .. } = self.shared.facts.clone();
        if staging.rank == 0 {
            std::thread::spawn(move || remove_litter(&stores_dir, attempt, &stores));
        }
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.shared.facts.staging
    }

    /// This worker has made its dataflows: its sinks have published what they
    /// inherited.
    pub(crate) fn has_built(&self) {
        self.shared.facts.built.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all workers of this process have.
    pub(crate) fn all_have_built(&self) -> bool {
        self.shared.facts.built.load(Ordering::Acquire) == usize::from(self.shared.facts.place.workers)
    }

    /// Whether this is the first worker of its process.
    pub(crate) fn leads(&self) -> bool {
        self.index().is_multiple_of(usize::from(self.shared.facts.place.workers))
    }

    pub(crate) fn first_epoch(&self) -> u64 {
        first_epoch(self.shared.facts.attempt)
    }

    /// A number for each source, the same on all workers.
    pub(crate) fn next_source(&self) -> u32 {
        self.shared.sources.replace(self.shared.sources.get() + 1)
    }

    /// The worker that owns a key.
    #[inline]
    pub(crate) fn worker_of(&self, key: &[u8]) -> usize {
        self.shared.facts.place.worker_of(key)
    }

    pub(crate) fn ledger(&self) -> RefMut<'_, Ledger> {
        let ledger = self.shared.ledger.borrow_mut();
        RefMut::map(ledger, |ledger| ledger.as_mut().expect("there until the worker ends"))
    }

    pub(crate) fn take_ledger(&self) -> Option<Ledger> {
        self.shared.ledger.borrow_mut().take()
    }

    /// Has an operator do its part, unless the job has stopped; stops it if that
    /// fails.
    pub(crate) fn run(&self, part: impl FnOnce(&mut Ledger) -> Result<()>) {
        if self.is_stopped() {
            return;
        }
        let done = part(&mut self.ledger());
        if let Err(error) = done {
            self.fail(error);
        }
    }

    /// Adds a part to the job's shape: what it is, its name, and what else has to
    /// stay as it is.
    pub(crate) fn declare(&self, what: &str, name: &str, details: &str) {
        let part = format!("{what} {name}");
        if !self.ledger().declare(part.clone(), details) {
            self.fail(Error::SameName { what: part });
        }
    }

    pub(crate) fn fail(&self, error: Error) {
        self.shared.stop.stop(error);
    }

    pub(crate) fn stop(&self) -> Arc<Stop> {
        Arc::clone(&self.shared.stop)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.stop.is_stopped()
    }

    /// Whether nothing more is to be read.
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.shared.stop.asked.is_asked()
    }
}
