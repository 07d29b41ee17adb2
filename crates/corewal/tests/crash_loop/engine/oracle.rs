//! The oracle: what may come back after a crash, and what must.
//!
//! It knows every commit that was handed to the store (what may come back) and
//! what the store had said was durable (what must). A recovered core must
//! stand exactly at one of its commits, between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corewal::format::BLOCK_LEN;
use corewal::io::SimStorage;
use corewal::{Offsets, Opened, Recover};

use super::probe::Probe;
use super::promise::{Promise, promised};
use super::{Outcome, ensure};

pub(crate) type Store = Opened<Probe, SimStorage>;

/// Name of the offset that numbers the commits of a core. A core's own: after a
/// change of the number of cores each one knows those of all.
pub(crate) fn number_of(core: usize) -> String {
    format!("number-{core}")
}

/// One core as one of its commits leaves it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    /// Number of the commit, never given twice in one core.
    pub(crate) number: u64,
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) payloads: Vec<u64>,
    pub(crate) offsets: Offsets,
    pub(crate) watermark: Option<i64>,
    pub(crate) epoch: u64,
    /// Positions that the commit lies between (its own, unless ends of epochs
    /// followed it at once), and the sequence behind it.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) sequence: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Payload(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct CoreOracle {
    /// The commits that count, oldest first. The first is the empty state.
    pub(crate) points: Vec<Arc<Point>>,
    /// How many of them are known to be durable.
    pub(crate) durable: usize,
    /// Edits since the last commit.
    pub(crate) open_batch: Vec<Edit>,
    /// What the store said was durable.
    pub(crate) durable_lsn: u64,
    /// Epochs whose end was appended, durable or not.
    pub(crate) ended: BTreeSet<u64>,
    /// The first epoch that does not wait for the parked core.
    pub(crate) parked: Option<u64>,
    pub(crate) next_number: u64,
}

impl CoreOracle {
    fn new() -> Self {
        Self {
            points: vec![Arc::default()],
            durable: 1,
            open_batch: Vec::new(),
            durable_lsn: 0,
            ended: BTreeSet::from([0]),
            parked: None,
            next_number: 1,
        }
    }

    /// The log, or a ticket of it, says that everything below is durable.
    pub(crate) fn observe(&mut self, durable: u64) -> Outcome {
        promised!(
            Durable,
            durable >= self.durable_lsn,
            "the durable LSN went back from {} to {durable}",
            self.durable_lsn
        );
        self.durable_lsn = durable;
        self.durable = self.durable.max(self.points.partition_point(|point| point.end <= durable));
        Ok(())
    }

    pub(crate) fn last(&self) -> &Point {
        self.points.last().expect("never empty")
    }

    fn may_have_ended(&self, epoch: u64) -> bool {
        self.ended.contains(&epoch) || self.parked.is_some_and(|from| epoch >= from)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    pub(crate) cores: Vec<CoreOracle>,
    /// The newest epoch that the store said was complete.
    pub(crate) complete: u64,
    /// Epoch of the newest checkpoint that the store said was made.
    pub(crate) checkpoint: u64,
    /// `open` has returned once.
    pub(crate) created: bool,
    /// How often the number of cores was changed.
    pub(crate) generation: u32,
    /// The offsets that every core was given at the last such change.
    pub(crate) inherited: Offsets,
    /// What holds instead once the change that is under way counts.
    pub(crate) next: Option<Box<Oracle>>,
}

/// What an open gave, as far as two opens of one disk must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) epoch: u64,
    pub(crate) numbers: Vec<u64>,
}

impl Oracle {
    pub(crate) fn new(cores: u16) -> Self {
        let cores = (0..cores).map(|_| CoreOracle::new()).collect();
        Self { cores, complete: 0, checkpoint: 0, created: false, generation: 0, inherited: Offsets::new(), next: None }
    }

