//! Durable writes without a log, by the best way that there is.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use corewal::io::{AlignedBuf, FileStorage, OpenMode, Operation, Storage as _, StorageIo as _};

use super::figures::Latencies;

/// The way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Direct writes by io_uring, as many in flight as asked.
    #[cfg(target_os = "linux")]
    Uring,
    /// Direct writes by pwritev2, one at a time.
    #[cfg(target_os = "linux")]
    Pwritev2,
    /// Where there are no direct writes: through the page cache, each with its
    /// sync, one at a time.
    Buffered,
}

/// What the writes gave.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) per_second: f64,
    pub(super) latencies: Latencies,
}

impl Way {
    /// The best that works in `dir`.
    pub(super) fn best(dir: &Path) -> Self {
        let ways: &[Self] = &[
            #[cfg(target_os = "linux")]
            Self::Uring,
            #[cfg(target_os = "linux")]
            Self::Pwritev2,
        ];
        let works = |way: &&Self| way.durable_writes(&dir.join("probe"), 4096, 1, 4096, Duration::ZERO).is_ok();
        ways.iter().find(works).copied().unwrap_or(Self::Buffered)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uring => "io_uring, direct",
            #[cfg(target_os = "linux")]
            Self::Pwritev2 => "pwritev2, direct, never more than one in flight",
            Self::Buffered => "through the page cache, never more than one in flight",
        }
    }

    /// Writes blocks over a file of `span` bytes that was written before, each
    /// with its own sync. The file at `path` is made for it and removed.
    pub(super) fn durable_writes(
        self,
        path: &Path,
        block: usize,
        in_flight: usize,
        span: u64,
        duration: Duration,
    ) -> io::Result<Writes> {
        let measured = match self {
            #[cfg(target_os = "linux")]
            Self::Uring => direct(corewal::io::raw::Engine::Uring, path, block, in_flight, span, duration),
            #[cfg(target_os = "linux")]
            Self::Pwritev2 => direct(corewal::io::raw::Engine::Pwritev2, path, block, 1, span, duration),
            Self::Buffered => buffered(path, block, span, duration),
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => measured,
        }
    }
}

#[cfg(target_os = "linux")]
fn direct(
    engine: corewal::io::raw::Engine,
    path: &Path,
    block: usize,
    in_flight: usize,
    span: u64,
    duration: Duration,
) -> io::Result<Writes> {
    let raw = corewal::io::raw::durable_writes(engine, path, block, in_flight, span, duration)?;
    let mut latencies = Latencies::new();
    raw.latencies_ns.iter().for_each(|&nanos| latencies.record(Duration::from_nanos(nanos)));
    #[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
    let per_second = raw.writes as f64 / raw.elapsed.as_secs_f64();
    Ok(Writes { per_second, latencies })
}

fn buffered(path: &Path, block: usize, span: u64, duration: Duration) -> io::Result<Writes> {
    let storage = FileStorage::new().direct(false);
    let file = storage.open(path, OpenMode::CreateNew)?;
    storage.zero(&file, 0, span)?;
    storage.settle(&file, span)?;
    let mut io = storage.io(0)?;
    let (mut offset, mut buffer) = (0, AlignedBuf::new(block));
    let (mut writes, mut latencies) = (0_u32, Latencies::new());
    let began = Instant::now();
    while began.elapsed() < duration {
        let now = Instant::now();
        let write = Operation::Write { file: file.clone(), offset, buffer, range: 0..block, data_sync: true };
        let written = io.perform(write)?;
        if written.result? != block {
            return Err(io::ErrorKind::WriteZero.into());
        }
        latencies.record(now.elapsed());
        writes += 1;
        buffer = written.buffer.expect("a write gives its buffer back");
        offset = if offset + 2 * block as u64 > span { 0 } else { offset + block as u64 };
    }
    Ok(Writes { per_second: f64::from(writes) / began.elapsed().as_secs_f64(), latencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_that_works_gives_a_rate_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        for way in [Way::best(dir.path()), Way::Buffered] {
            let path = dir.path().join("raw");
            let writes = way.durable_writes(&path, 8192, 2, 1 << 20, Duration::from_millis(20)).unwrap();
            assert!(writes.per_second > 0.0 && writes.latencies.quantile(0.5).is_some(), "{}", way.name());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
