//! Durable keyed state.

use std::time::Instant;

use corewal::{Commit, Keyed, Options, Recover};

use super::commit::many_buffers;
use super::{Outcome, Stage};
use crate::bench::cell::DEPTH;
use crate::bench::limits::Limit;
use crate::bench::work::{BUFFER, UnderWay, VALUE_LEN, key};
use crate::exit::Failure;

/// Puts a commit.
const BATCH: u64 = 1024;

/// Puts over few keys, each commit with a sync of its own.
#[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
pub(super) fn keyed(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let options = || many_buffers(Options::new().cores(1).recover(Recover::Latest));
    let mut opened = options().open_on(stage.storage(), stage.dir(), |_| Keyed::default())?;
    let shard = &mut opened.shards[0];
    let mut random = fastrand::Rng::with_seed(1);
    let mut newest = vec![0_u64; usize::try_from(stage.sizes.keys)?];
    let (mut value, commit) = ([9; VALUE_LEN], Commit::new());
    let (mut puts, mut under_way) = (0_u64, UnderWay::new());
    let from = shard.log().appended_lsn();
    let timer = stage.timer();
    while timer.running() {
        for _ in 0..BATCH {
            puts += 1;
            let number = random.usize(..newest.len());
            newest[number] = puts;
            value[..8].copy_from_slice(&puts.to_le_bytes());
            shard.put(&key(number as u64), &value)?;
        }
        let since = Instant::now();
        under_way.push(shard.commit(&commit)?, since);
        shard.request_sync()?;
        under_way.settle(shard.poll()?);
        // The buffers hold back what gets too far ahead.
    }
    under_way.settle(shard.sync()?);
    let seconds = timer.seconds();
    let bytes_per_put = (shard.log().appended_lsn().get() - from.get()) as f64 / puts as f64;
    drop(opened);

    let opened = options().create(false).open_on(stage.storage(), stage.dir(), |_| Keyed::default())?;
    for (number, &put) in (0_u64..).zip(&newest) {
        let found = opened.shards[0].get(&key(number)).and_then(|value| value.first_chunk().copied());
        if found.map_or(0, u64::from_le_bytes) != put {
            return Err(Failure::data(format!("key {number} was last put by put {put}, the store has {found:?}")));
        }
    }
    drop(opened);
    let limit = Limit::writes(BUFFER, DEPTH);
    let bandwidth = stage.limits.get(limit)?.figure * BUFFER as f64;
    Ok(Outcome {
        figure: puts as f64 / seconds,
        limit: Some(bandwidth / bytes_per_put),
        against: limit.to_string(),
        latencies: Some(under_way.latencies),
    })
}
