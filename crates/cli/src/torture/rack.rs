//! What tortures: round after round of faults, and the openings after each.

use std::path::PathBuf;
use std::time::Duration;

use corewal::{Keyed, Opened, Options};

use super::fault::Fault;
use super::ground::Ground;
use super::oracle::{Oracle, Promise, Violation};
use super::setup::Setup;
use super::tally::Tally;
use super::victim::Remains;
use super::workload::Workload;
use crate::args::Torture;
use crate::exit::Failure;

/// A log of so many bytes, or a state after so many operations, is enough: the
/// next store begins, so that time goes into faults and not into reading and
/// reckoning.
const LONG: u64 = 64 << 20;
const MANY: u64 = 500_000;
/// So many rounds in a row in which the writer ended by itself, for want of
/// space, are no torture any more.
const STARVED: u32 = 20;

/// Where things stand.
pub(super) struct Places {
    pub(super) store: PathBuf,
    pub(super) copy: PathBuf,
    pub(super) archive: PathBuf,
    pub(super) restored: PathBuf,
}

/// One store under torture.
pub(super) struct Store {
    /// The seed of its workload.
    pub(super) seed: u64,
    pub(super) workload: Workload,
    pub(super) oracle: Oracle,
    /// As the child is to open it: `reshard` changes the number of cores.
    pub(super) setup: Setup,
}

/// What tortures.
pub(super) struct Rack {
    pub(super) places: Places,
    setup: Setup,
    faults: Vec<Fault>,
    /// Kills that were asked for.
    kills: u64,
    pub(super) random: fastrand::Rng,
    pub(super) tally: Tally,
    starved: u32,
}

impl Rack {
    pub(super) fn new(ground: &Ground, args: &Torture, seed: u64) -> Self {
        let (setup, faults) = (args.setup, args.faults.clone());
        let places = Places {
            store: ground.store(),
            copy: ground.copy(),
            archive: ground.archive(),
            restored: ground.restored(),
        };
        let random = fastrand::Rng::with_seed(seed);
        let tally = Tally::new(seed, setup.cores, &faults);
        Self { places, setup, faults, kills: u64::from(args.kills), random, tally, starved: 0 }
    }

    pub(super) fn has_killed_enough(&self) -> bool {
        self.tally.kills >= self.kills
    }

    pub(super) fn next_seed(&mut self) -> u64 {
        self.random.u64(..)
    }

    /// Tortures one store until it has grown long, a promise is broken, or
    /// `over` says so.
    pub(super) fn one_store(&mut self, seed: u64, over: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        self.tally.stores += 1;
        let before = self.tally.records;
        let workload = self.setup.workload(seed);
        let mut store = Store { seed, workload, oracle: Oracle::new(workload), setup: self.setup };
        loop {
            // Each draws from its own sequence: what one does with chance must
            // not change which comes next.
            let fault = self.faults[self.random.usize(..self.faults.len())];
            let rest = self.random.fork();
            let bytes = self.one_round(&mut store, fault)?;
            self.random = rest;
            self.tally.records = before + store.oracle.offset();
            match bytes {
                Some(bytes) if bytes <= LONG && store.oracle.offset() <= MANY && !over(self) => {}
                _ => return Ok(()),
            }
        }
    }

    /// One fault and what follows. Gives the bytes of the log, if all is well.
    fn one_round(&mut self, store: &mut Store, fault: Fault) -> Result<Option<u64>, Failure> {
        self.tally.of(fault).made += 1;
        let remains = self.mistreat(store, fault)?;
        self.starved = if remains.ended_for_want_of_space() { self.starved + 1 } else { 0 };
        if self.starved > STARVED {
            let said = remains.ended.unwrap_or_default();
            return Err(Failure::data(format!("there is no space to torture in: {}", said.trim_end())));
        }
        if !self.tally.violations.is_empty() {
            return Ok(None);
        }
        self.verb_killed(store, fault)?;
        let crashed = self.copy_for(fault)?;
        let Some((bytes, closed)) = self.recover(store, fault, &remains)? else { return Ok(None) };
        if !self.tally.violations.is_empty() {
            return Ok(None);
        }
        match fault {
            Fault::Damage => self.damage(store, crashed, closed)?,
            Fault::Repair => self.repair(store, crashed)?,
            Fault::Archive => self.restore(store)?,
            _ => {}
        }
        Ok(self.tally.violations.is_empty().then_some(bytes))
    }

