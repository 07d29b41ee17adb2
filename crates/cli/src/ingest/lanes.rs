//! The reader's side of the channels: one lane a core.
//!
//! Records travel in batches; a barrier goes behind them on every lane, so it
//! cuts the input at the same place for all cores (Chandy and Lamport,
//! "Distributed Snapshots", 1985). The lanes are bounded: a reader that is
//! faster than the cores waits for them.

use std::sync::Arc;

use corewal::{Commit, Epoch, Router};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::Batch;

/// Messages that may wait on a lane. Enough to go on reading during a sync.
const DEPTH: usize = 16;

/// The end of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Barrier {
    /// The epoch that ends.
    pub(super) epoch: Epoch,
    /// What every core commits with it.
    pub(super) commit: Arc<Commit>,
    /// Told by each core when its part is durable, if somebody waits for it.
    pub(super) durable: Option<Sender<()>>,
}

/// What goes to a core.
#[derive(Debug)]
pub(super) enum Message {
    /// Records of its keys.
    Batch(Batch),
    /// The end of an epoch.
    Barrier(Barrier),
    /// The end of the run: close the log in order. A lane that ends without
    /// this was given up, and what came after the last barrier is dropped.
    Close,
}

/// A core that no longer takes anything: its thread failed and knows why.
#[derive(Debug)]
pub(super) struct Gone;

/// A core's side of its lane.
pub(super) struct Inlet {
    /// What to do.
    pub(super) messages: Receiver<Message>,
    /// Where emptied batches go back to.
    pub(super) spare: Sender<Batch>,
}

/// The lanes of all cores.
pub(super) struct Lanes {
    router: Router,
    lanes: Vec<Lane>,
}

struct Lane {
    batch: Batch,
    messages: Sender<Message>,
    spare: Receiver<Batch>,
}

impl Lanes {
    /// A lane for each core of the router, and the other ends of them.
    pub(super) fn new(router: Router) -> (Self, Vec<Inlet>) {
        let pairs = (0..router.cores()).map(|_| {
            let (messages, messages_out) = bounded(DEPTH);
            let (spare_in, spare) = bounded(DEPTH + 2);
            let lane = Lane { batch: Batch::default(), messages, spare };
            (lane, Inlet { messages: messages_out, spare: spare_in })
        });
        let (lanes, inlets) = pairs.unzip();
        (Self { router, lanes }, inlets)
    }

    /// Sends a record to the core that owns its key.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Gone> {
        let lane = &mut self.lanes[self.router.route(key).index()];
        lane.batch.push(key, value);
        if lane.batch.is_full() { lane.flush() } else { Ok(()) }
    }

    /// Sends a barrier to all cores, behind all records so far.
    pub(super) fn cut(&mut self, barrier: &Barrier) -> Result<(), Gone> {
        self.send_all(|| Message::Barrier(barrier.clone()))
    }

    /// Tells all cores to close.
    pub(super) fn close(mut self) -> Result<(), Gone> {
        self.send_all(|| Message::Close)
    }

    fn send_all(&mut self, message: impl Fn() -> Message) -> Result<(), Gone> {
        for lane in &mut self.lanes {
            lane.flush()?;
            lane.messages.send(message()).map_err(|_| Gone)?;
        }
        Ok(())
    }
}

impl Lane {
    fn flush(&mut self) -> Result<(), Gone> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let next = self.spare.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, next);
        self.messages.send(Message::Batch(batch)).map_err(|_| Gone)
    }
}
