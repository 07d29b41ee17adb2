//! Checkpoints: a compacted log. What the logs hold up to the end of a complete
//! epoch is folded into sorted runs, of each key its last change; the manifest
//! names them; only then are segments released.
//!
//! The cores have no part in it but to release their segments: it reads what
//! they have made durable.

mod fold;
mod keeper;
mod policy;
mod run;
mod source;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corewal_format::{Checkpoint, CoreCheckpoint, CoreId, Epoch, Lsn, Manifest, RunId, RunRef, TimestampNs};
use corewal_io::Storage;

use crate::clock::Clock;
use crate::durable::DurableLsn;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::planted::Planted;
use crate::recovery::write_manifest;
use crate::scan::{DeadRanges, LogIdentity};

use fold::Progressed;
pub use keeper::CheckpointStatus;
pub(crate) use keeper::Keeper;
pub use policy::Checkpoints;
use run::{RunWriter, Stamp};
pub(crate) use source::{Merge, check_whole};

use crate::commit::Progress;

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What folding and merging work with.
pub(crate) struct Context<'l, S: Storage> {
    layout: &'l Layout<S>,
    stamp: Stamp,
    next_run: Cell<RunId>,
    batch_bytes: usize,
    sync: bool,
    stop: &'l AtomicBool,
}

impl<S: Storage> Context<'_, S> {
    fn next_run(&self) -> RunId {
        let run = self.next_run.get();
        self.next_run.set(RunId(run.0 + 1));
        run
    }

    /// An error once the store is being closed.
    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::io("finish a checkpoint in", &self.layout.dir, std::io::ErrorKind::Interrupted.into()));
        }
        Ok(())
    }

    fn merge(&self, log: LogIdentity, runs: &[RunRef], whole: bool) -> Result<RunRef> {
        let mut writer = RunWriter::create(self.layout, log, self.next_run(), self.stamp)?;
        let merge = Merge::open(self.layout, log, runs)?;
        // Below the oldest run there is nothing that a removal would hide.
        let mut keys = 0_u32;
        let progress = merge.for_each(|(key, value)| {
            keys = keys.wrapping_add(1);
            if keys.is_multiple_of(4096) {
                self.go_on()?;
            }
            if whole && value.is_none() { Ok(()) } else { writer.add(key, value) }
        })?;
        writer.finish(&progress, self.sync)
    }
}