    /// After a change to `cores` cores at the end of `epoch`, where all cores
    /// stand.
    pub(crate) fn resharded(&self, cores: u16, epoch: u64, core_of: impl Fn(&[u8]) -> usize) -> Self {
        let last = || self.cores.iter().map(CoreOracle::last);
        // Each source is one core's; the others have what they were given.
        let all = || last().flat_map(|point| point.offsets.clone());
        let own = all().filter(|(name, value)| self.inherited.get(name) != Some(value));
        let offsets: Offsets = all().chain(own).collect();
        let watermark = last().filter_map(|point| point.watermark).min();
        let durable_lsn = self.cores.iter().map(|core| core.durable_lsn).max().unwrap_or(0);
        let core = |index: usize| {
            let number =
                offsets.get(&number_of(index)).map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()));
            let own = last().flat_map(|point| &point.map).filter(|(key, _)| core_of(key) == index);
            let map = own.map(|(key, value)| (key.clone(), value.clone())).collect();
            let point = Point { number, map, offsets: offsets.clone(), watermark, epoch, ..Point::default() };
            CoreOracle {
                points: vec![Arc::new(point)],
                durable_lsn,
                ended: (0..=epoch).collect(),
                next_number: number + 1,
                ..CoreOracle::new()
            }
        };
        Self {
            cores: (0..usize::from(cores)).map(core).collect(),
            checkpoint: epoch,
            generation: self.generation + 1,
            inherited: offsets,
            next: None,
            ..self.clone()
        }
    }

    /// A store made of copies of this one, as it was at the end of `epoch`: its
    /// logs are new.
    pub(crate) fn restored(&self, epoch: u64) -> Self {
        let core = |core: &CoreOracle| {
            let at = core.points.partition_point(|point| point.epoch <= epoch) - 1;
            let Point { number, map, offsets, watermark, .. } = Point::clone(&core.points[at]);
            let point = Point { number, map, offsets, watermark, epoch, ..Point::default() };
            CoreOracle { points: vec![Arc::new(point)], ended: (0..=epoch).collect(), ..CoreOracle::new() }
        };
        let cores = self.cores.iter().map(core).collect();
        let generation = self.generation + 1;
        Self { cores, complete: epoch, checkpoint: epoch, created: true, generation, next: None, ..self.clone() }
    }

    /// Which number of cores a crash has left decides what must be there.
    pub(crate) fn choose(&mut self, generation: u32) {
        if let Some(next) = self.next.take()
            && next.generation == generation
        {
            *self = *next;
        }
    }

    /// Takes in what the store says is durable and complete, once an operation
    /// is over and all crashes within it have been looked at.
    pub(crate) fn observe(&mut self, store: &Store) -> Outcome {
        for (core, shard) in self.cores.iter_mut().zip(&store.shards) {
            core.observe(shard.log().durable_lsn().get())?;
        }
        let complete = store.store.complete_epoch().get();
        promised!(
            Epochs,
            complete >= self.complete,
            "the complete epoch went back from {} to {complete}",
            self.complete
        );
        self.complete = complete;
        let checkpoint = store.store.checkpoint_status().epoch.get();
        promised!(
            Checkpoints,
            checkpoint >= self.checkpoint,
            "the checkpoint of {} became one of {checkpoint}",
            self.checkpoint
        );
        promised!(
            Checkpoints,
            checkpoint <= complete,
            "a checkpoint of epoch {checkpoint}, but {complete} is complete"
        );
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// Whether there are payloads up to the end of `epoch`.
    pub(crate) fn has_payloads(&self, epoch: u64) -> bool {
        let mut points = self.cores.iter().flat_map(|core| &core.points);
        points.any(|point| point.epoch <= epoch && !point.payloads.is_empty())
    }

    /// An open that goes back to this epoch is under way: of each core it may
    /// already have rolled back what is newer, durable or not.
    pub(crate) fn may_have_rolled_back_to(&mut self, epoch: u64) {
        for core in &mut self.cores {
            core.durable = core.durable.min(core.points.partition_point(|point| point.epoch <= epoch));
        }
    }

    /// Holds an opened store against what may and must be there, and goes on
    /// from what was found.
    pub(crate) fn settle(&mut self, store: &Store, recover: Recover) -> Outcome<Recovered> {
        let epoch = store.report.complete_epoch.get();
        promised!(Epochs, epoch >= self.complete, "epoch {} was complete, recovery knows {epoch}", self.complete);
        for (number, core) in self.cores.iter().enumerate() {
            promised!(
                Epochs,
                core.may_have_ended(epoch),
                "recovery calls epoch {epoch} complete, core {number} never ended it"
            );
        }
        let (notes, checkpoint) = (&store.report.notes, store.report.checkpoint.map_or(0, corewal::Epoch::get));
        promised!(TornIsNoDamage, notes.is_empty(), "no crash does this: {notes:?}");
        promised!(
            Checkpoints,
            checkpoint >= self.checkpoint,
            "checkpoint {} was made, {checkpoint} is there",
            self.checkpoint
        );
        promised!(Checkpoints, checkpoint <= epoch, "a checkpoint of epoch {checkpoint}, but {epoch} is complete");
        let live = store.store.complete_epoch().get();
        promised!(Epochs, live == epoch, "the report says epoch {epoch} is complete, the store {live}");
        ensure!(store.shards.len() == self.cores.len(), "{} shards", store.shards.len());
        let mut numbers = Vec::new();
        for (core, shard) in self.cores.iter_mut().zip(&store.shards) {
            let found =
                core.settle(shard, recover, epoch).map_err(|error| format!("core {}: {error}", shard.core()))?;
            numbers.push(found);
        }
        (self.complete, self.checkpoint) = (epoch, checkpoint);
        self.created = true;
        let current: BTreeSet<u64> = store.shards.iter().map(|shard| shard.log().epoch().get()).collect();
        promised!(Epochs, current.len() == 1, "the cores go on in different epochs: {current:?}");
        Ok(Recovered { epoch, numbers })
    }
}

