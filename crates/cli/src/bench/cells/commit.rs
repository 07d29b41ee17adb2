//! Single commits: one at a time, and as they arrive.

use std::time::{Duration, Instant};

use corewal::Options;

use super::{Outcome, Stage};
use crate::bench::cell::{Cell, DEPTH};
use crate::bench::figures::Latencies;
use crate::bench::limits::Limit;
use crate::bench::nap::Nap;
use crate::bench::work::{UnderWay, VALUE_LEN, stream};
use crate::exit::Failure;

/// A commit takes one block.
const BLOCK: usize = 4 << 10;
/// More commits under way than this: new ones wait, and their waiting counts.
const MOST: usize = 1024;

/// One durable commit after the other.
pub(super) fn single(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let mut log = stage.log(Options::new(), VALUE_LEN)?;
    let mut latencies = Latencies::new();
    let timer = stage.timer();
    while timer.running() {
        let began = Instant::now();
        log.put()?;
        log.commit()?;
        log.writer.sync()?;
        latencies.record(began.elapsed());
        log.trim()?;
    }
    stage.finish(log)?;
    let limit = Limit::writes(BLOCK, 1);
    let raw = stage.limits.get(limit)?.latencies;
    Ok(Outcome {
        figure: latencies.quantile(0.5).unwrap_or(f64::NAN),
        limit: raw.quantile(0.5),
        against: format!("{limit}, p50"),
        latencies: Some(latencies),
    })
}

/// Commits that arrive at a fixed rate, half of the peak, whether or not
/// earlier ones are done. Latency counts from the moment a commit was due, so
/// a stall shows in every commit that it held up. In between the thread sleeps,
/// as a reactor does: one that spins keeps the kernel's own threads, which end
/// its writes, off its processor.
pub(super) fn half_load(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let mut log = stage.log(many_buffers(Options::new()), VALUE_LEN)?;
    let peak = match (stage.earlier)(Cell::InFlight(DEPTH)) {
        Some(peak) => peak,
        None => stream(&mut log, 1, DEPTH, &stage.timer())?.records_per_second,
    };
    let gap = Duration::from_secs_f64(2.0 / peak.max(1.0));
    let mut under_way = UnderWay::new();
    let timer = stage.stop.timer(2 * stage.sizes.cell);
    let mut due = timer.began();
    let mut nap = Nap::new(&mut log.writer)?;
    while timer.running() {
        let now = Instant::now();
        let first = log.next;
        // All that are due share a sync, as in a program's turn of its loop.
        while due <= now && under_way.len() < MOST {
            log.put()?;
            under_way.push(log.commit()?, due);
            due += gap;
        }
        if log.next > first {
            log.writer.request_sync()?;
            log.trim()?;
        }
        under_way.settle(log.writer.poll()?);
        nap.until(due);
    }
    while !under_way.is_empty() {
        under_way.settle(log.writer.wait()?);
    }
    stage.finish(log)?;
    let latencies = under_way.latencies;
    Ok(Outcome {
        figure: latencies.quantile(0.99).unwrap_or(f64::NAN),
        limit: latencies.quantile(0.5),
        against: "its own p50".to_owned(),
        latencies: Some(latencies),
    })
}

/// Buffers for as many commits under way as any cell has.
pub(super) fn many_buffers(options: Options) -> Options {
    options.buffers(2 * DEPTH)
}
