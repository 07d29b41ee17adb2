//! Settling: making sure that what was read is what the medium holds.
//!
//! After a process died, the kernel may still hold bytes of its last writes:
//! they read fine and are not durable. After a sync failed, it may hold bytes
//! that it will never write. So whatever no later frame proves durable is
//! synced, dropped from the cache and read again before anything is built on
//! it.

use corewal_format::{BLOCK_LEN, Frame, FrameHeader, SegmentIdentity};
use corewal_io::{OpenMode, Storage};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::scan::{LogIdentity, Survey, Window};

/// Settles the unproven end of a log. `false` if the medium holds something
/// else than what was surveyed, so that the survey has to be made again.
pub(crate) fn settle<S: Storage>(layout: &Layout<S>, log: LogIdentity, survey: &Survey) -> Result<bool> {
    let Some(last) = survey.segments.last() else {
        return Ok(true);
    };
    let first = survey.unproven.front().map_or(last.id, |frame| frame.segment);
    for span in survey.segments.iter().filter(|span| span.id >= first) {
        let path = layout.segment(log.core, span.id);
        let file = layout.open(&path, OpenMode::ReadWrite)?;
        let unproven = survey.unproven.iter().find(|frame| frame.segment == span.id);
        let from = unproven.map_or(survey.stop.place.offset, |frame| frame.lsn.0 - span.base_lsn.0);
        layout.storage.settle(&file, from).map_err(|error| Error::io("sync", &path, error))?;
    }
    layout.sync_dir(&layout.core_dir(log.core))?;
    for span in survey.segments.iter().filter(|span| span.id >= first) {
        let Some(mut window) = Window::open(layout, log.core, span.id, Vec::new())? else {
            return Ok(false);
        };
        let (log_id, core) = (log.log_id, log.core);
        let seed = SegmentIdentity { log_id, core, segment: span.id, base_lsn: span.base_lsn }.checksum_seed();
        for frame in survey.unproven.iter().filter(|frame| frame.segment == span.id) {
            let offset = frame.lsn.0 - span.base_lsn.0;
            let Ok(header) = FrameHeader::peek(window.at(layout, offset, BLOCK_LEN)?, frame.lsn) else {
                return Ok(false);
            };
            if Frame::decode(window.at(layout, offset, header.len)?, seed, frame.lsn).is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
