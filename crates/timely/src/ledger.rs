//! What the operators of one worker have in common: the shard that their
//! changes go to, and the epoch in which they are made.
//!
//! Epochs are Timely's times. An epoch ends on a worker when nothing of it can
//! arrive any more and all that did is applied; only then are changes of the
//! next one made. So what stands in the shard's log before the end of an epoch
//! is just what has times up to it, whatever the order in which the operators
//! of the worker are scheduled.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use corewal::{Commit, Epoch, Lsn, Shard, Store};
use timely::dataflow::operators::probe::Handle;
use timely::scheduling::Activator;

use crate::error::Result;
use crate::scribe::Handed;

/// Times of one start of a job lie in a range of their own: 2^40 of them.
const TIMES_BITS: u32 = 40;

/// The first epoch of a start: what it found complete, moved to where it goes on.
pub(crate) fn first_epoch(attempt: u64) -> u64 {
    attempt << TIMES_BITS
}

/// The last epoch of a start that came to its end: the same on all workers,
/// whichever was the last that each had anything in.
pub(crate) fn last_epoch(attempt: u64) -> u64 {
    first_epoch(attempt + 1) - 1
}

/// There is nothing left.
pub(crate) const NEVER: u64 = u64::MAX;

/// One that holds epochs open: an operator, a source or a sink.
struct Part {
    activator: Activator,
    /// Nothing of a time before this one arrives any more.
    frontier: u64,
    /// The earliest of what has arrived and is not applied.
    pending: u64,
}

/// Names a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartId(usize);

/// How far a source has read by the end of a time.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) time: u64,
    pub(crate) position: u64,
    pub(crate) watermark: Option<i64>,
}

/// A partition's marks that are in no epoch yet.
struct Marks {
    name: String,
    marks: VecDeque<Mark>,
    newest: Option<i64>,
}

/// Names a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionId(usize);

pub(crate) struct Ledger {
    pub(crate) shard: Shard,
    store: Store,
    parts: Vec<Part>,
    /// What sinks were handed.
    handed: Vec<Rc<Handed>>,
    partitions: Vec<Marks>,
    /// Where sources go on, by partition.
    offsets: BTreeMap<String, Vec<u8>>,
    attempt: u64,
    /// What was complete before this start.
    recovered: u64,
    /// The epoch in which changes are made.
    open: u64,
    /// Ended, and not durable as far as is known; with where each ends.
    ending: VecDeque<(u64, Lsn)>,
    durable: u64,
    /// Nothing will follow.
    finished: bool,
    /// Its frontier is what is not complete.
    complete: Handle<u64>,
    /// Whoever watches over the epochs' ends.
    watcher: Option<Activator>,
    /// What the job is made of, as the operators say: parts, and details of them.
    shape: Vec<(String, String)>,
}

impl Ledger {
    /// The ledger of a start of the job, of which nothing has ended yet.
    pub(crate) fn new(
        store: Store,
        shard: Shard,
        offsets: BTreeMap<String, Vec<u8>>,
        attempt: u64,
        recovered: u64,
    ) -> Self {
        Self {
            shard,
            store,
            parts: Vec::new(),
            handed: Vec::new(),
            partitions: Vec::new(),
            offsets,
            attempt,
            recovered,
            open: first_epoch(attempt),
            ending: VecDeque::new(),
            durable: recovered,
            finished: false,
            complete: Handle::new(),
            watcher: None,
            shape: Vec::new(),
        }
    }

    /// Adds a part, which holds back all epochs until it says otherwise.
    pub(crate) fn add_part(&mut self, activator: Activator) -> PartId {
        self.parts.push(Part { activator, frontier: 0, pending: NEVER });
        PartId(self.parts.len() - 1)
    }

    /// Has no epoch count as durable before what was handed over of it is.
    pub(crate) fn add_handed(&mut self, handed: Rc<Handed>) {
        self.handed.push(handed);
    }

    /// Adds a part to the job's shape; says whether there was none like it.
    pub(crate) fn declare(&mut self, part: String, details: &str) -> bool {
        let new = !self.shape.iter().any(|(known, _)| *known == part);
        self.shape.push((part, details.to_owned()));
        new
    }

    /// What the job is made of, a line each.
    pub(crate) fn shape(&self) -> Vec<String> {
        let line = |(part, details): &(String, String)| match details.as_str() {
            "" => part.clone(),
            details => format!("{part}: {details}"),
        };
        self.shape.iter().map(line).collect()
    }

    pub(crate) fn set_watcher(&mut self, activator: Activator) {
        self.watcher = Some(activator);
    }

    pub(crate) fn complete_probe(&self) -> &Handle<u64> {
        &self.complete
    }

    /// Where to go on with a partition of a source: position and watermark.
    pub(crate) fn resume(&self, source: &str, partition: &str) -> (u64, Option<i64>) {
        let number = |name: String| self.offsets.get(&name).and_then(|bytes| bytes.as_slice().try_into().ok());
        let position = number(position_name(source, partition)).map_or(0, u64::from_le_bytes);
        let watermark = number(watermark_name(source, partition)).map(i64::from_le_bytes);
        (position, watermark)
    }

