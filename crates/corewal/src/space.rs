//! How much space a store's files take, and whether there is room for more.
//!
//! Segments ask before they are made. Runs do not: what they need was kept free
//! for them by what the segments were refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use corewal_format::{CoreId, Manifest};
use corewal_io::Storage;

use crate::checkpoint::Backlog;
use crate::error::{Error, Result};
use crate::layout::Layout;

/// How much space a store may take, with a soft and a hard mark; see
/// [`Options::budget`](crate::Options::budget).
///
/// Both marks are held against the bytes of all files of the store (segments,
/// also those that are made ahead or kept to be used again; runs; manifests)
/// *and* what the next checkpoint may add to them before it frees anything: as
/// much as all segments, the runs that it merges, and two more of the largest
/// run. So there is always room for a checkpoint within the hard mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    hard: u64,
    soft: Option<u64>,
    /// Nobody makes checkpoints, so nothing is kept for them.
    bare: bool,
}

impl Budget {
    /// At most so many bytes. The soft mark is at three quarters of them.
    #[must_use]
    pub fn bytes(bytes: u64) -> Self {
        Self { hard: bytes, soft: None, bare: false }
    }

    /// From so many bytes on, a checkpoint is made at the next complete epoch
    /// that it can free something of, whatever
    /// [`Checkpoints`](crate::Checkpoints) say, and released segments are
    /// removed but for one a core.
    #[must_use]
    pub fn soft(mut self, bytes: u64) -> Self {
        self.soft = Some(bytes);
        self
    }

    pub(crate) fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    fn soft_mark(&self) -> u64 {
        self.soft.unwrap_or(self.hard / 4 * 3).min(self.hard)
    }

    /// The largest segment, in bytes: small enough for each core to have some,
    /// though at least `least`.
    pub(crate) fn segment_bytes(&self, cores: u16, wanted: u64, least: u64) -> u64 {
        let share = self.hard / 16 / u64::from(cores) / 4096 * 4096;
        wanted.min(share.max(least))
    }

    /// The largest run of the base, in bytes.
    pub(crate) fn run_bytes(&self, wanted: u64) -> u64 {
        wanted.min(self.hard / 16)
    }

    /// Whether `cores` logs whose segments have `first` bytes at least can work
    /// within it.
    pub(crate) fn check(&self, cores: u16, first: u64) -> Result<()> {
        let least = 8 * first * u64::from(cores);
        if self.hard < least {
            return Err(Error::BadOption {
                name: "budget",
                must: format!("at least {least} bytes for {cores} core(s)"),
            });
        }
        Ok(())
    }
}

/// The bytes of a store's files, shared by all that make or remove any.
#[derive(Debug, Default)]
pub(crate) struct Space {
    budget: Option<Budget>,
    /// Size of the largest run of the base.
    run: u64,
    /// Segments, spare ones included.
    log: AtomicU64,
    runs: AtomicU64,
    manifests: AtomicU64,
    /// Of the runs, those that the next checkpoint may have to merge.
    merging: AtomicU64,
    /// What the newest checkpoint does not cover, once checkpoints are made.
    backlog: OnceLock<Arc<Backlog>>,
    /// The file system was full when it was last asked for space.
    short: AtomicBool,
}

impl Space {
    pub(crate) fn new(budget: Option<Budget>, run: u64) -> Self {
        Self { budget, run, ..Self::default() }
    }

    pub(crate) fn set_backlog(&self, backlog: Arc<Backlog>) {
        let new = self.backlog.set(backlog);
        new.expect("a store has its checkpoints made by one");
    }

    /// Waits while checkpoints do not keep up with the cores.
    pub(crate) fn hold(&self, stop: &AtomicBool) {
        if let Some(backlog) = self.backlog.get() {
            backlog.hold(stop);
        }
    }

    /// Whether the checkpoint under way has time.
    pub(crate) fn is_calm(&self) -> bool {
        self.backlog.get().is_some_and(|backlog| backlog.is_calm()) && !self.is_scarce()
    }

