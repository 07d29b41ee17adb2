//! The work that is measured: numbered records into a log, commits under way.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use corewal::io::FileStorage;
use corewal::{Commit, Lsn, Options, Recover, Writer};

use super::figures::Latencies;
use super::timer::{Stop, Timer};

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 16;
/// Bytes of a value, unless a cell says otherwise.
pub(super) const VALUE_LEN: usize = 100;

/// The size of a writer's buffer, and so of the largest frame of small records:
/// the library's own.
pub(super) const BUFFER: usize = 128 << 10;

/// A log of so many bytes is released up to where it is durable, as a program
/// with checkpoints does: two segments of the usual size, which are then
/// written over again.
const LONG: u64 = 128 << 20;

/// So many bytes are written beforehand: the first segments, which are smaller
/// and filled with zeros, are gone, and nothing more of that is under way.
const WARM: u64 = 4 * LONG;

/// Records a commit while a log is warmed up: about a MiB.
const WARM_BATCH: u64 = 8192;

/// The key of a record: its number, and the number's own scramble.
pub(super) fn key(number: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key[8..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    key
}

/// The number of a key.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(key.first_chunk().copied()?);
    (key == self::key(number)).then_some(number)
}

/// A bare log that takes records in the order of their numbers.
pub(super) struct Log {
    pub(super) writer: Writer,
    value: Vec<u8>,
    commit: Commit,
    /// The number of the next record.
    pub(super) next: u64,
    /// The number of a record before which nothing need be in the log: it may
    /// have been released.
    kept_from: u64,
}

impl Log {
    /// Creates the logs of a store, one a core.
    pub(super) fn create(
        storage: FileStorage,
        dir: &Path,
        options: Options,
        value_len: usize,
    ) -> corewal::Result<Vec<Self>> {
        let (writers, _) = options.recover(Recover::Latest).open_writers(storage, dir)?;
        let log = |writer| Self { writer, value: vec![9; value_len], commit: Commit::new(), next: 0, kept_from: 0 };
        Ok(writers.into_iter().map(log).collect())
    }

    /// Appends a record, waiting for a buffer as often as it takes, and hands
    /// over what is full.
    #[inline]
    pub(super) fn put(&mut self) -> corewal::Result<()> {
        self.append()?;
        self.writer.submit_full()
    }

    /// Appends a record, and hands nothing over as long as there are buffers.
    #[inline]
    pub(super) fn append(&mut self) -> corewal::Result<()> {
        let key = key(self.next);
        while let Err(error) = self.writer.put(&key, &self.value) {
            self.make_room(error)?;
        }
        self.next += 1;
        Ok(())
    }

    /// Ends a batch.
    #[inline]
    pub(super) fn commit(&mut self) -> corewal::Result<Lsn> {
        loop {
            match self.writer.commit(&self.commit) {
                Ok(lsn) => return Ok(lsn),
                Err(error) => self.make_room(error)?,
            }
        }
    }

    #[cold]
    fn make_room(&mut self, error: corewal::Error) -> corewal::Result<()> {
        if !error.is_full() {
            return Err(error);
        }
        self.writer.submit()?;
        self.writer.wait().map(drop)
    }

    /// Releases what lies behind, between batches.
    #[inline]
    pub(super) fn trim(&mut self) -> corewal::Result<()> {
        let durable = self.writer.durable_lsn();
        if durable.get() - self.writer.start_lsn().get() < LONG {
            return Ok(());
        }
        let before = self.writer.start_lsn();
        while let Err(error) = self.writer.release_below(durable) {
            self.make_room(error)?;
        }
        if self.writer.start_lsn() > before {
            self.kept_from = self.next;
        }
        Ok(())
    }

    /// The records that must be in the log once all of it is durable. There may
    /// be some before them.
    pub(super) fn held(&self) -> Range<u64> {
        self.kept_from..self.next
    }

    /// Brings the log to where it is after a while: its segments go round.
    pub(super) fn warm_up(&mut self, stop: &Stop) -> corewal::Result<()> {
        let begin = self.writer.appended_lsn().get();
        while self.writer.appended_lsn().get() - begin < WARM && !stop.asked() {
            for _ in 0..WARM_BATCH {
                self.put()?;
            }
            self.commit()?;
            self.writer.sync()?;
            self.trim()?;
        }
        Ok(())
    }
}

/// Commits under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    commits: VecDeque<(Lsn, Instant)>,
    pub(super) latencies: Latencies,
}

impl UnderWay {
    pub(super) fn new() -> Self {
        Self { commits: VecDeque::new(), latencies: Latencies::new() }
    }

    /// A commit that is durable when `lsn` is; its latency counts from `since`.
    pub(super) fn push(&mut self, lsn: Lsn, since: Instant) {
        self.commits.push_back((lsn, since));
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Everything below `durable` is durable now.
    pub(super) fn settle(&mut self, durable: Lsn) {
        if self.commits.front().is_none_or(|(lsn, _)| *lsn > durable) {
            return;
        }
        let now = Instant::now();
        while let Some((_, since)) = self.commits.pop_front_if(|(lsn, _)| *lsn <= durable) {
            self.latencies.record(now - since);
        }
    }
}

/// What a stream of commits gave.
#[derive(Debug)]
pub(super) struct Flow {
    /// Records a second, all of them durable.
    pub(super) records_per_second: f64,
    /// Bytes of log a commit.
    pub(super) bytes_per_commit: f64,
    /// From the commit of a batch to its durability.
    pub(super) latencies: Latencies,
}

/// Commits batches of `batch` records, each with a sync of its own, `depth` of
/// them under way while the next is put together, until the time is over and
/// all are durable.
#[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
pub(super) fn stream(log: &mut Log, batch: u64, depth: usize, timer: &Timer) -> corewal::Result<Flow> {
    let mut under_way = UnderWay::new();
    let (first, from) = (log.next, log.writer.appended_lsn());
    let mut commits = 0_u64;
    while timer.running() {
        for _ in 0..batch {
            log.put()?;
        }
        let since = Instant::now();
        let lsn = log.commit()?;
        log.writer.queue_sync()?;
        under_way.push(lsn, since);
        while under_way.len() >= depth {
            under_way.settle(log.writer.wait()?);
        }
        commits += 1;
        log.trim()?;
    }
    while !under_way.is_empty() {
        under_way.settle(log.writer.wait()?);
    }
    let seconds = timer.seconds();
    let bytes = log.writer.appended_lsn().get() - from.get();
    Ok(Flow {
        records_per_second: (log.next - first) as f64 / seconds,
        bytes_per_commit: bytes as f64 / commits.max(1) as f64,
        latencies: under_way.latencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_and_nothing_else() {
        assert_eq!(number(&key(77)), Some(77));
        assert_eq!(number(&[1; KEY_LEN]), None);
        assert_eq!(number(b"short"), None);
    }
}