    /// A partition that this worker reads.
    pub(crate) fn add_partition(&mut self, source: &str, partition: &str) -> PartitionId {
        let (position, watermark) = self.resume(source, partition);
        // Said again in the first epoch: it may come from another worker's log.
        let mark = Mark { time: self.open, position, watermark };
        let name = position_name(source, partition);
        self.partitions.push(Marks { name, marks: VecDeque::from([mark]), newest: watermark });
        PartitionId(self.partitions.len() - 1)
    }

    /// By the end of a time a partition is read so far.
    pub(crate) fn mark(&mut self, partition: PartitionId, mark: Mark) {
        let marks = &mut self.partitions[partition.0].marks;
        debug_assert!(marks.back().is_none_or(|last| last.time <= mark.time && last.position <= mark.position));
        marks.push_back(mark);
    }

    /// The epoch in which changes are made: what has later times has to wait.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// Nothing of a time before `frontier` arrives at a part any more, and the
    /// earliest of what it has not applied is `pending`.
    pub(crate) fn report(&mut self, part: PartId, frontier: u64, pending: u64) {
        let part = &mut self.parts[part.0];
        debug_assert!(frontier >= part.frontier && pending >= self.open);
        (part.frontier, part.pending) = (frontier, pending);
    }

    /// Ends the epoch at hand, if nothing holds it open; says whether it did.
    /// Whoever has something to do in the next one is woken.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        let frontier = self.parts.iter().map(|part| part.frontier).min().unwrap_or(NEVER);
        let pending = self.parts.iter().map(|part| part.pending).min().unwrap_or(NEVER);
        if frontier <= self.open || pending <= self.open || self.finished {
            return Ok(false);
        }
        // Whatever lies between has nothing in it, here.
        let next = frontier.min(pending);
        self.finished = next == NEVER;
        let ended = if self.finished { last_epoch(self.attempt) } else { next - 1 };
        self.end(ended)?;
        if !self.finished {
            self.open = next;
            self.parts.iter().filter(|part| part.pending == next).for_each(|part| part.activator.activate());
        }
        if let Some(watcher) = &self.watcher {
            watcher.activate();
        }
        Ok(true)
    }

    fn end(&mut self, epoch: u64) -> Result<()> {
        let mut commit = Commit::new();
        let mut watermark = None;
        for partition in &mut self.partitions {
            let mut newest = None;
            while partition.marks.front().is_some_and(|mark| mark.time <= epoch) {
                newest = partition.marks.pop_front();
            }
            if let Some(mark) = newest {
                commit = commit.offset_u64(&partition.name, mark.position);
                if let Some(time) = mark.watermark {
                    commit = commit.offset(format!("{}{WATERMARK}", partition.name), time.to_le_bytes());
                    partition.newest = Some(time);
                }
            }
            watermark = match (watermark, partition.newest) {
                (Some(least), Some(newest)) => Some(i64::min(least, newest)),
                (least, newest) => least.or(newest),
            };
        }
        if let Some(watermark) = watermark {
            commit = commit.watermark(watermark);
        }
        self.shard.commit(&commit)?;
        self.shard.end_epoch(Epoch(epoch))?;
        self.ending.push_back((epoch, self.shard.log().appended_lsn()));
        Ok(())
    }

    /// The newest epoch whose end is durable here, and its output staged.
    pub(crate) fn poll_durable(&mut self) -> Result<u64> {
        let durable = self.shard.poll()?;
        let is_staged = |epoch| self.handed.iter().all(|handed| handed.is_staged(epoch));
        while let Some((epoch, _)) = self.ending.pop_front_if(|(epoch, end)| *end <= durable && is_staged(*epoch)) {
            self.durable = epoch;
        }
        self.store.confirm_epoch(Epoch(self.complete()));
        Ok(self.durable)
    }

    /// Whether epochs have ended that are not known to be durable.
    pub(crate) fn is_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Whether everything is durable and nothing will follow.
    pub(crate) fn is_done(&self) -> bool {
        self.finished && self.ending.is_empty()
    }

    /// The newest epoch that is complete: durable on all workers, and recorded.
    pub(crate) fn complete(&self) -> u64 {
        let least = self.complete.with_frontier(|frontier| frontier.first().copied());
        least.map_or(self.durable, |least| least.saturating_sub(1).max(self.recovered))
    }

    /// Ends the log in order. Nothing is lost if it is not called.
    pub(crate) fn close(self) -> Result<()> {
        Ok(self.shard.close()?)
    }
}

const WATERMARK: &str = " watermark";

fn position_name(source: &str, partition: &str) -> String {
    format!("{source}/{partition}")
}

fn watermark_name(source: &str, partition: &str) -> String {
    format!("{}{WATERMARK}", position_name(source, partition))
}
