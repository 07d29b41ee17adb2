//! One core's thread: folds records into its keys and ends its epochs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use corewal::Shard;
use hdrhistogram::Histogram;

use super::batch::Batch;
use super::lanes::{Barrier, Inlet, Message};
use crate::exit::Failure;
use crate::reduce::Reduce;

/// Longest commit that is told from others, in µs: ten minutes.
const LONGEST: u64 = 600_000_000;

/// What a core has to tell at the end.
pub(super) struct Outcome {
    /// How many keys it holds.
    pub(super) keys: u64,
    /// From the arrival of each barrier until it was durable, in µs.
    pub(super) commits: Histogram<u64>,
}

/// A histogram as [`Outcome::commits`] is one.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds in order and few digits")
}

/// Raised when a core's thread ends other than by a close, even by a panic, so
/// that a reader who waits for input hears of it.
pub(super) struct Alarm {
    raised: Arc<AtomicBool>,
    armed: bool,
}

impl Alarm {
    pub(super) fn new(raised: &Arc<AtomicBool>) -> Self {
        Self { raised: Arc::clone(raised), armed: true }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed {
            self.raised.store(true, Ordering::Release);
        }
    }
}

/// Does what comes on the lane until it is told to close (and says how it
/// went) or the lane ends (`None`: the reader gave up).
pub(super) fn run(shard: Shard, inlet: &Inlet, reduce: &Reduce, mut alarm: Alarm) -> Result<Option<Outcome>, Failure> {
    let mut worker = Worker { shard, reduce, folded: Vec::new(), commits: histogram() };
    for message in &inlet.messages {
        match message {
            Message::Batch(mut batch) => {
                worker.fold(&batch)?;
                batch.clear();
                // No room for it there means that there are enough.
                let _ = inlet.spare.try_send(batch);
            }
            Message::Barrier(barrier) => worker.end_epoch(&barrier)?,
            Message::Close => {
                let outcome = worker.close()?;
                alarm.armed = false;
                return Ok(Some(outcome));
            }
        }
    }
    Ok(None)
}

struct Worker<'r> {
    shard: Shard,
    reduce: &'r Reduce,
    folded: Vec<u8>,
    commits: Histogram<u64>,
}

impl Worker<'_> {
    fn fold(&mut self, batch: &Batch) -> Result<(), Failure> {
        for (key, value) in batch.records() {
            self.reduce.fold(self.shard.get(key), value, &mut self.folded)?;
            self.shard.put(key, &self.folded)?;
        }
        Ok(())
    }

    fn end_epoch(&mut self, barrier: &Barrier) -> Result<(), Failure> {
        let arrival = Instant::now();
        self.shard.commit(&barrier.commit)?;
        self.shard.end_epoch(barrier.epoch)?;
        self.shard.sync()?;
        let micros = u64::try_from(arrival.elapsed().as_micros()).unwrap_or(LONGEST);
        self.commits.saturating_record(micros.max(1));
        if let Some(durable) = &barrier.durable {
            // Nobody waiting any more is no failure of this core.
            let _ = durable.send(());
        }
        Ok(())
    }

    fn close(self) -> Result<Outcome, Failure> {
        let keys = self.shard.state().len() as u64;
        self.shard.close()?;
        Ok(Outcome { keys, commits: self.commits })
    }
}