    /// Opens and compares, now and then twice, with an orderly close between.
    /// Gives the bytes of the log, if it opens, and whether it is closed in
    /// order.
    fn recover(&mut self, store: &mut Store, fault: Fault, remains: &Remains) -> Result<Option<(u64, bool)>, Failure> {
        let Some(mut opened) = self.open(fault) else { return Ok(None) };
        self.compare(store, fault, &mut opened, remains);
        let bytes = opened.report.cores.iter().map(|core| core.bytes).sum();
        store.setup.cores = u16::try_from(opened.shards.len()).expect("at most 1,024 cores");
        if fault != Fault::Archive && self.random.u8(0..3) > 0 {
            return Ok(Some((bytes, false)));
        }
        for shard in opened.shards {
            if let Err(error) = shard.close() {
                self.broken(Promise::Opens, format!("the store would not close: {error}"));
                return Ok(None);
            }
        }
        drop(opened.store);
        self.tally.clean += 1;
        if self.random.bool() {
            let Some(mut opened) = self.open(fault) else { return Ok(None) };
            self.compare(store, fault, &mut opened, &Remains::default());
            opened.shards.into_iter().try_for_each(|shard| shard.close())?;
        }
        Ok(Some((bytes, true)))
    }

    /// How the store is opened that is there, however many cores it has.
    pub(super) fn options(&self) -> Options {
        self.setup.options_of_any()
    }

    fn open(&mut self, fault: Fault) -> Option<Opened> {
        self.tally.checked(&[Promise::Opens]);
        // A process that was killed while it made the store may have left
        // nothing at all.
        let options = if self.places.store.join("MANIFEST").exists() { self.options() } else { self.setup.options() };
        match options.open_on(self.setup.io.storage(), &self.places.store, |_| Keyed::default()) {
            Ok(opened) => Some(opened),
            Err(error) => {
                self.broken(Promise::Opens, format!("after {fault}: {error}"));
                None
            }
        }
    }

    fn compare(&mut self, store: &mut Store, fault: Fault, opened: &mut Opened, remains: &Remains) {
        let violations = store.oracle.check(opened, remains.known());
        self.tally.violations.extend(violations);
        self.tally.checked(&[Promise::Atomic, Promise::Consistent, Promise::Durable, Promise::Order, Promise::Epochs]);
        self.tally.recoveries += 1;
        let cuts: Vec<u64> = opened.report.cores.iter().filter_map(|core| Some(core.cut.as_ref()?.bytes)).collect();
        let of = self.tally.of(fault);
        of.openings += 1;
        of.torn += u64::from(!cuts.is_empty());
        self.tally.torn_tails += u64::from(!cuts.is_empty());
        self.tally.torn_bytes += cuts.iter().sum::<u64>();
        let rolled = opened.report.cores.iter().filter_map(|core| Some(core.rolled_back.as_ref()?.records));
        self.tally.rolled_back += rolled.sum::<u64>();
    }

    /// A moment: as likely within 1 to 2 ms as within 100 to 200, because what
    /// goes wrong early is as wrong.
    pub(super) fn moment(&mut self) -> Duration {
        let exponent = self.random.f64() * 9.0;
        Duration::from_secs_f64(exponent.exp2() / 1000.0).saturating_sub(Duration::from_millis(1))
    }

    pub(super) fn broken(&mut self, promise: Promise, detail: String) {
        self.tally.violations.push(Violation { promise, detail });
    }
}
