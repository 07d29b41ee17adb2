//! Streams of commits: by depth, by batch, on two cores, in bulk.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use corewal::Options;

use super::commit::many_buffers;
use super::{Outcome, Stage};
use crate::bench::cell::{DEPTH, TWO_CORES_BATCH};
use crate::bench::check;
use crate::bench::figures::Latencies;
use crate::bench::limits::Limit;
use crate::bench::work::{BUFFER, Flow, KEY_LEN, Log, UnderWay, VALUE_LEN, stream};
use crate::exit::Failure;

const BLOCK: usize = 4 << 10;
const MIB: usize = 1 << 20;

/// Commits of one record, so many under way.
pub(super) fn in_flight(stage: &mut Stage<'_>, depth: usize) -> Result<Outcome, Failure> {
    let flow = one_log(stage, many_buffers(Options::new()), VALUE_LEN, 1, depth)?;
    let limit = Limit::writes(BLOCK, depth);
    Ok(Outcome {
        figure: flow.records_per_second,
        limit: Some(stage.limits.get(limit)?.figure),
        against: limit.to_string(),
        latencies: Some(flow.latencies),
    })
}

/// Commits of one record, so many under way: what is appended in a turn of the
/// program's loop shares a write, and the next turn begins when it is durable.
/// As with as many clients of which each waits for its own commit.
pub(super) fn turns(stage: &mut Stage<'_>, depth: usize) -> Result<Outcome, Failure> {
    let mut log = stage.log(Options::new(), VALUE_LEN)?;
    let mut under_way = UnderWay::new();
    let timer = stage.timer();
    let (first, mut turns) = (log.next, 0_u64);
    let from = log.writer.appended_lsn();
    while timer.running() {
        for _ in 0..depth {
            log.put()?;
            under_way.push(log.commit()?, Instant::now());
        }
        under_way.settle(log.writer.sync()?);
        turns += 1;
        log.trim()?;
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
    let (commits, per_turn) = (log.next - first, (log.writer.appended_lsn().get() - from.get()) as f64 / turns as f64);
    #[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
    let figure = commits as f64 / timer.seconds();
    stage.finish(log)?;
    let limit = Limit::writes(blocks(per_turn), 1);
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let most = stage.limits.get(limit)?.figure * depth as f64;
    Ok(Outcome {
        figure,
        limit: Some(most),
        against: format!("{depth} x {limit}"),
        latencies: Some(under_way.latencies),
    })
}

/// Commits of so many records.
pub(super) fn batch(stage: &mut Stage<'_>, batch: u64) -> Result<Outcome, Failure> {
    let flow = one_log(stage, many_buffers(Options::new()), VALUE_LEN, batch, DEPTH)?;
    let limit = Limit::writes(frame(&flow), DEPTH);
    let bandwidth = bandwidth(stage, limit)?;
    Ok(Outcome {
        figure: flow.records_per_second,
        limit: Some(records(&flow, batch, bandwidth)),
        against: limit.to_string(),
        latencies: Some(flow.latencies),
    })
}

/// Two cores, each with its own log and half of the depth.
pub(super) fn two_cores(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let options = many_buffers(Options::new().cores(2));
    let mut logs = stage.logs(options, VALUE_LEN)?;
    let start = Barrier::new(logs.len());
    let processors = core_affinity::get_core_ids().unwrap_or_default();
    let (start, stage_ref) = (&start, &*stage);
    let (stop, sizes) = (stage_ref.stop, stage_ref.sizes);
    let flows: Vec<Flow> = thread::scope(|scope| {
        let running: Vec<_> = logs
            .iter_mut()
            .enumerate()
            .map(|(index, log)| {
                let processor = processors.get(index).copied();
                scope.spawn(move || {
                    if let Some(processor) = processor {
                        // It works elsewhere too.
                        let _ = core_affinity::set_for_current(processor);
                    }
                    start.wait();
                    stream(log, TWO_CORES_BATCH, DEPTH / 2, &stop.timer(sizes.cell))
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<corewal::Result<_>>()
    })?;
    let held: Vec<_> = logs.iter().map(Log::held).collect();
    drop(logs);
    check::numbers(stage.storage(), stage.dir(), &held)?;
    let mut latencies = Latencies::new();
    flows.iter().for_each(|flow| latencies.add(&flow.latencies));
    let limit = Limit::Write { block: frame(&flows[0]), in_flight: DEPTH / 2, threads: 2 };
    let bandwidth = bandwidth(stage, limit)?;
    Ok(Outcome {
        figure: flows.iter().map(|flow| flow.records_per_second).sum(),
        limit: Some(records(&flows[0], TWO_CORES_BATCH, bandwidth)),
        against: limit.to_string(),
        latencies: Some(latencies),
    })
}

/// Records of 4 KiB with a sync each MiB, so many MiB under way. A frame is a
/// MiB, as is a write that it is compared with.
pub(super) fn bulk(stage: &mut Stage<'_>, depth: usize) -> Result<Outcome, Failure> {
    // As many records as fit into one frame with its header and their commit.
    const BATCH: u64 = 252;
    const VALUE: usize = 4 << 10;
    let options = Options::new().buffer_bytes(MIB).buffers(depth + 2);
    let flow = one_log(stage, options, VALUE, BATCH, depth)?;
    let limit = Limit::writes(MIB, depth);
    #[allow(clippy::cast_precision_loss, reason = "a record is small")]
    let figure = flow.records_per_second * (KEY_LEN + VALUE) as f64;
    Ok(Outcome {
        figure,
        limit: Some(bandwidth(stage, limit)?),
        against: limit.to_string(),
        latencies: Some(flow.latencies),
    })
}

fn one_log(stage: &Stage<'_>, options: Options, value_len: usize, batch: u64, depth: usize) -> Result<Flow, Failure> {
    let mut log = stage.log(options, value_len)?;
    let flow = stream(&mut log, batch, depth, &stage.timer())?;
    stage.finish(log)?;
    Ok(flow)
}

/// The size of the writes that a commit makes: whole blocks, at most a buffer.
fn frame(flow: &Flow) -> usize {
    blocks(flow.bytes_per_commit)
}

/// So many bytes of log in whole blocks, at most a buffer.
fn blocks(bytes: f64) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some blocks")]
    let blocks = (bytes / BLOCK as f64).round() as usize;
    (blocks.max(1) * BLOCK).min(BUFFER)
}

fn bandwidth(stage: &mut Stage<'_>, limit: Limit) -> Result<f64, Failure> {
    let figure = stage.limits.get(limit)?.figure;
    Ok(limit.bandwidth(figure).expect("a limit of writes"))
}

/// The records a second that a bandwidth has room for.
#[allow(clippy::cast_precision_loss, reason = "a batch is small")]
fn records(flow: &Flow, batch: u64, bandwidth: f64) -> f64 {
    bandwidth * batch as f64 / flow.bytes_per_commit
}
