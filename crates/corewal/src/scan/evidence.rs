//! Evidence: what lies behind the place where a scan stopped, and what it
//! proves. A frame that says "all below D was durable" proves it wherever it
//! stands, so damage in front of it is damage and no torn write.

use corewal_format::{
    BLOCK_LEN, Epoch, FRAME_HEADER_LEN, Frame, FrameHeader, Lsn, SegmentError, SegmentHeader, SegmentId,
    SegmentIdentity, block_align,
};
use corewal_io::Storage;

use super::cursor::{LogIdentity, Place, Window, foreign};
use super::survey::SegmentSpan;
use super::verdict::Behind;
use crate::error::Result;
use crate::layout::Layout;

const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// What was found behind a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Everything below was durable at some time.
    pub(crate) proven: Lsn,
    pub(crate) behind: Behind,
    /// Bytes behind the stop that are not part of the log.
    pub(crate) bytes: u64,
    /// Intact frames among them.
    pub(crate) frames: u64,
    /// Position in the file of the stop behind which nothing of it remains.
    pub(crate) until: u64,
    /// Later segments that were made ready and never written to.
    pub(crate) ready: Vec<SegmentSpan>,
    /// The segment that is foreign, newer or cut short, and why.
    pub(crate) detail: Option<(SegmentId, String)>,
}

/// Searches the rest of the segment at `place`, and `later` segments whole.
pub(crate) fn search<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    place: Place,
    later: &[SegmentId],
) -> Result<Evidence> {
    let mut evidence = Evidence::nothing();
    let (mut len, mut buffer) = (0, Vec::new());
    let identity = |segment, base_lsn| SegmentIdentity { log_id: log.log_id, core: log.core, segment, base_lsn };
    if let Some(mut window) = Window::open(layout, log.core, place.segment, Vec::new())? {
        // Its header was judged on the way here, unless it is where it stopped.
        let header = window.header(layout)?;
        let recycled = header.is_ok_and(|header| header.recycled);
        let identity = identity(place.segment, place.base_lsn);
        len = window.len(layout)?;
        evidence.until = search_segment(layout, &mut window, identity, recycled, place.offset, &mut evidence)?;
        buffer = window.into_buffer();
    }
    // Where the file of the segment looked at last ends: the base of the next.
    let mut behind = (place.segment, place.base_lsn.0.saturating_add(block_align_len(len)));
    for &segment in later {
        let Some(mut window) = Window::open(layout, log.core, segment, std::mem::take(&mut buffer))? else { continue };
        let header = window.header(layout)?;
        let file_len = block_align_len(window.len(layout)?);
        // A file without room for a frame never got further than its creation,
        // whatever it says it is.
        if window.at(layout, BLOCK_LEN as u64, 1)?.is_empty() {
            evidence.leftover(BLOCK_LEN as u64);
            continue;
        }
        match header {
            Ok(header) => {
                if let Some(detail) = foreign(&log, segment, None, &header) {
                    evidence.worst(Behind::Foreign, segment, detail);
                    continue;
                }
                let SegmentHeader { identity: found, recycled, .. } = header;
                let before = evidence.bytes;
                // Its base was fixed when it was made: where the file before
                // it ended.
                if segment == place.segment.next() && found.base_lsn.0.saturating_sub(place.base_lsn.0) > len {
                    let detail = format!(
                        "the file has {len} bytes, and segment {segment} was made behind one of {}",
                        found.base_lsn.0 - place.base_lsn.0
                    );
                    evidence.worst(Behind::CutShort, place.segment, detail);
                }
                search_segment(layout, &mut window, found, recycled, BLOCK_LEN as u64, &mut evidence)?;
                behind = (segment, found.base_lsn.0.saturating_add(file_len));
                if evidence.bytes == before {
                    evidence.ready.push(SegmentSpan {
                        id: segment,
                        base_lsn: found.base_lsn,
                        end: found.base_lsn,
                        ended: Epoch(0),
                    });
                }
            }
            Err(error @ SegmentError::Version { .. }) => evidence.worst(Behind::Newer, segment, error.to_string()),
            // One misdirected write can take a seal and the header behind it:
            // frames that match where the segment has to stand are evidence.
            Err(_) => {
                evidence.leftover(0);
                if segment == behind.0.next() {
                    let identity = identity(segment, Lsn(behind.1));
                    search_segment(layout, &mut window, identity, true, BLOCK_LEN as u64, &mut evidence)?;
                    behind = (segment, behind.1.saturating_add(file_len));
                }
            }
        }
        buffer = window.into_buffer();
    }
    Ok(evidence)
}

/// A file's length in whole blocks, as its segment counts it.
fn block_align_len(len: u64) -> u64 {
    len.checked_next_multiple_of(BLOCK_LEN as u64).unwrap_or(len)
}

impl Evidence {
    pub(crate) fn nothing() -> Self {
        Self { proven: Lsn(0), behind: Behind::Nothing, bytes: 0, frames: 0, until: 0, ready: Vec::new(), detail: None }
    }

    fn leftover(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.behind == Behind::Nothing {
            self.behind = Behind::Leftover;
        }
    }

    fn worst(&mut self, behind: Behind, segment: SegmentId, detail: String) {
        if matches!(self.behind, Behind::Nothing | Behind::Leftover) {
            self.behind = behind;
            self.detail = Some((segment, detail));
        }
    }
}

/// Searches a segment from `from` on. Gives the position behind its last
/// remains.
fn search_segment<S: Storage>(
    layout: &Layout<S>,
    window: &mut Window<S>,
    identity: SegmentIdentity,
    recycled: bool,
    from: u64,
    evidence: &mut Evidence,
) -> Result<u64> {
    let seed = layout.checksum_seed(&identity);
    let (mut offset, mut until) = (from, from);
    // Frames of a log do not overlap, so checking them costs no more than the
    // file is long. Hostile bytes could claim a long frame in every block;
    // once they have cost this much, they are refused rather than cut.
    let mut budget: u64 = 64 << 20;
    loop {
        let block = window.at(layout, offset, BLOCK_LEN)?;
        if block.is_empty() {
            return Ok(until);
        }
        let len = block.len() as u64;
        budget += len;
        if block == &ZEROS[..block.len()] {
            offset += len;
            continue;
        }
        let lsn = identity.base_lsn.plus(offset);
        let claimed = block.get(..FRAME_HEADER_LEN).and_then(|header| FrameHeader::peek(header, lsn).ok());
        let mut step = len;
        match claimed {
            // What claims nothing is of an earlier life, if there was one.
            None if recycled => {
                offset += len;
                continue;
            }
            None => evidence.leftover(len),
            Some(header) => {
                evidence.leftover(len);
                let Some(left) = budget.checked_sub(header.len as u64) else {
                    evidence.proven = Lsn(u64::MAX);
                    return Ok(until);
                };
                if let Ok(frame) = Frame::decode(window.at(layout, offset, header.len)?, seed, lsn) {
                    evidence.proven = evidence.proven.max(frame.header.fields.durable_lsn);
                    evidence.frames += 1;
                    step = block_align(header.len) as u64;
                    evidence.bytes += step.saturating_sub(len);
                } else {
                    budget = left;
                }
            }
        }
        offset += step;
        until = offset;
    }
}
