//! Settling: making sure that what was read is what the medium holds.
//!
//! After a process died, the kernel may still hold bytes of its last writes:
//! they read fine and are not durable. After a sync failed, it may hold bytes
//! that it will never write. So whatever no later frame proves durable is
//! synced, dropped from the cache and read again before anything is built on
//! it.

use corewal_format::BLOCK_LEN;
use corewal_io::{OpenMode, Storage};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::scan::{Cursor, LogIdentity, Place, Step, Survey};

/// Settles the unproven end of a log. `false` if the medium holds something
/// else than what was surveyed, so that the survey has to be made again.
pub(crate) fn settle<S: Storage>(layout: &Layout<S>, log: LogIdentity, survey: &Survey) -> Result<bool> {
    let Some(first) = unproven_from(survey) else {
        return Ok(true);
    };
    for span in survey.segments.iter().filter(|span| span.id >= first.segment) {
        let path = layout.segment(log.core, span.id);
        let file = layout.open(&path, OpenMode::ReadWrite)?;
        let from = if span.id == first.segment { first.offset } else { 0 };
        layout.storage.settle(&file, from).map_err(|error| Error::io("sync", &path, error))?;
    }
    layout.sync_dir(&layout.core_dir(log.core))?;
    let mut cursor = Cursor::resume(layout, log, first);
    while cursor.place() != survey.stop.place {
        if let Step::Stop(_) = cursor.step()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the first frame begins that no later frame proves durable: at the
/// durable position itself, which is always the end of a frame.
fn unproven_from(survey: &Survey) -> Option<Place> {
    let holds = |base: corewal_format::Lsn| base.plus(BLOCK_LEN as u64) <= survey.proven;
    let span = survey.segments.iter().rev().find(|span| holds(span.base_lsn)).or(survey.segments.first())?;
    let offset = survey.proven.0.saturating_sub(span.base_lsn.0).max(BLOCK_LEN as u64);
    let place = Place { segment: span.id, base_lsn: span.base_lsn, offset };
    // Behind the last frame of a sealed segment comes the first of the next.
    let next = survey.segments.iter().find(|next| next.id > span.id);
    match next {
        Some(next) if place.lsn() >= span.end => Some(Place::first_frame(next.id, next.base_lsn)),
        _ => Some(place),
    }
}