/// What the checkpoints know of a core's log.
#[derive(Debug)]
pub(crate) struct CoreLog {
    pub(crate) durable: DurableLsn,
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
    next_run: RunId,
    planted: Planted,
    batch_bytes: usize,
    next_number: u64,
    /// What went wrong behind the last checkpoint, which was made.
    complaint: Option<Error>,
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
        planted: Planted,
    ) -> Result<Self> {
        let named = manifest.checkpoints.iter().flat_map(|checkpoint| &checkpoint.cores).flat_map(|core| &core.runs);
        let named = named.map(|run| run.run).max().unwrap_or(RunId(0));
        let there = layout.list_runs()?.into_iter().max().unwrap_or(RunId(0));
        let next_run = RunId(named.max(there).0 + 1);
        let next_number = manifest.newest().map_or(1, |newest| newest.number + 1);
        let batch_bytes = fold::BATCH_BYTES;
        Ok(Self {
            layout,
            clock,
            policy,
            manifest,
            cores,
            next_run,
            planted,
            batch_bytes,
            next_number,
            complaint: None,
        })
    }

    fn log(&self, core: CoreId) -> LogIdentity {
        LogIdentity { log_id: self.manifest.log_id, core, cores: self.manifest.cores }
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
    /// there is one already.
    ///
    /// An error leaves the checkpoints as they were. Runs that it cannot remove
    /// again, or of which it does not know whether the manifest names them, the
    /// next one that is made removes, or the next opening.
    pub(crate) fn make(&mut self, epoch: Epoch, stop: &AtomicBool) -> Result<Option<CheckpointMade>> {
        if epoch.0 == 0 || self.newest().is_some_and(|newest| newest.epoch >= epoch) {
            return Ok(None);
        }
        let time = self.clock.now();
        let first_run = self.next_run;
        let context = Context {
            layout: &self.layout,
            stamp: Stamp { epoch, time },
            next_run: Cell::new(first_run),
            batch_bytes: self.batch_bytes,
            sync: !self.planted.run_not_synced(),
            stop,
        };
        let made = self.write_parts(&context, epoch);
        self.next_run = context.next_run.get();
        let made = made.and_then(|made| self.layout.sync_dir(&self.layout.runs()).map(|()| made));
        if made.is_err() {
            // Tried again and again on a full disk, they would take what room
            // the logs still have.
            for run in (first_run.0..self.next_run.0).map(RunId) {
                let _ = self.layout.remove_if_there(&self.layout.run(run));
            }
        }
        let (parts, written) = made?;

        let mut manifest = self.manifest.clone();
        manifest.number += 1;
        let number = self.next_number;
        self.next_number += 1;
        let progress: Vec<_> = parts.iter().map(|(_, progress)| progress.clone()).collect();
        let cores = parts.into_iter().map(|(part, _)| part).collect();
        manifest.checkpoints.push(Checkpoint { number, epoch, time, cores });
        self.retire(&mut manifest.checkpoints, time);
        if self.planted.runs_removed_early() {
            remove_litter(&self.layout, &manifest)?;
        }
        let written_manifest = write_manifest(&self.layout, &manifest, Some(&self.manifest));
        // Which of the two counts after an error is not known: the number is
        // not given again, and both keep their runs.
        self.manifest.number = manifest.number;
        written_manifest?;
        self.manifest = manifest;
        for (core, progress) in self.cores.iter_mut().zip(progress) {
            core.progress = progress;
        }
        let newest = self.manifest.newest().expect("just made");
        let runs = newest.cores.iter().flat_map(|core| &core.runs);
        let made = CheckpointMade {
            number,
            epoch,
            written,
            bytes: runs.clone().map(|run| run.bytes).sum(),
            runs: runs.count(),
        };
        self.complaint = remove_litter(&self.layout, &self.manifest).err();
        Ok(Some(made))
    }

    /// Folds the log of each core onto its runs.
    fn write_parts(&self, context: &Context<'_, S>, epoch: Epoch) -> Result<(Vec<(CoreCheckpoint, Progress)>, u64)> {
        let mut parts = Vec::with_capacity(self.cores.len());
        let mut written = 0;
        for (index, core) in self.cores.iter().enumerate() {
            let log = self.log(CoreId(u16::try_from(index).expect("at most 1,024 cores")));
            let old = self.newest().map(|newest| &newest.cores[index]);
            let mut runs = old.map(|part| part.runs.clone()).unwrap_or_default();
            let from = Progressed { lsn: old.map_or(Lsn(0), |part| part.lsn), progress: core.progress.clone() };
            let (new, to) = fold::fold(context, log, &from, &core.dead, epoch, core.durable.get())?;
            written += new.iter().map(|run| run.bytes).sum::<u64>();
            let changed = !new.is_empty();
            runs.extend(new);
            let count = if changed { policy::to_merge(&runs) } else { 0 };
            if count > 0 {
                let whole = count == runs.len();
                let merged = runs.split_off(runs.len() - count);
                let run = context.merge(log, &merged, whole)?;
                written += run.bytes;
                runs.push(run);
            }
            parts.push((CoreCheckpoint { lsn: to.lsn, runs }, to.progress));
        }
        Ok((parts, written))
    }

    /// Leaves out the checkpoints that need not be kept.
    fn retire(&self, checkpoints: &mut Vec<Checkpoint>, now: TimestampNs) {
        let young = |checkpoint: &Checkpoint| {
            u128::from(now.0.saturating_sub(checkpoint.time.0)) < self.policy.keep_for.as_nanos()
        };
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
        layout.remove_if_there(&layout.run(run))?;
    }
    Ok(())
}
