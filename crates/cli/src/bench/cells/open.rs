//! Opening: the state rebuilt from the log.

use std::time::Instant;

use corewal::{Commit, Keyed, Options};

use super::read::read_all;
use super::{Outcome, Stage};
use crate::bench::cell::Cell;
use crate::bench::work::{VALUE_LEN, key};
use crate::exit::Failure;

/// Records a commit.
const BATCH: u64 = 1024;

/// Opens a store that was closed in order.
pub(super) fn open(stage: &mut Stage<'_>, cores: u16, distinct: bool) -> Result<Outcome, Failure> {
    let records = stage.sizes.records;
    let keys = if distinct { records } else { stage.sizes.keys };
    fill(stage, cores, records, keys)?;
    read_all(stage.dir())?;
    let began = Instant::now();
    let opened = Options::new().create(false).open_on(stage.storage(), stage.dir(), |_| Keyed::default())?;
    let seconds = began.elapsed().as_secs_f64();
    let found: u64 = opened.shards.iter().map(|shard| shard.state().len() as u64).sum();
    if found != keys && !stage.stop.asked() {
        return Err(Failure::data(format!("{keys} keys were written, the opened store has {found}")));
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
    let figure = records as f64 / seconds;
    // One core has nothing but its target.
    let limit = if cores > 1 { (stage.earlier)(Cell::Open { cores: 1, distinct }) } else { None };
    let against = if cores > 1 { "one core".to_owned() } else { String::new() };
    Ok(Outcome { figure, limit, against, latencies: None })
}

fn fill(stage: &Stage<'_>, cores: u16, records: u64, keys: u64) -> Result<(), Failure> {
    let options = Options::new().cores(cores);
    let mut opened = options.open_on(stage.storage(), stage.dir(), |_| ())?;
    let mut random = fastrand::Rng::with_seed(1);
    let value = [9; VALUE_LEN];
    for record in 0..records {
        // Each key once, then any of them.
        let key = key(if record < keys { record } else { random.u64(..keys) });
        opened.shards[opened.store.route(&key).index()].put(&key, &value)?;
        if record % BATCH == BATCH - 1 {
            if stage.stop.asked() {
                return Ok(());
            }
            for shard in &mut opened.shards {
                shard.commit(&Commit::new())?;
            }
        }
    }
    let epoch = opened.store.next_epoch();
    for mut shard in opened.shards {
        shard.commit(&Commit::new())?;
        shard.end_epoch(epoch)?;
        shard.close()?;
    }
    Ok(())
}
