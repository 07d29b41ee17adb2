//! Verifying: reads every byte of a store, lists what is wrong, changes
//! nothing.

use std::collections::BTreeSet;
use std::path::Path;

use corewal_format::{
    BLOCK_LEN, CoreId, FRAME_HEADER_LEN, Frame, FrameHeader, Lsn, MAX_EPOCH, Manifest, SegmentId, SegmentIdentity,
    block_align,
};
use corewal_io::{FileStorage, Storage};

use crate::checkpoint::{Merge, check_whole};
use crate::error::{Damage, Error, Result};
use crate::layout::Layout;
use crate::reader::{ready_manifest, survey_live};
use crate::recovery::{Root, check_begin, check_claims, check_reach};
use crate::scan::{Cursor, LogIdentity, Place, Step, StopReason, Survey, Verdict, Window, newest_common, survey};

/// Findings that are listed of one core at most; a log with more is not worth
/// reading on.
const FINDINGS_MAX: usize = 1000;

/// Something wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The core; `None` for the manifest.
    pub core: Option<CoreId>,
    /// The segment, if it lies in one.
    pub segment: Option<SegmentId>,
    /// Position in the file, in bytes.
    pub offset: u64,
    /// `corrupt`, `missing`, `foreign`, `unsupported`, `manifest`, `run` (a part
    /// of a checkpoint), `epoch` (logs that contradict each other or a
    /// checkpoint) or `padding` (harmless, but not as written).
    pub kind: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
    /// What is remarkable and not wrong: a torn tail that the next open cuts,
    /// files that are not the store's.
    pub notes: Vec<String>,
    /// Segments read.
    pub segments: u64,
    /// Runs of checkpoints read.
    pub runs: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of frames read.
    pub bytes: u64,
}

/// Reads every byte of the store in `dir` that is known to be durable:
/// checksums, LSN, sequence and epoch continuity, segments, manifest, padding.
/// Works beside a live writer.
///
/// # Errors
/// [`Error::NotAStore`] and [`Error::Io`]. Damage is no error here: it is what
/// is looked for.
pub fn verify(dir: impl AsRef<Path>) -> Result<Verification> {
    // Compiled here, for all callers.
    fn on_files(dir: &Path) -> Result<Verification> {
        verify_dir(FileStorage::new(), dir)
    }
    on_files(dir.as_ref())
}

/// As [`verify`], on another backend.
///
/// # Errors
/// As [`verify`].
pub fn verify_on<S: Storage>(storage: S, dir: impl AsRef<Path>) -> Result<Verification> {
    verify_dir(storage, dir.as_ref())
}

