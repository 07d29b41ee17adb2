//! Checkpoints: a compacted log. What the logs hold up to the end of a complete
//! epoch is folded into sorted runs, of each key its last change; the manifest
//! names them; only then are segments released.
//!
//! The cores have no part in it but to release their segments: it reads what
//! they have made durable.

mod backlog;
mod compact;
mod fold;
mod keeper;
mod offline;
mod policy;
mod reshard;
mod run;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use corewal_format::{Checkpoint, CoreCheckpoint, CoreId, Epoch, Lsn, Manifest, Offsets, RunId, TimestampNs};
use corewal_io::Storage;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::planted::PlantedBug;
use crate::recovery::{prepare_manifest, replace_manifest};
use crate::scan::{DeadRanges, LogIdentity};

pub(crate) use backlog::Backlog;
use fold::Progressed;
pub use keeper::CheckpointStatus;
pub(crate) use keeper::Keeper;
pub use offline::{checkpoint, checkpoint_on};
pub use policy::Checkpoints;
pub(crate) use reshard::{base_behind, begin_log};
use run::Stamp;
#[cfg(test)]
pub(crate) use run::{RunWriter, place_for_runs};
pub(crate) use source::{Merge, check_whole, for_each_record};

use crate::commit::Progress;

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointMade {
    /// Its number.
    pub number: u64,
    /// The epoch at whose end the state was so.
    pub epoch: Epoch,
    /// Bytes of runs written for it, merges included.
    pub written: u64,
    /// Bytes of all runs it consists of.
    pub bytes: u64,
    /// Runs it consists of, over all cores.
    pub runs: usize,
}

/// Memory that a fold fills with changes before it writes a run, in bytes.
const BATCH_BYTES: usize = 128 << 20;

/// Size of a run of the base, in bytes.
pub(crate) const RUN_BYTES: u64 = 32 << 20;

fn core_id(index: usize) -> CoreId {
    CoreId(u16::try_from(index).expect("at most 1,024 cores"))
}

/// What folding and merging work with.
pub(crate) struct Context<'s, S: Storage> {
    layout: Layout<S>,
    stamp: Stamp,
    /// The number of the next run; shared with those to come.
    next_run: Arc<AtomicU64>,
    batch_bytes: usize,
    sync: bool,
    stop: &'s AtomicBool,
}

impl<S: Storage> Context<'_, S> {
    fn next_run(&self) -> RunId {
        RunId(self.next_run.fetch_add(1, Ordering::Relaxed))
    }

    /// An error once the store is being closed.
    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::io("finish a checkpoint in", &self.layout.dir, std::io::ErrorKind::Interrupted.into()));
        }
        Ok(())
    }
}

/// What the checkpoints know of a core's log.
#[derive(Debug)]
pub(crate) struct CoreLog {
    /// What rollbacks have taken back, up to this opening's own.
    pub(crate) dead: DeadRanges,
    /// Offsets and watermark of the checkpoint at hand.
    pub(crate) progress: Progress,
}

/// Makes the checkpoints of a store.
pub(crate) struct Checkpointer<S: Storage> {
    layout: Layout<S>,
    clock: Arc<dyn Clock>,
    policy: Checkpoints,
    manifest: Manifest,
    cores: Vec<CoreLog>,
    next_run: Arc<AtomicU64>,
    batch_bytes: usize,
    run_bytes: u64,
    /// What went wrong behind the last checkpoint, which was made.
    complaint: Option<Error>,
    /// Which manifest is on the medium is not known: both keep their runs.
    uncertain: bool,
}

impl<S: Storage> std::fmt::Debug for Checkpointer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S: Storage> Checkpointer<S> {
    pub(crate) fn new(
        layout: Layout<S>,
        clock: Arc<dyn Clock>,
        policy: Checkpoints,
        manifest: Manifest,
        cores: Vec<CoreLog>,
        segment_bytes: u64,
    ) -> Result<Self> {
        let named = manifest.checkpoints.iter().flat_map(|checkpoint| &checkpoint.cores).flat_map(|core| &core.runs);
        let named = named.map(|run| run.run).max().unwrap_or(RunId(0));
        let there = layout.list_runs()?.into_iter().max().unwrap_or(RunId(0));
        let next_run = Arc::new(AtomicU64::new(named.max(there).0 + 1));
        // As large as is useful, and small where the segments are.
        let segment = usize::try_from(segment_bytes).unwrap_or(usize::MAX);
        let batch_bytes = segment.saturating_mul(8).min(BATCH_BYTES);
        let run_bytes = segment_bytes.min(RUN_BYTES);
        Ok(Self {
            layout,
            clock,
            policy,
            manifest,
            cores,
            next_run,
            batch_bytes,
            run_bytes,
            complaint: None,
            uncertain: false,
        })
    }