impl CoreOracle {
    fn settle(&mut self, shard: &corewal::Shard<Probe, SimStorage>, recover: Recover, epoch: u64) -> Outcome<u64> {
        let number = shard.offset_u64(&number_of(shard.core().index())).unwrap_or(0);
        let Some(at) = self.points.iter().position(|point| point.number == number) else {
            return Err(format!(
                "broken: {}: commit {number} came back, which never counted or was rolled back",
                Promise::StaleStaysAway
            ));
        };
        match recover {
            Recover::Latest => promised!(
                Durable,
                at + 1 >= self.durable,
                "commit {} was durable, only {number} came back",
                self.points[self.durable - 1].number
            ),
            Recover::CompleteEpoch => {
                let expected = self.points.partition_point(|point| point.epoch <= epoch) - 1;
                promised!(
                    Epochs,
                    at == expected,
                    "epoch {epoch} ends with commit {}, but {number} came back",
                    self.points[expected].number
                );
            }
        }
        let point = Arc::clone(&self.points[at]);
        let map = shard.state().map();
        promised!(
            Atomic,
            map == point.map,
            "keys of commit {number}: {} expected, {} found",
            show(&point.map),
            show(&map)
        );
        let payloads = &shard.state().payloads;
        promised!(
            Atomic,
            *payloads == point.payloads,
            "payloads of commit {number}: {:?} {payloads:?}",
            point.payloads
        );
        promised!(Atomic, *shard.offsets() == point.offsets, "offsets of commit {number}: {:?}", shard.offsets());
        promised!(
            Atomic,
            shard.watermark() == point.watermark,
            "watermark of commit {number}: {:?}",
            shard.watermark()
        );
        self.settle_positions(shard.log(), &point, epoch)?;
        self.points.truncate(at + 1);
        self.durable = self.points.len();
        self.durable_lsn = shard.log().durable_lsn().get();
        self.open_batch.clear();
        if let Some(from) = self.parked.take() {
            self.ended.extend(from..shard.log().epoch().get());
        }
        if recover == Recover::CompleteEpoch {
            self.ended.retain(|&ended| ended <= epoch);
        }
        Ok(number)
    }

    /// Positions, sequences and epochs go on where they were, or later.
    fn settle_positions(&self, log: &corewal::Writer<SimStorage>, point: &Point, epoch: u64) -> Outcome {
        let (durable, appended) = (log.durable_lsn().get(), log.appended_lsn().get());
        let must = self.durable_lsn.max(point.begin);
        promised!(NothingTwice, durable > must, "LSN {must} was durable, the log goes on from {durable}");
        // Behind a sealed segment the next record stands after a header.
        let settled = durable == appended || durable + BLOCK_LEN as u64 == appended;
        ensure!(settled, "{appended} appended, {durable} durable after opening");
        let known = &self.points[self.durable - 1];
        let (sequence, must) = (log.sequence().get(), known.sequence.max(point.sequence));
        promised!(
            NothingTwice,
            sequence > must || must == 0,
            "sequence {must} was given, the log goes on from {sequence}"
        );
        let current = log.epoch().get();
        promised!(NothingTwice, current > epoch, "epoch {epoch} is complete, the log goes on in {current}");
        let must = known.epoch.max(point.epoch);
        promised!(NothingTwice, current >= must, "epoch {must} was reached, the log goes on in {current}");
        Ok(())
    }
}

fn show(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let entries = map.iter().map(|(key, value)| {
        let head = &value[..value.len().min(12)];
        format!("{}={}({})", String::from_utf8_lossy(key), String::from_utf8_lossy(head), value.len())
    });
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}
