//! Compaction: runs are merged, so that a checkpoint takes little more space
//! than the state, and few runs have to be read at once.
//!
//! The base is rewritten a run at a time, each followed by a switch of the
//! manifest that gives the old run free. So it takes the space of two runs more,
//! not of the state.

use std::sync::atomic::AtomicBool;

use corewal_format::RunRef;
use corewal_io::Storage;

use super::policy::{Compaction, compaction};
use super::run::RunWriter;
use super::{CheckpointMade, Checkpointer, Context, Merge, core_id};
use crate::error::Result;
use crate::planted::PlantedBug;
use crate::scan::LogIdentity;

/// What became of one pass over a core's runs.
struct Pass {
    runs: Vec<RunRef>,
    written: u64,
}

impl<S: Storage> Checkpointer<S> {
    /// Merges what should be merged of the newest checkpoint, and completes
    /// `made` by what it comes to.
    ///
    /// The checkpoint stands also if it cannot be compacted, or only in part;
    /// then it gives `false`, there is a complaint, and the next one goes on.
    pub(crate) fn compact(&mut self, made: &mut CheckpointMade, stop: &AtomicBool) -> bool {
        let compacted = self.compact_all(made, stop);
        let done = compacted.is_ok();
        if let Err(error) = compacted {
            self.take_back();
            self.complaint = Some(error);
        }
        let newest = self.manifest.newest().expect("just made");
        let runs = newest.cores.iter().flat_map(|core| &core.runs);
        (made.bytes, made.runs) = (self.bytes(), runs.count());
        done
    }

    fn compact_all(&mut self, made: &mut CheckpointMade, stop: &AtomicBool) -> Result<()> {
        for index in 0..self.cores.len() {
            let runs = &self.manifest.newest().expect("just made").cores[index].runs;
            match compaction(runs) {
                Compaction::Nothing => {}
                Compaction::Changes(count) => made.written += self.merge_changes(index, count, stop)?,
                Compaction::Base => made.written += self.merge_base(index, stop)?,
            }
        }
        Ok(())
    }

    /// Makes `runs` a core's part of the newest checkpoint.
    fn switch_runs(&mut self, index: usize, runs: Vec<RunRef>) -> Result<()> {
        let mut checkpoints = self.manifest.checkpoints.clone();
        checkpoints.last_mut().expect("just made").cores[index].runs = runs;
        self.switch(checkpoints)
    }

    fn merge_changes(&mut self, index: usize, count: usize, stop: &AtomicBool) -> Result<u64> {
        let log = self.log(core_id(index));
        let mut runs = self.manifest.newest().expect("just made").cores[index].runs.clone();
        let merged = runs.split_off(runs.len() - count);
        let run = merge_into_one(&self.compacting(stop), log, &merged)?;
        runs.push(run);
        self.switch_runs(index, runs)?;
        Ok(run.bytes)
    }

    /// Merges all changes into the base.
    fn merge_base(&mut self, index: usize, stop: &AtomicBool) -> Result<u64> {
        let log = self.log(core_id(index));
        let old = self.manifest.newest().expect("just made").cores[index].runs.clone();
        let (base, changes) = old.split_at(old.partition_point(|run| run.level > 0));
        let progress = self.cores[index].progress.clone();
        let context = self.compacting(stop);
        let mut merge = Merge::open(&context.layout, log, &old)?;
        let mut pass = Pass { runs: Vec::new(), written: 0 };
        // Runs of the base that have been read to their ends.
        let mut behind = 0;
        // New runs that a manifest names.
        let mut named = 0;
        let mut writer: Option<RunWriter<'_, S>> = None;
        let mut keys = 0_u32;
        while let Some((key, value)) = merge.current() {
            // Where a run of the base has just been read to its end, all that
            // was written lies before the runs that are left; one key later it
            // need not.
            let read = merge.base_read();
            let crossed = read > behind;
            behind = read;
            let large = writer.as_ref().is_some_and(|writer| writer.bytes() >= self.run_bytes / 2);
            // A run that is done waits for no other, lest they add up.
            let waits = pass.runs.len() > named;
            if crossed && (large || waits) && read < base.len() {
                pass.finish(writer.take(), &progress, context.sync)?;
                named = pass.runs.len();
                let left = base[read..].iter().chain(changes).copied();
                self.switch_runs(index, pass.runs.iter().copied().chain(left).collect())?;
            }
            if let Some(value) = value {
                // Rather at the end of an old run, where that can be given up:
                // no more than two are written before one is.
                let most = if read < base.len() { self.run_bytes / 2 * 3 } else { self.run_bytes };
                if writer.as_ref().is_some_and(|writer| writer.bytes() >= most) {
                    pass.finish(writer.take(), &progress, context.sync)?;
                }
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => none.insert(context.next_writer(log)?),
                };
                writer.add(key, Some(value))?;
            }
            keys = keys.wrapping_add(1);
            if keys.is_multiple_of(512) {
                context.go_on()?;
            }
            merge.advance()?;
        }
        if writer.is_none() && pass.runs.is_empty() {
            // No key is left; the offsets and the watermark stay.
            writer = Some(context.next_writer(log)?);
        }
        pass.finish(writer, &progress, context.sync)?;
        let Pass { runs, written } = pass;
        self.switch_runs(index, runs)?;
        Ok(written)
    }

    fn compacting<'s>(&self, stop: &'s AtomicBool) -> Context<'s, S> {
        self.context(self.manifest.newest().expect("just made").epoch, stop)
    }
}

impl<S: Storage> Context<'_, S> {
    fn next_writer(&self, log: LogIdentity) -> Result<RunWriter<'_, S>> {
        RunWriter::create(&self.layout, log, self.next_run(), self.stamp)
    }
}

impl Pass {
    fn finish<S: Storage>(
        &mut self,
        writer: Option<RunWriter<'_, S>>,
        progress: &crate::commit::Progress,
        sync: bool,
    ) -> Result<()> {
        if let Some(writer) = writer {
            let run = RunRef { level: 1, ..writer.finish(progress, sync)? };
            self.written += run.bytes;
            self.runs.push(run);
        }
        Ok(())
    }
}

fn merge_into_one<S: Storage>(context: &Context<'_, S>, log: LogIdentity, runs: &[RunRef]) -> Result<RunRef> {
    let mut writer = context.next_writer(log)?;
    let mut keys = 0_u32;
    let progress = Merge::open(&context.layout, log, runs)?.for_each(|(key, value)| {
        keys = keys.wrapping_add(1);
        if keys.is_multiple_of(512) {
            context.go_on()?;
        }
        if value.is_none() && context.layout.planted.has(PlantedBug::RemovalsForgotten) {
            return Ok(());
        }
        writer.add(key, value)
    })?;
    writer.finish(&progress, context.sync)
}
