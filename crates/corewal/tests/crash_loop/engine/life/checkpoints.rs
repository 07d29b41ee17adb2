//! What a life does about checkpoints: it makes some, with much or little to
//! fold, changes the number of cores, and lets copies be made.

use std::collections::VecDeque;
use std::ops::Range;

use corewal::{Error, Reader, reshard_on};
use fastrand::Rng;

use super::super::check::{self, crash_at_each, only_named_runs};
use super::super::profile::pick;
use super::super::tickets::Tickets;
use super::super::{Outcome, Workload, archive, ensure};
use super::{Life, keys_of};

impl Life<'_> {
    /// Makes a checkpoint now and then, apart from those that come on their own.
    pub(super) fn see_to_checkpoints(&mut self) -> Outcome {
        if !self.session.profile.checkpoints {
            return Ok(());
        }
        match self.checkpoint_rng.u8(0..64) {
            // In the first life alone: it has many steps.
            0 | 1 if self.depth == 0 => self.fill(1000..5000),
            2..7 => self.checkpoint(),
            7..10 if self.depth == 0 => self.reshard(),
            12..14 if self.depth == 0 => self.thin(),
            10..12 if self.depth == 0 => archive::restore(
                self.session,
                &self.disk,
                &self.oracle,
                Rng::with_seed(self.checkpoint_rng.clone().u64(..)),
            ),
            _ => Ok(()),
        }
    }

    /// Sets all keys to long values, all in one epoch: what comes after is
    /// little beside it, so runs pile up before they are merged.
    fn fill(&mut self, lengths: Range<usize>) -> Outcome {
        for core in 0..self.keys.len() {
            for key in self.keys[core].clone() {
                if self.open().shards[core].is_parked() || self.latched[core] {
                    break;
                }
                let len = self.checkpoint_rng.usize(lengths.clone());
                let value = vec![self.checkpoint_rng.u8(..); len];
                self.put(core, key, value)?;
            }
        }
        self.round()?;
        self.checkpoint()
    }

    /// Removes keys, a few in each of several epochs, behind a state that is
    /// large beside them: runs that say what is gone are merged with each other
    /// while what they hide is still there.
    fn thin(&mut self) -> Outcome {
        self.fill(6000..9000)?;
        for _ in 0..3 {
            for core in 0..self.keys.len() {
                if self.open().shards[core].is_parked() || self.latched[core] || self.keys[core].is_empty() {
                    continue;
                }
                let key = pick(&mut self.checkpoint_rng, &self.keys[core]).clone();
                self.delete(core, key)?;
            }
            self.round()?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Ends an epoch on all cores that can, durably.
    fn round(&mut self) -> Outcome {
        for core in 0..self.keys.len() {
            if self.open().shards[core].log().batch_open() {
                self.commit(core)?;
            }
        }
        self.end_epoch()?;
        for core in 0..self.keys.len() {
            while !self.markers[core].is_empty() {
                self.deliver_marker(core)?;
            }
            if !self.open().shards[core].is_parked() {
                self.plain(core, "sync", |shard| shard.sync().map(drop))?;
            }
        }
        Ok(())
    }

    fn logs(&self) -> Vec<String> {
        self.open().shards.iter().map(|shard| format!("{:?}", shard.log())).collect()
    }

    /// Makes a checkpoint, which may fail, and then changes nothing.
    pub(in super::super) fn checkpoint(&mut self) -> Outcome {
        let faults = self.session.profile.workload == Workload::Faults;
        let planted = faults && self.checkpoint_rng.bool();
        if planted {
            self.plant_checkpoint_fault();
        }
        let (logs, before) = (self.logs(), self.open().store.checkpoint_status());
        let made = self.open().store.checkpoint();
        let status = self.open().store.checkpoint_status();
        self.session.profile.tell(|| {
            format!("{:depth$}checkpoint: {made:?}, step {}", "", self.disk.step(), depth = self.depth as usize)
        });
        if planted && self.checkpoint_rng.u8(0..4) > 0 {
            self.disk.clear_faults();
        }
        ensure!(logs == self.logs(), "a checkpoint moved the logs from {logs:?} to {:?}", self.logs());
        let complete = self.open().store.complete_epoch();
        match made {
            Ok(Some(made)) => {
                ensure!(made.epoch == complete && status.epoch == complete, "{complete} is complete: {made:?}");
                let counts = made.epoch > before.epoch && status.made == before.made + 1;
                ensure!(counts && (faults || status.error.is_none()), "{made:?} after {before:?}: {status:?}");
                if status.error.is_none() {
                    only_named_runs(&self.disk)?;
                }
            }
            Ok(None) => ensure!(before.epoch == complete, "no checkpoint of {complete}: {before:?}"),
            Err(error) => {
                let kept = status.epoch == before.epoch && status.made == before.made;
                ensure!(kept, "a checkpoint that failed ({error}) was made: {status:?}");
                ensure!(status.error == Some(error.to_string()), "{error}, but {status:?}");
                let refused = matches!(error, Error::NotFoldable) && self.oracle.has_payloads(complete.get());
                let failed = faults && matches!(error, Error::Io { .. });
                ensure!(refused || failed, "a checkpoint fails: {error}");
            }
        }
        self.crash_now("checkpoint")?;
        self.oracle.observe(self.store.as_ref().expect("the store is open"))
    }

    /// Changes the number of cores, and goes on with the new one.
    fn reshard(&mut self) -> Outcome {
        let profile = self.session.profile;
        // Again now and then: it has many steps.
        let again = self.oracle.generation == 0 || self.checkpoint_rng.u8(0..3) == 0;
        let fit = profile.workload == Workload::Shards && profile.payloads == 0 && again;
        if !fit || !self.reopen()? || self.oracle.complete == 0 {
            return Ok(());
        }
        // Opened to the last complete epoch or not, whatever came back counts.
        let mut store = self.store.take().expect("the store is open");
        let from = store.store.cores();
        drop(store.shards.drain(..));
        drop(store);
        self.tickets.iter_mut().try_for_each(Tickets::end)?;
        self.crash_now("the end before a reshard")?;
        let to = 1 + (from + self.checkpoint_rng.u16(0..3)) % 4;
        let options = profile.options.clone().recover(profile.recover);
        let made = reshard_on(self.disk.clone(), check::DIR, to, options);
        profile
            .tell(|| format!("{:depth$}reshard: {made:?}, step {}", "", self.disk.step(), depth = self.depth as usize));
        let made = made.map_err(|error| format!("reshard: {error}"))?;
        ensure!((made.from, made.to) == (from, to), "{made:?}, of {from} to {to}");
        let snapshots = self.disk.take_snapshots();
        let mut either = self.oracle.clone();
        // Of cores that are recovered to their latest it ends an epoch.
        for core in &mut either.cores {
            core.ended.insert(made.epoch.get());
        }
        if to != from {
            let router = Reader::open_on(self.disk.clone(), check::DIR).map_err(|error| error.to_string())?.router();
            let next = self.oracle.resharded(to, made.epoch.get(), |key| router.route(key).index());
            either.next = Some(Box::new(next));
        }
        crash_at_each(self.session, &snapshots, &either, &mut self.rng, self.depth, 3)
            .map_err(|error| format!("{error}\n  during a reshard"))?;
        // What it said it has done, it has done.
        if let Some(next) = either.next.take() {
            self.oracle = *next;
        }
        let last = self.disk.snapshot();
        crash_at_each(self.session, &[last], &self.oracle, &mut self.rng, self.depth, 1)
            .map_err(|error| format!("{error}\n  after a reshard"))?;
        let before = self.oracle.clone();
        let opened = check::open(self.session, &self.disk, &mut self.oracle, profile.recover)?;
        let (store, _) = opened.expect("the disk has no limit");
        let snapshots = self.disk.take_snapshots();
        crash_at_each(self.session, &snapshots, &before, &mut self.rng, self.depth, 3)
            .map_err(|error| format!("{error}\n  while it was opened after a reshard"))?;
        let cores = store.shards.len();
        self.keys = keys_of(&store);
        self.tickets = store.shards.iter().map(Tickets::of).collect();
        self.markers = vec![VecDeque::new(); cores];
        self.latched = vec![false; cores];
        self.store = Some(store);
        Ok(())
    }
}