fn verify_dir<S: Storage>(storage: S, dir: &Path) -> Result<Verification> {
    let mut layout = Layout::of(storage, dir)?;
    let mut found = Verification::default();
    let manifest = match ready_manifest(&layout) {
        Ok(Root { manifest, instead }) => {
            layout.generation = manifest.generation;
            if let Some(detail) = instead {
                found.findings.push(Finding { core: None, segment: None, offset: 0, kind: "manifest", detail });
            }
            manifest
        }
        Err(Error::Damaged(damage)) => {
            found.findings.push(Finding { kind: "manifest", core: None, ..finding(&damage) });
            return Ok(found);
        }
        Err(Error::Unsupported { detail, .. }) => {
            let (core, segment) = (None, None);
            found.findings.push(Finding { core, segment, offset: 0, kind: "unsupported", detail });
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    let strangers = match layout.look_around(manifest.cores) {
        Ok(strangers) => strangers,
        // Something stands under a name of the store's that can't be read, and
        // nothing is read through it.
        Err(error @ Error::Io { .. }) if error.is_misplaced() => {
            let (core, segment, detail) = (None, None, error.to_string());
            found.findings.push(Finding { core, segment, offset: 0, kind: "foreign", detail });
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    let lock = layout.lock();
    let live = layout.storage.is_locked(&lock).map_err(|error| Error::io("look at", &lock, error))?;
    let mut surveys = Vec::new();
    for core in (0..manifest.cores).map(CoreId) {
        let log = LogIdentity::of(&manifest, core);
        let survey = if live { survey_live(&layout, log)? } else { survey(&layout, log, Lsn(u64::MAX))? };
        found.take(&layout, log, &survey, live)?;
        surveys.push(survey);
    }
    found.check_runs(&layout, &manifest, live)?;
    let whole = surveys.iter().all(|survey| survey.verdict.opens());
    if let (true, false, Err(Error::Damaged(damage))) = (whole, live, check_claims(&layout, surveys.iter(), MAX_EPOCH))
    {
        found.findings.push(Finding { kind: "epoch", ..finding(&damage) });
    }
    let begins: Vec<_> = surveys.iter().map(Survey::begin).collect();
    if let (true, false, Err(Error::Damaged(damage))) = (whole, live, check_begin(&layout, &manifest, &begins)) {
        found.findings.push(finding(&damage));
    }
    if whole && !live {
        let complete = newest_common(surveys.iter().map(|survey| &survey.coverage), MAX_EPOCH);
        if let Err(Error::Damaged(damage)) = check_reach(&layout, &manifest, surveys.iter(), complete) {
            found.findings.push(Finding { kind: "epoch", ..finding(&damage) });
        }
    }
    found.notes.extend(strangers.iter().map(|path| format!("{} is not part of the store", path.display())));
    Ok(found)
}

fn finding(damage: &Damage) -> Finding {
    let kind = match damage.verdict {
        Verdict::Missing => "missing",
        Verdict::Foreign => "foreign",
        Verdict::Unsupported => "unsupported",
        Verdict::Clean | Verdict::Torn | Verdict::Corrupt => "corrupt",
    };
    let detail = format!("{} [{}]; at stake: {}", damage.detail, damage.path.display(), damage.loss);
    Finding { core: Some(damage.core), segment: damage.segment, offset: damage.offset, kind, detail }
}

impl Verification {
    /// Reads every run that a checkpoint names, byte for byte and key by key.
    fn check_runs<S: Storage>(&mut self, layout: &Layout<S>, manifest: &Manifest, live: bool) -> Result<()> {
        let mut seen = BTreeSet::new();
        for checkpoint in &manifest.checkpoints {
            for (core, part) in checkpoint.cores.iter().enumerate() {
                let core = CoreId(u16::try_from(core).expect("at most 1,024 cores"));
                let log = LogIdentity::of(manifest, core);
                for &run in &part.runs {
                    if !seen.insert(run.run) {
                        continue;
                    }
                    let whole = check_whole(layout, core, run)
                        .and_then(|()| Merge::open(layout, log, &[run])?.for_each(|_| Ok(())));
                    match whole {
                        Ok(_) => {
                            self.runs += 1;
                            self.bytes += run.bytes;
                        }
                        // Merged with others since the manifest was read.
                        Err(Error::Damaged(damage)) if live && damage.verdict == Verdict::Missing => {}
                        Err(Error::Damaged(damage)) => self.findings.push(Finding { kind: "run", ..finding(&damage) }),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    fn take<S: Storage>(&mut self, layout: &Layout<S>, log: LogIdentity, survey: &Survey, live: bool) -> Result<()> {
        self.segments += survey.segments.len() as u64;
        self.records += survey.records;
        self.bytes += survey.bytes;
        if let Some(damage) = survey.damage(layout) {
            self.findings.push(finding(&damage));
            if !live {
                self.search_behind(layout, log, survey)?;
            }
        } else if survey.verdict == Verdict::Torn {
            self.notes.push(format!(
                "core {}, segment {}, offset {}: {} bytes of an unfinished write ({}); the next open cuts them, \
                 nothing durable is lost",
                survey.core,
                survey.stop.place.segment,
                survey.stop.place.offset,
                survey.evidence.bytes,
                survey.stop.reason
            ));
        }
        self.check_padding(layout, log, survey)
    }

    /// Looks for further damage behind the first: from the next intact frame
    /// on, as if the log began there.
    fn search_behind<S: Storage>(&mut self, layout: &Layout<S>, log: LogIdentity, survey: &Survey) -> Result<()> {
        let known = self.findings.len();
        let mut from = survey.stop.place;
        from.offset = from.offset.max(BLOCK_LEN as u64);
        let mut seen = BTreeSet::new();
        // Hostile bytes could claim a long frame in every block: checking them
        // all would take the square of the file's length.
        let mut budget: u64 = 1 << 30;
        let mut later = survey.later.iter();
        while self.findings.len() < known + FINDINGS_MAX {
            let Some(place) = next_frame(layout, log, from, &mut budget)? else {
                match later.find(|segment| !seen.contains(*segment)) {
                    // Its base LSN is read from its own header.
                    Some(&segment) => match Cursor::new(layout, log, segment, Lsn(u64::MAX))? {
                        Ok(cursor) => from = cursor.place(),
                        Err(stop) => self.push_stop(layout, log, &stop.place, &stop.reason),
                    },
                    None => return Ok(()),
                }
                continue;
            };
            let mut cursor = Cursor::resume(layout, log, place);
            let stop = loop {
                match cursor.step()? {
                    Step::Frame(_, place) => {
                        seen.insert(place.segment);
                    }
                    Step::Stop(stop) => break stop,
                }
            };
            seen.insert(stop.place.segment);
            let end = matches!(stop.reason, StopReason::EndOfFile | StopReason::Stale { .. })
                || stop.reason == StopReason::Frame(corewal_format::FrameError::Zeroed);
            if !end {
                self.push_stop(layout, log, &stop.place, &stop.reason);
            }
            from = Place { offset: stop.place.offset.max(BLOCK_LEN as u64) + BLOCK_LEN as u64, ..stop.place };
        }
        self.notes.push(format!("core {}: more than {FINDINGS_MAX} findings; the rest is left out", log.core));
        Ok(())
    }

    fn push_stop<S: Storage>(&mut self, layout: &Layout<S>, log: LogIdentity, place: &Place, reason: &StopReason) {
        let kind = match reason {
            StopReason::NextMissing => "missing",
            StopReason::Foreign { .. } => "foreign",
            StopReason::Header(corewal_format::SegmentError::Version { .. }) => "unsupported",
            _ => "corrupt",
        };
        let detail = format!("{reason} [{}]", layout.segment(log.core, place.segment).display());
        self.findings.push(Finding {
            core: Some(log.core),
            segment: Some(place.segment),
            offset: place.offset,
            kind,
            detail,
        });
    }

    /// Every byte between the end of a frame and the next block is zero.
    fn check_padding<S: Storage>(&mut self, layout: &Layout<S>, log: LogIdentity, survey: &Survey) -> Result<()> {
        let Some(first) = survey.segments.first() else { return Ok(()) };
        let Ok(mut cursor) = Cursor::new(layout, log, first.id, survey.end())? else { return Ok(()) };
        let mut window: Option<Window<S>> = None;
        let mut recycled = false;
        loop {
            let (place, len) = match cursor.step()? {
                Step::Frame(frame, place) => (place, frame.header.len),
                Step::Stop(_) => return Ok(()),
            };
            if window.as_ref().is_none_or(|window| window.segment != place.segment) {
                window = Window::open(layout, log.core, place.segment, Vec::new())?;
                let Some(window) = window.as_mut() else { return Ok(()) };
                let header = window.header(layout)?;
                recycled = header.is_ok_and(|header| header.recycled);
            }
            // In a file that held another segment, what a write cut short did
            // not reach is of that life.
            if recycled {
                continue;
            }
            let Some(window) = window.as_mut() else { return Ok(()) };
            let end = place.offset + len as u64;
            let padding = window.at(layout, end, block_align(len) - len)?;
            if let Some(at) = padding.iter().position(|&byte| byte != 0) {
                self.findings.push(Finding {
                    core: Some(log.core),
                    segment: Some(place.segment),
                    offset: end + at as u64,
                    kind: "padding",
                    detail: format!("a byte behind the frame at LSN {} is not zero; no data is affected", place.lsn()),
                });
            }
        }
    }
}

/// The next place from `from` on, within the segment, at which an intact frame
/// stands. Gives up when `budget` bytes have been checked in vain.
fn next_frame<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    from: Place,
    budget: &mut u64,
) -> Result<Option<Place>> {
    let Some(mut window) = Window::open(layout, log.core, from.segment, Vec::new())? else {
        return Ok(None);
    };
    let (log_id, core) = (log.log_id, log.core);
    let identity = SegmentIdentity { log_id, core, segment: from.segment, base_lsn: from.base_lsn };
    let seed = identity.checksum_seed();
    let mut place = from;
    loop {
        let header = window.at(layout, place.offset, FRAME_HEADER_LEN)?;
        if header.len() < FRAME_HEADER_LEN {
            return Ok(None);
        }
        if let Ok(header) = FrameHeader::peek(header, place.lsn()) {
            let Some(left) = budget.checked_sub(header.len as u64) else { return Ok(None) };
            if Frame::decode(window.at(layout, place.offset, header.len)?, seed, place.lsn()).is_ok() {
                return Ok(Some(place));
            }
            *budget = left;
        }
        place.offset += BLOCK_LEN as u64;
    }
}