    /// Leaves the disk to others for a moment.
    pub(crate) fn rest(&self) {
        if let Some(backlog) = self.backlog.get() {
            backlog.rest();
        }
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        let parts = [&self.log, &self.runs, &self.manifests];
        parts.iter().map(|part| part.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }

    /// Bytes of all files and of what a checkpoint may add, with `more` bytes of
    /// log.
    fn claimed(&self, budget: &Budget, more: u64) -> u64 {
        let used = self.used().saturating_add(more);
        if budget.bare {
            return used;
        }
        let merging = self.merging.load(Ordering::Relaxed) + 2 * self.run;
        used.saturating_add(self.log.load(Ordering::Relaxed)).saturating_add(more).saturating_add(merging)
    }

    /// Whether the soft mark is passed, or the file system is full.
    pub(crate) fn is_scarce(&self) -> bool {
        let passed = |budget: &Budget| self.claimed(budget, 0) > budget.soft_mark();
        self.short.load(Ordering::Relaxed) || self.budget.as_ref().is_some_and(passed)
    }

    /// How many bytes of log make a checkpoint worth while once the soft mark is
    /// passed; `None` if it is not, or there is none.
    pub(crate) fn worth_freeing(&self) -> Option<u64> {
        let budget = self.budget.as_ref()?;
        (self.claimed(budget, 0) > budget.soft_mark()).then_some(budget.hard / 32)
    }

    pub(crate) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Whether merging `bytes` of runs stays within the hard mark.
    pub(crate) fn may_merge(&self, bytes: u64) -> bool {
        self.budget.is_none_or(|budget| self.used().saturating_add(bytes).saturating_add(2 * self.run) <= budget.hard)
    }

    /// Takes `bytes` for a segment; `false` if that would pass the hard mark.
    pub(crate) fn claim(&self, bytes: u64) -> bool {
        // Several may ask at once: each counts itself first, so that together
        // they do not pass the mark.
        self.log.fetch_add(bytes, Ordering::Relaxed);
        let fits = self.budget.as_ref().is_none_or(|budget| self.claimed(budget, 0) <= budget.hard);
        if !fits {
            self.log_shrunk(bytes);
        }
        fits
    }

    /// Counts a segment that is needed in any case.
    pub(crate) fn log_grown(&self, bytes: u64) {
        self.log.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn log_shrunk(&self, bytes: u64) {
        subtract(&self.log, bytes);
    }

    pub(crate) fn runs_grown(&self, bytes: u64) {
        self.runs.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn runs_shrunk(&self, bytes: u64) {
        subtract(&self.runs, bytes);
    }

    pub(crate) fn set_manifests(&self, bytes: u64) {
        self.manifests.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_merging(&self, bytes: u64) {
        self.merging.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn merging(&self) -> u64 {
        self.merging.load(Ordering::Relaxed)
    }

    /// Notes whether the file system had space when it was asked.
    pub(crate) fn set_short(&self, short: bool) {
        self.short.store(short, Ordering::Relaxed);
    }

    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// What to say where `claim` said no.
    pub(crate) fn over_budget(&self) -> Error {
        Error::OutOfSpace { used: self.used(), budget: self.budget.map(|budget| budget.hard) }
    }

    /// What to say where the file system said no.
    pub(crate) fn full_disk(&self) -> Error {
        Error::OutOfSpace { used: self.used(), budget: None }
    }

    /// Counts what is there, of a store that nobody changes meanwhile.
    pub(crate) fn count<S: Storage>(&self, layout: &Layout<S>, manifest: &Manifest) -> Result<()> {
        let (mut log, mut runs) = (0, 0);
        for core in (0..manifest.cores).map(CoreId) {
            for segment in layout.list_segments(core)?.unwrap_or_default() {
                log += layout.len_if_there(&layout.segment(core, segment))?;
            }
            for spare in layout.list_spares(core)? {
                log += layout.len_if_there(&layout.spare(core, spare))?;
            }
        }
        for run in layout.list_runs()? {
            runs += layout.len_if_there(&layout.run(run))?;
        }
        self.log.store(log, Ordering::Relaxed);
        self.runs.store(runs, Ordering::Relaxed);
        self.set_manifests(layout.len_if_there(&layout.manifest())? + layout.len_if_there(&layout.manifest_old())?);
        Ok(())
    }
}

fn subtract(from: &AtomicU64, bytes: u64) {
    // Never below zero, whatever went wrong with the count: it would read as
    // all the space there is.
    let _ = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_fits_while_a_checkpoint_of_all_segments_does() {
        let space = Space::new(Some(Budget::bytes(1000)), 50);
        space.runs_grown(200);
        space.set_merging(100);
        // 200 of runs, 100 to merge, 100 for two runs: 600 are left, for the
        // log and as much again.
        assert!(space.claim(200));
        assert!(!space.claim(101), "it was not counted either");
        assert_eq!(space.used(), 400);
        assert!(!space.is_scarce() || space.worth_freeing() == Some(31));
        assert!(space.claim(100));
        assert!(space.is_scarce());
        assert!(!space.claim(1));
        assert!(matches!(space.over_budget(), Error::OutOfSpace { used: 500, budget: Some(1000) }));
        space.log_shrunk(100);
        assert!(space.claim(100));
    }

    #[test]
    fn without_checkpoints_the_log_has_all_of_it_and_without_a_budget_there_is_no_end() {
        let bare = Space::new(Some(Budget::bytes(1000).bare()), 50);
        assert!(bare.claim(1000) && !bare.claim(1));
        let none = Space::new(None, 50);
        assert!(none.claim(1 << 60) && !none.is_scarce() && none.may_merge(1 << 60));
    }
}