    fn context<'s>(&self, epoch: Epoch, stop: &'s AtomicBool) -> Context<'s, S> {
        Context {
            layout: self.layout.clone(),
            stamp: Stamp { epoch, time: self.clock.now() },
            next_run: Arc::clone(&self.next_run),
            batch_bytes: self.batch_bytes,
            sync: !self.layout.planted.has(PlantedBug::RunNotSynced),
            stop,
        }
    }

    /// Of the next manifest, and of a checkpoint that it is the first to name.
    fn next_number(&self) -> u64 {
        self.manifest.number + 1
    }

    fn log(&self, core: CoreId) -> LogIdentity {
        LogIdentity::of(&self.manifest, core)
    }

    pub(crate) fn newest(&self) -> Option<&Checkpoint> {
        self.manifest.newest()
    }

    /// What went wrong behind a checkpoint that was made: it counts, and runs
    /// that nobody needs are still there.
    pub(crate) fn complaint(&mut self) -> Option<Error> {
        self.complaint.take()
    }

    /// By core, the position below which no checkpoint that is kept needs the
    /// log.
    pub(crate) fn floors(&self) -> Vec<Lsn> {
        match self.manifest.checkpoints.first() {
            Some(oldest) => oldest.cores.iter().map(|core| core.lsn).collect(),
            None => vec![Lsn(0); self.cores.len()],
        }
    }

    /// Makes a checkpoint of the end of `epoch`, which is complete; `None` if
    /// there is one already. `durable` says, by core, how far the log can be
    /// read.
    ///
    /// An error leaves the checkpoints as they were. Runs that it cannot remove
    /// again, or of which it does not know whether the manifest names them, the
    /// next one that is made removes, or the next opening.
    pub(crate) fn make(&mut self, epoch: Epoch, durable: &[Lsn]) -> Result<Option<CheckpointMade>> {
        assert_eq!(durable.len(), self.cores.len());
        if epoch.0 == 0 || self.newest().is_some_and(|newest| newest.epoch >= epoch) {
            return Ok(None);
        }
        let never = AtomicBool::new(false);
        let context = self.context(epoch, &never);
        let time = context.stamp.time;
        self.complaint = None;
        let folded = self.fold_all(&context, epoch, durable);
        let folded = folded.and_then(|folded| self.layout.sync_dir(&self.layout.runs()).map(|()| folded));
        if folded.is_err() {
            self.take_back();
        }
        let (cores, progress, written) = folded?;
        let number = self.next_number();
        let mut checkpoints = self.manifest.checkpoints.clone();
        let inherited = self.inherited().clone();
        checkpoints.push(Checkpoint { number, epoch, time, inherited, cores });
        self.retire(&mut checkpoints, time);
        self.switch(checkpoints)?;
        for (core, progress) in self.cores.iter_mut().zip(progress) {
            core.progress = progress;
        }
        Ok(Some(CheckpointMade { number, epoch, written, bytes: 0, runs: 0 }))
    }

    /// The offsets that every core was given when their number was last changed.
    fn inherited(&self) -> &Offsets {
        static NONE: Offsets = Offsets::new();
        self.newest().map_or(&NONE, |newest| &newest.inherited)
    }

    /// Makes other checkpoints count, durably, and removes the runs that none
    /// of them names.
    fn switch(&mut self, checkpoints: Vec<Checkpoint>) -> Result<()> {
        self.layout.sync_dir(&self.layout.runs())?;
        let manifest = Manifest { number: self.next_number(), checkpoints, ..self.manifest.clone() };
        if self.layout.planted.has(PlantedBug::RunsRemovedEarly) {
            remove_litter(&self.layout, &manifest)?;
        }
        let prepared = prepare_manifest(&self.layout, &manifest);
        if prepared.is_err() {
            self.take_back();
        }
        prepared?;
        // Which of the two counts after an error is not known: the number is
        // not given again, and both keep their runs.
        let written = replace_manifest(&self.layout, &manifest, Some(&self.manifest));
        self.manifest.number = manifest.number;
        self.uncertain = written.is_err();
        written?;
        self.manifest = manifest;
        // It counts, also if an old run stays.
        self.complaint = remove_litter(&self.layout, &self.manifest).err();
        Ok(())
    }

    /// Removes the runs of a try that failed, as well as it goes: tried again and
    /// again on a full disk, they would take what room the logs still have.
    fn take_back(&self) {
        if !self.uncertain {
            let _ = remove_litter(&self.layout, &self.manifest);
        }
    }

    /// Bytes of the newest checkpoint.
    fn bytes(&self) -> u64 {
        let cores = self.manifest.newest().map_or(&[][..], |newest| &newest.cores);
        cores.iter().flat_map(|core| &core.runs).map(|run| run.bytes).sum()
    }

    /// Bytes of runs that the next checkpoint may have to merge: changes, or all
    /// where the runs of older checkpoints are kept beside.
    fn to_merge(&self) -> u64 {
        let only = self.policy.keep == 1 && self.policy.keep_for.is_zero();
        let cores = self.manifest.newest().map_or(&[][..], |newest| &newest.cores);
        let runs = cores.iter().flat_map(|core| &core.runs).filter(|run| !only || run.level == 0);
        runs.map(|run| run.bytes).sum()
    }

    /// Folds the log of each core. Gives its part of the checkpoint, offsets and
    /// watermark; and the bytes written.
    fn fold_all(
        &self,
        context: &Context<'_, S>,
        epoch: Epoch,
        durable: &[Lsn],
    ) -> Result<(Vec<CoreCheckpoint>, Vec<Progress>, u64)> {
        let (mut parts, mut progress, mut written) = (Vec::new(), Vec::new(), 0);
        for (index, core) in self.cores.iter().enumerate() {
            let log = self.log(core_id(index));
            let mut part = self.newest().map(|newest| newest.cores[index].clone()).unwrap_or_default();
            let from = Progressed { lsn: part.lsn, progress: core.progress.clone() };
            let (mut new, to) = fold::fold(context, log, &from, &core.dead, epoch, durable[index])?;
            written += new.iter().map(|run| run.bytes).sum::<u64>();
            if let ([only], true) = (&mut new[..], part.runs.is_empty()) {
                // There is nothing that it changes.
                only.level = 1;
            }
            part.runs.extend(new);
            part.lsn = to.lsn;
            parts.push(part);
            progress.push(to.progress);
        }
        Ok((parts, progress, written))
    }

    /// Leaves out the checkpoints that need not be kept.
    fn retire(&self, checkpoints: &mut Vec<Checkpoint>, now: TimestampNs) {
        // One from the future is of a clock that was ahead, by years perhaps: it
        // is kept no longer for that.
        let young =
            |checkpoint: &Checkpoint| u128::from(now.0.abs_diff(checkpoint.time.0)) < self.policy.keep_for.as_nanos();
        let surplus = checkpoints.len().saturating_sub(self.policy.keep);
        let retired = checkpoints.iter().take(surplus).take_while(|checkpoint| !young(checkpoint)).count();
        checkpoints.drain(..retired);
    }
}

/// The runs that a manifest names.
pub(crate) fn named_runs(manifest: &Manifest) -> BTreeSet<RunId> {
    let parts = manifest.checkpoints.iter().flat_map(|checkpoint| &checkpoint.cores);
    parts.flat_map(|part| &part.runs).map(|run| run.run).collect()
}

/// Removes the runs that `manifest` does not name.
pub(crate) fn remove_litter<S: Storage>(layout: &Layout<S>, manifest: &Manifest) -> Result<()> {
    let named = named_runs(manifest);
    for run in layout.list_runs()?.into_iter().filter(|run| !named.contains(run)) {
        layout.discard_run(run)?;
    }
    Ok(())
}
