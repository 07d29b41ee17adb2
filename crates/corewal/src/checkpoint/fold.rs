//! Folding: from a part of a core's log to sorted runs. Of each key the last
//! change is kept.

use corewal_format::{Epoch, Lsn, Record, RunRef};
use corewal_io::Storage;

use super::Context;
use super::run::RunWriter;
use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::parallel::{Courtesy, RECORD};
use crate::planted::PlantedBug;
use crate::scan::{Cursor, DeadRanges, LogIdentity, Step, StopReason};
use crate::state::{Change, Changes, Keyed};

/// Where the fold of a core's log goes on, and what it has come to.
#[derive(Clone, Debug)]
pub(crate) struct Progressed {
    /// What stands below is folded.
    pub(crate) lsn: Lsn,
    pub(crate) progress: Progress,
}

/// Folds what stands in a core's log from `from` up to the end of `epoch`,
/// which is complete, so all of it is below `durable`. Gives the new runs,
/// oldest first; none if nothing changed.
pub(crate) fn fold<S: Storage>(
    context: &Context<'_, S>,
    log: LogIdentity,
    from: &Progressed,
    dead: &DeadRanges,
    epoch: Epoch,
    durable: Lsn,
) -> Result<(Vec<RunRef>, Progressed)> {
    let mut to = from.clone();
    let mut runs = Vec::new();
    let mut batch = Keyed::of_changes();
    // What the newest run says of offsets and watermark.
    let mut said = from.progress.clone();
    let layout = &context.layout;
    // Where the core was parked, if it is not known to have ended an epoch since.
    // That record vouches for the epochs up to the next opening. A release could
    // not say all it says, so it stays.
    let mut parked = None;
    let Some(mut cursor) = cursor_at(context, log, from.lsn, durable)? else {
        return Ok((runs, to));
    };
    let mut courtesy = Courtesy::default();
    loop {
        context.go_on()?;
        let frame = match cursor.step()? {
            Step::Frame(frame, _) => frame,
            Step::Stop(stop) if stop.reason == StopReason::Limit => break,
            Step::Stop(stop) => {
                let path = layout.segment(log.core, stop.place.segment);
                let what = format!("at offset {} what was durable is not there: {}", stop.place.offset, stop.reason);
                return Err(Error::io("read", &path, std::io::Error::other(what)));
            }
        };
        let mut changes = Changes::new();
        let mut ended = false;
        for entry in frame.entries().flatten() {
            if entry.epoch > epoch && !layout.planted.has(PlantedBug::CheckpointBeyondItsEpoch) {
                ended = true;
                break;
            }
            if entry.lsn < from.lsn {
                continue;
            }
            to.lsn = entry.end;
            courtesy.steps(RECORD);
            match entry.record {
                Record::Park { .. } => parked = Some(entry.lsn),
                Record::Unpark { epoch: resumed } | Record::Open { epoch: resumed } if resumed <= epoch => {
                    parked = None
                }
                _ => {}
            }
            if dead.contains(entry.lsn) && !layout.planted.has(PlantedBug::CheckpointOfDeadRecords) {
                continue;
            }
            match entry.record {
                Record::Put { key, value } => changes.push(Change::Put { key, value }, &mut batch),
                Record::Delete { key } => changes.push(Change::Delete { key }, &mut batch),
                Record::Commit(commit) => to.progress.apply(commit),
                Record::Payload(_) => return Err(Error::NotFoldable),
                _ => {}
            }
        }
        changes.apply(&mut batch);
        if ended {
            break;
        }
        if batch.memory() >= context.batch_bytes {
            let full = std::mem::replace(&mut batch, Keyed::of_changes());
            runs.push(write(context, log, &full, &to.progress)?);
            said.clone_from(&to.progress);
        }
    }
    // A run also carries what commits say, so one is written for them alone.
    if !batch.is_unchanged() || said != to.progress {
        runs.push(write(context, log, &batch, &to.progress)?);
    }
    to.lsn = parked.unwrap_or(to.lsn);
    Ok((runs, to))
}

fn write<S: Storage>(context: &Context<'_, S>, log: LogIdentity, batch: &Keyed, progress: &Progress) -> Result<RunRef> {
    let mut writer = RunWriter::create(&context.layout, log, context.next_run(), context.stamp)?;
    let mut courtesy = Courtesy::default();
    batch.for_each_change(|| courtesy.step(), |key, value| writer.add(key, value))?;
    writer.finish(progress, context.sync)
}

/// A cursor at the first frame of the segment that holds `lsn`; `None` if the
/// log has no segment, or nothing durable from there on.
fn cursor_at<'l, S: Storage>(
    context: &'l Context<'_, S>,
    log: LogIdentity,
    lsn: Lsn,
    durable: Lsn,
) -> Result<Option<Cursor<'l, S>>> {
    let layout = &context.layout;
    let mut found = None;
    for segment in layout.list_segments(log.core)?.unwrap_or_default().into_iter().rev() {
        match Cursor::new(layout, log, segment, durable)? {
            Ok(cursor) => {
                let base = cursor.place().base_lsn;
                if base < durable {
                    found = Some(cursor);
                }
                if base <= lsn {
                    break;
                }
            }
            Err(stop) => {
                let path = layout.segment(log.core, segment);
                return Err(Error::io("read", &path, std::io::Error::other(stop.reason.to_string())));
            }
        }
    }
    Ok(found)
}
