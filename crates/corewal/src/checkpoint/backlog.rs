//! The backlog: what the logs hold beyond the newest checkpoint. Where
//! checkpoints do not keep up with the cores, new segments are held back until
//! they do, so that the space of a store follows its state also then. While they
//! do keep up, a checkpoint leaves the disk to the cores between its writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corewal_format::Lsn;

use super::Checkpoints;
use crate::durable::DurableLsn;

/// New segments are held back from so many times the bytes on that make a
/// checkpoint due.
const TIMES: u64 = 2;

/// How long a checkpoint rests after a write, while it can. (What that does to
/// commits stands in docs/PERFORMANCE.md.)
const REST: Duration = Duration::from_micros(500);

/// Shared by who makes checkpoints and who makes segments.
#[derive(Debug)]
pub(crate) struct Backlog {
    durable: Vec<DurableLsn>,
    /// Sum of the positions that the newest checkpoint covers.
    covered: AtomicU64,
    /// From so many bytes on it is too long; `None` if never.
    limit: Option<u64>,
    /// A checkpoint is being made, or will be at once.
    busy: Mutex<bool>,
    changed: Condvar,
    /// Segments that had to wait.
    held: AtomicU64,
    /// The checkpoint under way has time.
    patient: AtomicBool,
}

impl Backlog {
    pub(super) fn new(durable: Vec<DurableLsn>, policy: Checkpoints) -> Self {
        Self {
            durable,
            covered: AtomicU64::new(0),
            limit: policy.bytes.map(|bytes| bytes.saturating_mul(TIMES)),
            busy: Mutex::new(false),
            changed: Condvar::new(),
            held: AtomicU64::new(0),
            patient: AtomicBool::new(false),
        }
    }

    /// How far each core's log can be read.
    pub(super) fn durable(&self) -> Vec<Lsn> {
        self.durable.iter().map(DurableLsn::get).collect()
    }

    /// Sum of the durable positions of all cores.
    pub(super) fn appended(&self) -> u64 {
        self.durable.iter().map(|durable| durable.get().0).fold(0, u64::saturating_add)
    }

    /// Bytes that the newest checkpoint does not cover.
    pub(super) fn bytes(&self) -> u64 {
        self.appended().saturating_sub(self.covered.load(Ordering::Relaxed))
    }

    /// Whether it is too long.
    pub(super) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.bytes() >= limit)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn set_covered(&self, covered: u64) {
        let busy = self.locked();
        self.covered.store(covered, Ordering::Relaxed);
        drop(busy);
        self.changed.notify_all();
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        *self.locked() = busy;
        self.changed.notify_all();
    }

    /// Waits while the backlog is too long and a checkpoint is on its way that
    /// will shorten it: never for one that nobody makes, because no epoch has
    /// ended, or it failed, or the store is being closed.
    pub(crate) fn hold(&self, stop: &AtomicBool) {
        let mut busy = self.locked();
        let mut held = false;
        while *busy && self.is_over() && !stop.load(Ordering::Relaxed) {
            if !std::mem::replace(&mut held, true) {
                self.held.fetch_add(1, Ordering::Relaxed);
            }
            busy = self.changed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the checkpoint under way may take its time, if the cores let it.
    pub(super) fn set_patient(&self, patient: bool) {
        self.patient.store(patient, Ordering::Relaxed);
    }

    /// Whether nobody waits for the checkpoint under way, nor will soon.
    pub(crate) fn is_calm(&self) -> bool {
        let pressing = self.limit.is_some_and(|limit| self.bytes() >= limit / 4 * 3);
        self.patient.load(Ordering::Relaxed) && !pressing
    }

    /// Leaves the disk to others for a moment.
    pub(crate) fn rest(&self) {
        let rested = self.changed.wait_timeout(self.locked(), REST);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }

    fn locked(&self) -> MutexGuard<'_, bool> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Backlog {
    /// A backlog of so many bytes, of which 2,000 are too many.
    pub(crate) fn of(bytes: u64, busy: bool) -> std::sync::Arc<Self> {
        let durable = [bytes - 1, 1].map(|end| crate::durable::Publisher::new(Lsn(end)).handle());
        let backlog = Self::new(durable.into(), Checkpoints::manual().bytes(1_000));
        backlog.set_busy(busy);
        std::sync::Arc::new(backlog)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::durable::Publisher;

    /// Whether a segment waits until `relief`, on a thread of its own.
    #[expect(clippy::disallowed_methods, reason = "somebody has to wait")]
    fn waits_for(backlog: &Arc<Backlog>, relief: impl FnOnce(&Backlog)) {
        let waiting = Arc::clone(backlog);
        let thread = std::thread::spawn(move || waiting.hold(&AtomicBool::new(false)));
        while backlog.held() == 0 {
            std::thread::yield_now();
        }
        assert!(!thread.is_finished());
        relief(backlog);
        thread.join().unwrap();
    }

    #[test]
    fn a_segment_waits_for_the_checkpoint_under_way() {
        let backlog = Backlog::of(2_000, true);
        waits_for(&backlog, |backlog| backlog.set_covered(1));
        assert_eq!((backlog.bytes(), backlog.held()), (1_999, 1));
        waits_for(&Backlog::of(5_000, true), |backlog| backlog.set_busy(false));
    }

    #[test]
    fn a_checkpoint_has_time_until_segments_will_wait_for_it() {
        for (bytes, patient, calm) in [(1_499, true, true), (1_500, true, false), (1_499, false, false)] {
            let backlog = Backlog::of(bytes, true);
            backlog.set_patient(patient);
            assert_eq!(backlog.is_calm(), calm, "{bytes}");
        }
    }

    #[test]
    fn it_does_not_wait_for_what_nobody_makes_or_while_there_is_little() {
        for (backlog, stop) in
            [(Backlog::of(5_000, false), false), (Backlog::of(1_999, true), false), (Backlog::of(5_000, true), true)]
        {
            backlog.hold(&AtomicBool::new(stop));
            assert_eq!(backlog.held(), 0);
        }
        let policy = Checkpoints::manual();
        let unbounded = Backlog::new(vec![Publisher::new(Lsn(1 << 60)).handle()], policy);
        unbounded.set_busy(true);
        unbounded.hold(&AtomicBool::new(false));
    }
}
