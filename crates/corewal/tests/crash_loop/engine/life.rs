//! One life: from an open to its end, operation by operation. After each
//! operation the disk is crashed at every step the operation took.

mod checkpoints;
mod faults;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use corewal::io::SimStorage;
use corewal::{Commit, Epoch, Error, Recover, Shard, TimestampNs};
use fastrand::Rng;

use super::check::{self, BALLAST, Session, crash_at_each, verify};
use super::oracle::{Edit, Oracle, Point, Store, number_of};
use super::probe::{Probe, payload};
use super::profile::pick;
use super::tickets::Tickets;
use super::{Outcome, Workload, ensure};

pub(super) type TheShard = Shard<Probe, SimStorage>;

/// A process that has the store open.
pub(crate) struct Life<'s> {
    pub(super) session: &'s Session<'s>,
    pub(super) disk: SimStorage,
    /// `None` only while one life ends and the next begins.
    store: Option<Store>,
    pub(super) oracle: Oracle,
    rng: Rng,
    depth: u32,
    /// By core: keys that it owns.
    pub(super) keys: Vec<Vec<Vec<u8>>>,
    /// By core: epochs it was told to end and has not ended.
    markers: Vec<VecDeque<Epoch>>,
    /// By core: a failed write or sync was reported.
    latched: Vec<bool>,
    /// By core: commits that are not durable yet.
    tickets: Vec<Tickets>,
    ticket_rng: Rng,
    checkpoint_rng: Rng,
    /// Payloads are numbered.
    next_payload: u64,
}

/// Runs the first life of a seed, from the creation of the store on.
pub(crate) fn run(session: &Session<'_>) -> Outcome {
    let profile = session.profile;
    let mut rng = Rng::with_seed(profile.seed);
    let disk = profile.new_disk();
    if profile.disk.capacity_bytes.is_some() {
        disk.write_file(Path::new(BALLAST), vec![0; 40_000]);
    }
    disk.record_snapshots(true);
    let mut oracle = Oracle::new(profile.cores);
    let before = oracle.clone();
    let opened = check::open(session, &disk, &mut oracle, profile.recover)?;
    crash_at_each(session, &disk.take_snapshots(), &before, &mut rng, 0, 1)
        .map_err(|error| format!("{error}\n  while the store was created"))?;
    match opened {
        Some((store, _)) => Life::resume(session, disk, store, oracle, rng, 0).live(),
        None => Ok(()),
    }
}

/// By core, keys that it owns.
fn keys_of(store: &Store) -> Vec<Vec<Vec<u8>>> {
    let mut keys = vec![Vec::new(); store.shards.len()];
    for number in 0..8 * keys.len() {
        let key = format!("key-{number}").into_bytes();
        keys[store.store.route(&key).index()].push(key);
    }
    keys
}

impl<'s> Life<'s> {
    pub(crate) fn resume(
        session: &'s Session<'s>,
        disk: SimStorage,
        store: Store,
        oracle: Oracle,
        rng: Rng,
        depth: u32,
    ) -> Self {
        let cores = store.shards.len();
        let keys = keys_of(&store);
        let next_payload = u64::from(depth) << 32;
        let markers = vec![VecDeque::new(); cores];
        let tickets = store.shards.iter().map(Tickets::of).collect();
        Self {
            session,
            disk,
            store: Some(store),
            oracle,
            ticket_rng: rng.clone(),
            checkpoint_rng: Rng::with_seed(rng.clone().u64(..)),
            rng,
            depth,
            keys,
            markers,
            latched: vec![false; cores],
            tickets,
            next_payload,
        }
    }

