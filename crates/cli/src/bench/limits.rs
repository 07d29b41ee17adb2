//! The machine's limits: what memory, the processor and the disk give when
//! nothing but the bare work is done.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crc_fast::{CrcAlgorithm, Digest};

use super::figures::{Latencies, Spread, Unit};
use super::raw::{Way, Writes};
use super::sizes::Sizes;
use super::timer::Stop;
use super::work::{BUFFER, KEY_LEN, VALUE_LEN};
use crate::exit::Failure;

/// The ring into which records are copied.
const RING: usize = BUFFER;
/// A file is read in pieces of this size.
const PIECE: usize = 1 << 20;

/// The length of the file that is read: too long for the processor's caches.
const READ: usize = 128 << 20;

/// The checksum of corewal's format, by the fastest library that we know.
const CRC_32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limit {
    /// A record copied into a ring, with a CRC-32C of its own.
    Copy,
    /// Durable writes over blocks that were written before.
    Write {
        /// Bytes a write.
        block: usize,
        /// Writes under way, by thread.
        in_flight: usize,
        /// Threads, each with a file of its own.
        threads: usize,
    },
    /// A file in the page cache read in sequence, with a CRC-32C over it.
    Read,
}

impl Limit {
    /// Writes by one thread.
    pub(super) fn writes(block: usize, in_flight: usize) -> Self {
        Self::Write { block, in_flight, threads: 1 }
    }

    /// Those that are always measured.
    pub(super) fn basic() -> Vec<Self> {
        let mut all = vec![Self::Copy];
        all.extend([1, 8, 32].map(|in_flight| Self::writes(4 << 10, in_flight)));
        for block in [64 << 10, 128 << 10, 512 << 10, 1 << 20] {
            all.extend([1, 4, 8].map(|in_flight| Self::writes(block, in_flight)));
        }
        all.push(Self::Read);
        all
    }

    /// What its figure counts.
    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Copy => Unit::NanosPerRecord,
            Self::Write { .. } => Unit::Commits,
            Self::Read => Unit::Bytes,
        }
    }

    /// Bytes a second of a figure, where there is such a thing.
    pub(super) fn bandwidth(self, figure: f64) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss, reason = "a block is small")]
            Self::Write { block, .. } => Some(figure * block as f64),
            Self::Copy | Self::Read => None,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::Copy => format!("copy {} B + CRC-32C", KEY_LEN + VALUE_LEN),
            Self::Write { block, in_flight, threads } => {
                let threads = if threads > 1 { format!("{threads} x ") } else { String::new() };
                format!("write {}, {threads}{in_flight} in flight", kib(block))
            }
            Self::Read => "read + CRC-32C".to_owned(),
        };
        f.pad(&name)
    }
}

fn kib(bytes: usize) -> String {
    match bytes >> 10 {
        kib if kib >= 1024 && kib.is_multiple_of(1024) => format!("{} MiB", kib >> 10),
        kib => format!("{kib} KiB"),
    }
}

/// One limit over all runs.
#[derive(Clone, Debug)]
pub(super) struct LimitRow {
    /// By measurement.
    pub(super) figure: Spread,
    /// Of all writes.
    pub(super) latencies: Latencies,
}

/// One measurement of a limit.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// In the limit's unit.
    pub(super) figure: f64,
    /// Of its writes.
    pub(super) latencies: Latencies,
}

/// Measures limits when they are asked for, and remembers them.
#[derive(Debug)]
pub(super) struct Limits {
    dir: PathBuf,
    sizes: Sizes,
    stop: Stop,
    /// How the writes are made.
    pub(super) way: Way,
    fresh: BTreeMap<Limit, Sample>,
    /// All that was measured.
    pub(super) rows: BTreeMap<Limit, LimitRow>,
}

impl Limits {
    /// `dir` is where the files for the writes are made.
    pub(super) fn new(dir: &Path, sizes: Sizes, stop: Stop) -> Self {
        Self { dir: dir.to_owned(), sizes, stop, way: Way::best(dir), fresh: BTreeMap::new(), rows: BTreeMap::new() }
    }

    /// What was measured so far is no longer fresh: the next cell has its
    /// limit measured beside it again.
    pub(super) fn expire(&mut self) {
        self.fresh.clear();
    }

    /// A fresh measurement, or one that still is.
    pub(super) fn get(&mut self, limit: Limit) -> Result<Sample, Failure> {
        if let Some(sample) = self.fresh.get(&limit) {
            return Ok(sample.clone());
        }
        let sample = self.measure(limit).map_err(|error| {
            Failure::from(error).context(format!("can't measure `{limit}` in {}", self.dir.display()))
        })?;
        let row = self
            .rows
            .entry(limit)
            .or_insert_with(|| LimitRow { figure: Spread::default(), latencies: Latencies::new() });
        row.figure.push(sample.figure);
        row.latencies.add(&sample.latencies);
        self.fresh.insert(limit, sample.clone());
        Ok(sample)
    }

