//! Reading a log back.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use corewal::format::Record;
use corewal::{Lsn, Options, Reader};

use super::{Outcome, Stage};
use crate::bench::limits;
use crate::bench::work::{Log, VALUE_LEN, number};
use crate::exit::Failure;

/// Records a commit.
const BATCH: u64 = 1024;

/// Opening a reader, which checks the whole log.
#[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
pub(super) fn check(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let records = fill(stage)?;
    read_all(stage.dir())?;
    let began = Instant::now();
    let reader = Reader::open_on(stage.storage(), stage.dir())?;
    let seconds = began.elapsed().as_secs_f64();
    let found: u64 = reader.info()?.cores.iter().map(|core| core.records).sum();
    if found < records {
        return Err(Failure::data(format!("{records} records were written, a reader finds {found}")));
    }
    outcome(stage, records, seconds)
}

/// Every record given out, its frame checked before.
pub(super) fn scan(stage: &mut Stage<'_>) -> Result<Outcome, Failure> {
    let records = fill(stage)?;
    let reader = Reader::open_on(stage.storage(), stage.dir())?;
    let (mut found, mut in_order) = (0, true);
    let began = Instant::now();
    reader.for_each_record(None, Lsn(0), |view| {
        if let Record::Put { key, .. } = view.record {
            in_order &= number(key) == Some(found);
            found += 1;
        }
        ControlFlow::Continue(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if found != records || !in_order {
        return Err(Failure::data(format!("{records} records were written, {found} were read, in order: {in_order}")));
    }
    outcome(stage, records, seconds)
}

fn fill(stage: &Stage<'_>) -> Result<u64, Failure> {
    let mut log = Log::create(stage.storage(), stage.dir(), Options::new().cores(1), VALUE_LEN)?.remove(0);
    while log.next < stage.sizes.records && !stage.stop.asked() {
        for _ in 0..BATCH.min(stage.sizes.records - log.next) {
            log.put()?;
        }
        log.commit()?;
    }
    log.writer.sync()?;
    Ok(log.next)
}

/// Against reading the same files with one checksum over each.
#[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
fn outcome(stage: &Stage<'_>, records: u64, seconds: f64) -> Result<Outcome, Failure> {
    let floor = read_all(stage.dir())?;
    Ok(Outcome {
        figure: records as f64 / seconds,
        limit: Some(records as f64 / floor),
        against: "read + CRC-32C of the same files".to_owned(),
        latencies: None,
    })
}

/// Reads all segments of a store, which brings them into the page cache if
/// they are not there (direct writes go past it). Returns the seconds it took.
pub(super) fn read_all(dir: &Path) -> io::Result<f64> {
    let mut piece = vec![0; 1 << 20];
    let began = Instant::now();
    for core in fs::read_dir(dir)? {
        let core = core?;
        if !core.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(core.path())? {
            limits::read(&file?.path(), &mut piece)?;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}
