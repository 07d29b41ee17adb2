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

#[cfg(test)]
mod tests {
    use corewal_format::{Lsn, SegmentId};

    use super::*;
    use crate::scan::SegmentSpan;

    const BLOCK: u64 = BLOCK_LEN as u64;

    /// Segments 3, 4 and 5, each a header and three blocks of frames; the last of
    /// the file of 4 was left empty.
    fn survey(proven: u64) -> Survey {
        let span = |id, base: u64, blocks: u64| SegmentSpan {
            id: SegmentId(id),
            base_lsn: Lsn(base * BLOCK),
            end: Lsn((base + blocks) * BLOCK),
            ended: corewal_format::Epoch(0),
        };
        let mut survey = Survey::of_epochs(0, &[]);
        survey.segments = vec![span(3, 10, 4), span(4, 14, 4), span(5, 19, 4)];
        survey.proven = Lsn(proven * BLOCK);
        survey
    }

    #[test]
    fn what_is_not_proven_begins_with_the_first_frame_behind_what_is() {
        let from = |proven| {
            let place = unproven_from(&survey(proven)).expect("there are segments");
            (place.segment.0, place.base_lsn.0 / BLOCK, place.offset / BLOCK)
        };
        // Nothing that is there, or no more than the header of the first.
        for proven in [0, 10, 11] {
            assert_eq!(from(proven), (3, 10, 1), "{proven}");
        }
        assert_eq!(from(12), (3, 10, 2));
        assert_eq!(from(13), (3, 10, 3));
        // All of a sealed segment: the next one's first frame, wherever that is.
        assert_eq!(from(14), (4, 14, 1));
        assert_eq!(from(15), (4, 14, 1));
        assert_eq!(from(16), (4, 14, 2));
        for proven in [18, 19, 20] {
            assert_eq!(from(proven), (5, 19, 1), "{proven}");
        }
        // The end of the log, where the next frame would be.
        assert_eq!(from(23), (5, 19, 4));
    }

    #[test]
    fn where_there_is_no_segment_there_is_nothing_to_settle() {
        let mut empty = survey(12);
        empty.segments.clear();
        assert_eq!(unproven_from(&empty), None);
    }
}
