//! Operations that a caller names, in the place of chance.

use corewal::Lsn;
use corewal::io::SimSnapshot;

use super::Outcome;
use super::life::{Life, TheShard};

/// Frames that a segment is filled with at most.
const FRAMES: usize = 8;

impl Life<'_> {
    pub(crate) fn cores(&self) -> usize {
        self.keys.len()
    }

    /// Starts or stops keeping what the disk is like after each step.
    pub(crate) fn record(&self, on: bool) {
        self.disk.record_snapshots(on);
        if !on {
            drop(self.disk.take_snapshots());
        }
    }

    /// The disk as it is, and the oracle that holds for it.
    pub(crate) fn now(&self) -> (SimSnapshot, super::Oracle) {
        (self.disk.snapshot(), self.oracle.clone())
    }

    /// A commit of one value of so many bytes, handed to the disk.
    pub(crate) fn append(&mut self, core: usize, len: usize) -> Outcome {
        let number = self.oracle.cores[core].next_number as usize;
        let key = self.keys[core][number % self.keys[core].len()].clone();
        self.put(core, key, vec![number as u8 | 1; len])?;
        self.commit(core)?;
        self.plain(core, "submit", TheShard::submit)
    }

    pub(crate) fn sync(&mut self, core: usize) -> Outcome {
        self.plain(core, "sync", |shard| shard.sync().map(drop))
    }

    /// Ends the epoch on all cores, without waiting for the disk.
    pub(crate) fn close_epoch(&mut self) -> Outcome {
        self.end_epoch()?;
        (0..self.cores()).try_for_each(|core| self.plain(core, "poll", |shard| shard.poll().map(drop)))
    }

    /// Fills a core's segment with small commits, until the log goes on in the
    /// next.
    pub(crate) fn rotate(&mut self, core: usize, segment_bytes: u64) -> Outcome {
        let segment = |life: &Self| life.open().shards[core].log().appended_lsn().get() / segment_bytes;
        let first = segment(self);
        for _ in 0..FRAMES {
            self.append(core, 40)?;
            if segment(self) > first {
                return Ok(());
            }
        }
        Err(format!("{FRAMES} frames do not fill a segment of core {core}"))
    }

    /// Gives back of a core's log what the checkpoints cover, until nothing
    /// more is given back.
    pub(crate) fn release(&mut self, core: usize) -> Outcome {
        let start = |life: &Self| -> Lsn { life.open().shards[core].log().start_lsn() };
        loop {
            let before = start(self);
            self.sync(core)?;
            self.plain(core, "poll", |shard| shard.poll().map(drop))?;
            if start(self) == before {
                return Ok(());
            }
        }
    }

    /// The process dies and starts again on the same disk.
    pub(crate) fn restart(&mut self) -> Outcome {
        self.reopen().map(drop)
    }

    pub(crate) fn make_checkpoint(&mut self) -> Outcome {
        self.checkpoint()
    }
}