    fn measure(&self, limit: Limit) -> io::Result<Sample> {
        match limit {
            Limit::Copy => Ok(Sample { figure: self.copy(), latencies: Latencies::new() }),
            Limit::Write { block, in_flight, threads } => self.write(block, in_flight, threads),
            Limit::Read => self.read(),
        }
    }

    fn read(&self) -> io::Result<Sample> {
        let (path, mut piece) = (self.dir.join("read"), vec![0; PIECE]);
        let mut file = File::create(&path)?;
        (0..READ / PIECE).try_for_each(|_| file.write_all(&piece))?;
        read(&path, &mut piece)?; // into the page cache, if it was not
        let began = Instant::now();
        let bytes = read(&path, &mut piece)?;
        #[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
        let figure = bytes as f64 / began.elapsed().as_secs_f64();
        fs::remove_file(&path)?;
        Ok(Sample { figure, latencies: Latencies::new() })
    }

    fn copy(&self) -> f64 {
        let (mut ring, key, value) = (vec![0_u8; RING], [7_u8; KEY_LEN], [9_u8; VALUE_LEN]);
        let timer = self.stop.timer(self.sizes.limit);
        let (mut records, mut at) = (0_u32, 0);
        while timer.running() {
            for _ in 0..1000 {
                let end = at + KEY_LEN + VALUE_LEN;
                ring[at..at + KEY_LEN].copy_from_slice(black_box(&key));
                ring[at + KEY_LEN..end].copy_from_slice(black_box(&value));
                black_box(crc_fast::checksum(CRC_32C, &ring[at..end]));
                at = if end + KEY_LEN + VALUE_LEN > RING { 0 } else { end };
            }
            records += 1000;
        }
        timer.seconds() * 1e9 / f64::from(records)
    }

    fn write(&self, block: usize, in_flight: usize, threads: usize) -> io::Result<Sample> {
        let parts: Vec<Writes> = thread::scope(|scope| {
            let work = |thread| scope.spawn(move || self.write_file(thread, block, in_flight));
            let running: Vec<_> = (0..threads).map(work).collect();
            running.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<io::Result<_>>()
        })?;
        let mut latencies = Latencies::new();
        parts.iter().for_each(|part| latencies.add(&part.latencies));
        Ok(Sample { figure: parts.iter().map(|part| part.per_second).sum(), latencies })
    }

    fn write_file(&self, thread: usize, block: usize, in_flight: usize) -> io::Result<Writes> {
        let path = self.dir.join(format!("raw-{thread}"));
        // Enough for all that is in flight; no more than it takes, so that two
        // threads are ready at about the same time.
        let span = self.sizes.span.max((2 * block * in_flight) as u64);
        self.way.durable_writes(&path, block, in_flight, span, self.sizes.limit)
    }
}

/// Reads a file in sequence, with a checksum over it. Returns its length.
pub(super) fn read(path: &Path, piece: &mut [u8]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut bytes, mut sum) = (0, Digest::new(CRC_32C));
    loop {
        let len = file.read(piece)?;
        if len == 0 {
            black_box(sum.finalize());
            return Ok(bytes);
        }
        sum.update(&piece[..len]);
        bytes += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn every_kind_gives_a_figure_and_is_fresh_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let sizes = Sizes { limit: std::time::Duration::from_millis(5), span: 4 << 20, ..Sizes::quick() };
        let mut limits = Limits::new(dir.path(), sizes, Stop(Arc::default()));
        let two = Limit::Write { block: 8192, in_flight: 4, threads: 2 };
        for limit in [Limit::Copy, Limit::Read, Limit::writes(4096, 1), two] {
            assert!(limits.get(limit).unwrap().figure > 0.0, "{limit}");
        }
        let (first, again) = (limits.get(two).unwrap().figure, limits.get(two).unwrap().figure);
        assert_eq!(first.to_bits(), again.to_bits());
        limits.expire();
        limits.get(two).unwrap();
        let row = &limits.rows[&two];
        assert!(row.figure.min() <= row.figure.max() && row.latencies.quantile(0.5).is_some());
    }

    #[test]
    fn names_say_size_and_depth() {
        assert_eq!(Limit::writes(4 << 10, 32).to_string(), "write 4 KiB, 32 in flight");
        assert_eq!(Limit::writes(1 << 20, 1).to_string(), "write 1 MiB, 1 in flight");
        let two = Limit::Write { block: 12 << 10, in_flight: 8, threads: 2 };
        assert_eq!(two.to_string(), "write 12 KiB, 2 x 8 in flight");
    }
}