    pub(super) fn open(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    /// Whether the disk does what it is told.
    fn is_healthy(&self) -> bool {
        self.session.profile.workload == Workload::Shards
    }

    /// Lives until its operations are done, then crashes once more.
    pub(crate) fn live(mut self) -> Outcome {
        let operations = match self.depth {
            0 => self.session.profile.operations,
            _ => self.rng.usize(3..=14),
        };
        if self.is_healthy() {
            check::is_locked(self.session, &self.disk)?;
        }
        for number in 0..operations {
            let outcome = self.operate();
            if !outcome.map_err(|error| format!("{error}\n  in operation {number} (depth {})", self.depth))? {
                return Ok(());
            }
            let outcome = self.see_to_checkpoints();
            outcome.map_err(|error| format!("{error}\n  behind operation {number} (depth {})", self.depth))?;
        }
        let last = self.disk.snapshot();
        crash_at_each(self.session, &[last], &self.oracle, &mut self.rng, self.depth, 1)?;
        self.store = None;
        self.disk.clear_faults();
        verify(&self.disk, self.depth > 0 || !self.is_healthy())
    }

    /// One operation. `false` if the disk is too full to go on.
    fn operate(&mut self) -> Outcome<bool> {
        if self.latched.contains(&true) && self.rng.bool() {
            return self.reopen();
        }
        if self.session.profile.workload == Workload::Faults && self.rng.u8(0..8) == 0 {
            self.plant_fault();
        }
        let core = self.rng.usize(0..self.open().shards.len());
        if self.open().shards[core].is_parked() {
            match self.rng.u8(0..20) {
                0..6 => self.unpark(core)?,
                6..9 => self.end_epoch()?,
                9 => return self.reopen(),
                _ => self.plain(core, "poll", |shard| shard.poll().map(drop))?,
            }
            return Ok(true);
        }
        match self.rng.u8(0..100) {
            0..30 => self.edit(core)?,
            30..50 => self.commit(core)?,
            50..56 => self.plain(core, "poll", |shard| shard.poll().map(drop))?,
            56..60 => self.plain(core, "submit", TheShard::submit)?,
            60..64 => self.plain(core, "request_sync", TheShard::request_sync)?,
            64..67 => self.plain(core, "queue_sync", TheShard::queue_sync)?,
            67..75 => self.plain(core, "sync", |shard| shard.sync().map(drop))?,
            75..85 => self.end_epoch()?,
            85..88 => self.deliver_marker(core)?,
            88..91 => self.park(core)?,
            91..93 if !self.open().shards[core].log().batch_open() => {
                let id = self.rng.u64(..);
                self.plain(core, "checkpoint_mark", |shard| shard.checkpoint_mark(id).map(drop))?;
            }
            93..96 => self.session.profile.clock.set(TimestampNs(self.rng.u64(1..2_000_000))),
            96..98 => return self.reopen(),
            98.. if !self.latched.contains(&true) => return self.close(),
            _ => {}
        }
        Ok(true)
    }

    /// Does something to a shard, crashes at each of its steps, and takes in
    /// what the store says afterwards. `effect` is called if a record was
    /// appended, with the core's epoch before.
    fn act(
        &mut self,
        core: usize,
        what: &str,
        operation: impl FnOnce(&mut TheShard) -> corewal::Result<()>,
        effect: impl FnOnce(&mut Self, u64),
    ) -> Outcome {
        let log = self.open().shards[core].log();
        let (sequence, epoch) = (log.sequence(), log.epoch().get());
        let result = operation(&mut self.store.as_mut().expect("the store is open").shards[core]);
        let log = self.open().shards[core].log();
        let (appended, now) = (log.sequence() > sequence, log.epoch().get());
        self.session.profile.tell(|| {
            let depth = self.depth as usize;
            let log = self.open().shards[core].log();
            format!("{:depth$}core {core}: {what}: {result:?}, then {log:?}, step {}", "", self.disk.step())
        });
        if appended {
            effect(self, epoch);
        }
        self.oracle.cores[core].ended.extend(epoch..now);
        self.judge(core, what, result)?;
        self.crash_now(what)?;
        let store = self.store.as_ref().expect("the store is open");
        for (core, tickets) in self.tickets.iter_mut().enumerate() {
            let durable = tickets.observe(&store.shards[core], self.latched[core]);
            self.oracle.cores[core].observe(durable.map_err(|error| format!("core {core}: {error}"))?)?;
        }
        self.oracle.observe(store)
    }

    /// As `act`, for what appends nothing but ends of epochs.
    pub(super) fn plain(
        &mut self,
        core: usize,
        what: &str,
        operation: impl FnOnce(&mut TheShard) -> corewal::Result<()>,
    ) -> Outcome {
        self.act(core, what, operation, |_, _| {})
    }

    /// Whether a result may be: errors only of faults, and a latch for good.
    fn judge(&mut self, core: usize, what: &str, result: corewal::Result<()>) -> Outcome {
        let faults = self.session.profile.workload == Workload::Faults;
        match result {
            Ok(()) => ensure!(!self.latched[core], "{what} goes on after a failure"),
            Err(Error::Latched { .. }) if faults => self.latched[core] = true,
            Err(Error::Io { .. } | Error::OutOfSpace { .. }) if faults => {
                ensure!(!self.latched[core], "{what} tries again after a failure")
            }
            Err(error) => return Err(format!("{what}: {error}")),
        }
        Ok(())
    }

    /// Of how many steps one is crashed. Within forks a sample is enough: there
    /// are many of them. A long life is there for where it gets to.
    fn every(&self) -> usize {
        let long = self.session.profile.operations.div_ceil(100).max(1);
        if self.depth == 0 { long } else { 6 }
    }

    fn crash_now(&mut self, what: &str) -> Outcome {
        let snapshots = self.disk.take_snapshots();
        let every = self.every();
        crash_at_each(self.session, &snapshots, &self.oracle, &mut self.rng, self.depth, every)
            .map_err(|error| format!("{error}\n  during {what}"))
    }

    fn edit(&mut self, core: usize) -> Outcome {
        if self.rng.u8(..) < self.session.profile.payloads {
            self.next_payload += 1;
            let (id, len) = (self.next_payload, self.rng.usize(8..3000));
            let bytes = payload(id, len);
            return self.act(
                core,
                "payload",
                |shard| shard.payload(&bytes),
                |life, _| life.remember(core, Edit::Payload(id)),
            );
        }
        if self.keys[core].is_empty() {
            return self.commit(core);
        }
        let key = pick(&mut self.rng, &self.keys[core]).clone();
        if self.rng.u8(0..6) == 0 {
            return self.delete(core, key);
        }
        // Now and then one that no pooled buffer holds.
        let len = if self.rng.u8(0..12) == 0 { self.rng.usize(4000..9000) } else { self.rng.usize(0..1500) };
        let value = vec![self.rng.u8(..); len];
        self.put(core, key, value)
    }

    pub(super) fn put(&mut self, core: usize, key: Vec<u8>, value: Vec<u8>) -> Outcome {
        let edit = Edit::Put(key.clone(), value.clone());
        self.act(core, "put", |shard| shard.put(&key, &value), |life, _| life.remember(core, edit))
    }

    fn delete(&mut self, core: usize, key: Vec<u8>) -> Outcome {
        let edit = Edit::Delete(key.clone());
        self.act(core, "delete", |shard| shard.delete(&key), |life, _| life.remember(core, edit))
    }

    fn remember(&mut self, core: usize, edit: Edit) {
        self.oracle.cores[core].open_batch.push(edit);
    }

    pub(super) fn commit(&mut self, core: usize) -> Outcome {
        let number = self.oracle.cores[core].next_number;
        self.oracle.cores[core].next_number += 1;
        let mut commit = Commit::new().offset_u64(number_of(core), number);
        if self.rng.bool() {
            commit = commit.offset(format!("source-{core}-{}", self.rng.u8(0..3)), number.to_string());
        }
        if self.rng.bool() {
            commit = commit.watermark(self.rng.i64(-5..1000));
        }
        let log = self.open().shards[core].log();
        let begin = (log.appended_lsn().get(), log.sequence().get());
        let mut end = None;
        self.act(
            core,
            "commit",
            |shard| shard.commit(&commit).map(|lsn| end = Some(lsn)),
            |life, epoch| life.remember_commit(core, number, epoch, begin),
        )?;
        if let Some(end) = end {
            self.tickets[core].take(end, &mut self.ticket_rng);
        }
        Ok(())
    }

    fn remember_commit(&mut self, core: usize, number: u64, epoch: u64, (begin, sequence): (u64, u64)) {
        let shard = &self.store.as_ref().expect("the store is open").shards[core];
        let core = &mut self.oracle.cores[core];
        let mut point: Point = core.last().clone();
        for edit in core.open_batch.drain(..) {
            match edit {
                Edit::Put(key, value) => drop(point.map.insert(key, value)),
                Edit::Delete(key) => drop(point.map.remove(&key)),
                Edit::Payload(id) => point.payloads.push(id),
            }
        }
        // Offsets and watermark as the shard shows them live; that they are
        // right is for the tests of commits, that they come back is for this.
        point.offsets.clone_from(shard.offsets());
        point.watermark = shard.watermark();
        (point.number, point.epoch, point.begin) = (number, epoch, begin);
        (point.end, point.sequence) = (shard.log().appended_lsn().get(), sequence + 1);
        core.points.push(Arc::new(point));
    }

    /// Ends an epoch on all cores, or only on some of them for now.
    pub(super) fn end_epoch(&mut self) -> Outcome {
        if !self.session.profile.markers {
            self.open().store.announce_epoch();
            return Ok(());
        }
        let epoch = self.open().store.next_epoch();
        let cores = self.open().shards.len();
        for core in 0..cores {
            if !self.open().shards[core].is_parked() {
                self.markers[core].push_back(epoch);
            }
        }
        let part = if self.rng.bool() { cores } else { self.rng.usize(0..=cores) };
        for core in 0..part {
            self.deliver_marker(core)?;
        }
        Ok(())
    }

    fn deliver_marker(&mut self, core: usize) -> Outcome {
        if self.open().shards[core].is_parked() {
            self.markers[core].clear();
            return Ok(());
        }
        if self.open().shards[core].log().batch_open() {
            self.commit(core)?;
        }
        let Some(epoch) = self.markers[core].pop_front() else { return Ok(()) };
        let log = self.open().shards[core].log();
        if self.latched[core] || log.batch_open() || epoch < log.epoch() {
            return Ok(());
        }
        self.plain(core, "end_epoch", |shard| shard.end_epoch(epoch))
    }

    fn park(&mut self, core: usize) -> Outcome {
        if self.open().shards[core].log().batch_open() {
            self.commit(core)?;
        }
        if self.open().shards[core].log().batch_open() {
            return Ok(());
        }
        self.markers[core].clear();
        self.act(core, "park", TheShard::park, |life, epoch| {
            life.oracle.cores[core].parked.get_or_insert(epoch);
        })
    }

    fn unpark(&mut self, core: usize) -> Outcome {
        let parked = self.oracle.cores[core].parked;
        self.act(core, "unpark", TheShard::unpark, |life, _| {
            let now = life.open().shards[core].log().epoch().get();
            life.oracle.cores[core].ended.extend(parked.unwrap_or(now)..now);
        })?;
        if !self.open().shards[core].is_parked() {
            self.oracle.cores[core].parked = None;
        }
        Ok(())
    }

    /// The process dies and starts again on the same disk.
    pub(super) fn reopen(&mut self) -> Outcome<bool> {
        self.start_again("a restart", |store| drop(store.shards.drain(..)))
    }

    /// The store is closed in order and opened again.
    fn close(&mut self) -> Outcome<bool> {
        for core in 0..self.open().shards.len() {
            if self.open().shards[core].log().batch_open() {
                self.commit(core)?;
            }
        }
        let healthy = self.session.profile.workload != Workload::Faults;
        let whole = !self.latched.contains(&true) && !self.open().shards.iter().any(|shard| shard.log().batch_open());
        if !whole {
            return Ok(true);
        }
        let mut closed = Ok(());
        let go_on = self.start_again("a close", |store| {
            for shard in store.shards.drain(..) {
                closed = std::mem::replace(&mut closed, Ok(())).and(shard.close());
            }
        })?;
        if healthy {
            closed.map_err(|error| format!("close: {error}"))?;
            let report = &self.open().report;
            ensure!(report.cores.iter().all(|core| core.cut.is_none()), "something was cut after a close: {report}");
        }
        Ok(go_on)
    }

    /// Ends the life by `end`, and begins the next on the same disk.
    fn start_again(&mut self, what: &str, end: impl FnOnce(&mut Store)) -> Outcome<bool> {
        self.session.profile.tell(|| format!("{:depth$}{what}", "", depth = self.depth as usize));
        // The lock is free once the store itself is gone, too.
        let mut store = self.store.take().expect("the store is open");
        end(&mut store);
        let complete = store.store.complete_epoch().get();
        drop(store);
        self.tickets.iter_mut().try_for_each(Tickets::end)?;
        self.crash_now(what)?;
        self.oracle.complete = self.oracle.complete.max(complete);
        let recover = self.session.profile.recover;
        // With what faults are left, opening may fail, but not harm.
        let failed = match self.rng.bool() {
            true => check::try_open(self.session, &self.disk, recover).err(),
            false => None,
        };
        self.disk.clear_faults();
        if let Some(error) = failed {
            let fault = matches!(error, Error::Io { .. } | Error::OutOfSpace { .. } | Error::Latched { .. });
            ensure!(fault && self.session.profile.workload == Workload::Faults, "opening refuses: {error}");
        }
        let mut before = self.oracle.clone();
        let opened = check::open(self.session, &self.disk, &mut self.oracle, recover)?;
        if recover == Recover::CompleteEpoch {
            // An open that a full disk stopped may have come so far as well.
            let epoch = opened.as_ref().map_or(before.complete, |(_, found)| found.epoch);
            before.may_have_rolled_back_to(epoch);
        }
        let snapshots = self.disk.take_snapshots();
        let every = self.every();
        crash_at_each(self.session, &snapshots, &before, &mut self.rng, self.depth, every)
            .map_err(|error| format!("{error}\n  while it was opened again"))?;
        let Some((store, _)) = opened else { return Ok(false) };
        self.tickets = store.shards.iter().map(Tickets::of).collect();
        self.store = Some(store);
        self.latched.fill(false);
        self.markers.iter_mut().for_each(VecDeque::clear);
        // What was found is durable, however it was found.
        let last = self.disk.snapshot();
        crash_at_each(self.session, &[last], &self.oracle, &mut self.rng, self.depth, 1)?;
        Ok(true)
    }
}
