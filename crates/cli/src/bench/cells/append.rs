//! Appending: into the writer's buffers, and on to the disk.

use std::time::{Duration, Instant};

use corewal::Options;

use super::{Outcome, Stage};
use crate::bench::limits::Limit;
use crate::bench::work::{BUFFER, VALUE_LEN, stream};
use crate::exit::Failure;

/// Buffers that are filled before anything is written.
const BUFFERS: usize = 32;
/// Writes under way that a stream is compared with.
const IN_FLIGHT: usize = 4;
/// Records a commit: some 8 MiB.
const BATCH: u64 = 65_536;

/// Fills the writer's buffers, again and again; the writing between is not
/// counted.
pub(super) fn encode(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let options = Options::new().buffers(BUFFERS).buffer_bytes(BUFFER);
    let mut log = stage.log(options, VALUE_LEN)?;
    let (mut spent, mut records) = (Duration::ZERO, 0_u64);
    let timer = stage.timer();
    // The last buffer stays free, so that none is waited for.
    let round = ((BUFFERS - 1) * BUFFER / 140) as u64;
    while timer.running() {
        let began = Instant::now();
        for _ in 0..round {
            log.append()?;
        }
        spent += began.elapsed();
        records += round;
        log.commit()?;
        log.writer.sync()?;
        log.trim()?;
    }
    stage.finish(log)?;
    #[allow(clippy::cast_precision_loss, reason = "a figure has few digits")]
    let figure = spent.as_secs_f64() * 1e9 / records as f64;
    let limit = stage.limits.get(Limit::Copy)?.figure;
    Ok(Outcome { figure, limit: Some(limit), against: Limit::Copy.to_string(), latencies: None })
}

/// Streams records to the disk; all are durable at the end.
pub(super) fn to_disk(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let options = Options::new().buffer_bytes(BUFFER);
    let mut log = stage.log(options, VALUE_LEN)?;
    let flow = stream(&mut log, BATCH, 2, &stage.timer())?;
    stage.finish(log)?;

    let copy = stage.limits.get(Limit::Copy)?.figure;
    let disk = Limit::writes(BUFFER, IN_FLIGHT);
    #[allow(clippy::cast_precision_loss, reason = "a figure has few digits")]
    let (bytes_per_record, block) = (flow.bytes_per_commit / BATCH as f64, BUFFER as f64);
    let write = bytes_per_record * 1e9 / (stage.limits.get(disk)?.figure * block);
    let (limit, against) = if copy > write { (copy, Limit::Copy) } else { (write, disk) };
    Ok(Outcome {
        figure: 1e9 / flow.records_per_second,
        limit: Some(limit),
        against: against.to_string(),
        latencies: None,
    })
}
