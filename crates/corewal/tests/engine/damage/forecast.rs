//! What opening has to make of damage, from the bytes alone: the rules of
//! `docs/DURABILITY.md` said a second time.

use std::path::{Path, PathBuf};

use corewal::format::{BLOCK_LEN, CoreId, SegmentHeader, name};
use corewal::{Error, Lsn};

use super::checkpointed::{Checkpointed, manifest};
use super::world::{CoreData, FrameAt, Judgement, frames_of, place_of};

/// A file with the bytes that stand in it now.
pub(crate) type Change = (PathBuf, Vec<u8>);

/// What opening has to make of a damaged copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forecast {
    /// Nothing depends on what was changed.
    Same,
    /// Refused, and one of these places is named: a file, and a position in
    /// it.
    Refused(Vec<(PathBuf, Option<usize>)>),
    /// Something older counts, or it is refused and one of these files named.
    /// Never other data.
    SameOrRefused(Vec<PathBuf>),
    /// By core, what is left of its log: the doubtful window was hit.
    Cut(Vec<Option<CoreData>>),
}

/// A segment of a log that is in use.
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    frames: Vec<FrameAt>,
}

/// The undamaged store.
pub(crate) struct Forecaster<'s> {
    store: &'s Checkpointed,
    /// By core, in the order of the log.
    logs: Vec<Vec<Segment>>,
    ready: Vec<PathBuf>,
}

impl<'s> Forecaster<'s> {
    pub(crate) fn new(store: &'s Checkpointed) -> Self {
        let segment = |path: PathBuf| {
            let bytes = store.world.read(&path);
            Segment { frames: frames_of(&bytes), path, bytes }
        };
        let logs = (0..2).map(|core| store.world.segments(core).into_iter().map(segment).collect()).collect();
        Self { store, logs, ready: store.world.ready() }
    }

    /// Bits of the frames that the window consists of.
    pub(crate) fn window_bits(&self) -> usize {
        let of = |log: &Vec<Segment>| {
            let frames = || log.iter().flat_map(|segment| &segment.frames);
            let proven = frames().map(|frame| frame.durable).max().unwrap();
            let window = frames().filter(|frame| frame.lsn >= proven);
            window.map(|frame| frame.len * 8).sum::<usize>()
        };
        self.logs.iter().map(of).sum()
    }

    /// What has to become of the store when these files are changed.
    pub(crate) fn of(&self, changes: &[Change]) -> Forecast {
        let mut refused = Vec::new();
        let mut unsure = Vec::new();
        let mut cut: Vec<Option<CoreData>> = vec![None; self.logs.len()];
        for (path, bytes) in changes {
            if *path == manifest() {
                // The one before it may count, with a log that reaches back.
                unsure.push(path.clone());
            } else if path.extension().is_some_and(|found| found == "run") {
                match self.run(path, bytes) {
                    true if self.store.kept > 1 => unsure.push(path.clone()),
                    true => refused.push((path.clone(), None)),
                    false => {}
                }
            } else if self.ready.contains(path) {
                // Whatever says intact that it is something else is no ready
                // segment of this log.
                let stranger = SegmentHeader::decode(bytes).is_ok_and(|header| {
                    bytes.len() > BLOCK_LEN && {
                        header != SegmentHeader::decode(&self.store.world.read(path)).unwrap()
                    }
                });
                if stranger {
                    unsure.push(path.clone());
                }
            }
        }
        for (core, log) in self.logs.iter().enumerate() {
            match self.log(core, log, changes) {
                None => {}
                Some(Hit::Proven(path, offset)) => refused.push((path, offset)),
                Some(Hit::Doubtful(end)) => {
                    let last = self.store.points[core].iter().rev().find(|(point, _)| *point <= end);
                    let (_, left) = last.expect("a commit stands before the window");
                    cut[core] = (*left != self.store.world.data[core]).then(|| left.clone());
                }
            }
        }
        if !unsure.is_empty() {
            unsure.extend(refused.into_iter().map(|(path, _)| path));
            return Forecast::SameOrRefused(unsure);
        }
        if !refused.is_empty() {
            return Forecast::Refused(refused);
        }
        if cut.iter().any(Option::is_some) { Forecast::Cut(cut) } else { Forecast::Same }
    }

    /// Whether a run does not read any more. (Padding is in no frame.)
    fn run(&self, path: &Path, bytes: &[u8]) -> bool {
        let whole = self.store.world.read(path);
        bytes.len() != whole.len() || touched(&whole, bytes, 0, 64) || {
            frames_of(&whole).iter().any(|frame| touched(&whole, bytes, frame.offset, frame.len))
        }
    }

    /// The first place of a log that does not read any more.
    fn log(&self, core: usize, log: &[Segment], changes: &[Change]) -> Option<Hit> {
        let now = |segment: &Segment| changes.iter().find(|(path, _)| *path == segment.path).map(|(_, bytes)| bytes);
        let hit = |segment: &Segment, frame: &FrameAt| {
            now(segment).is_some_and(|bytes| touched(&segment.bytes, bytes, frame.offset, frame.len))
        };
        let all = || log.iter().flat_map(|segment| segment.frames.iter().map(move |frame| (segment, frame)));
        let intact = all().filter(|(segment, frame)| !hit(segment, frame));
        let proven = intact.map(|(_, frame)| frame.durable).max().unwrap_or(Lsn(0));
        for segment in log {
            let Some(bytes) = now(segment) else { continue };
            if touched(&segment.bytes, bytes, 0, 64) {
                return Some(Hit::Proven(segment.path.clone(), Some(0)));
            }
            if let Some(frame) = segment.frames.iter().find(|frame| hit(segment, frame)) {
                let short = self.cut_short(core, segment, bytes);
                // Of a file without room for a frame the header is named.
                let offset = if bytes.len() > BLOCK_LEN { Some(frame.offset) } else { None };
                return Some(if frame.lsn < proven || short {
                    Hit::Proven(segment.path.clone(), offset)
                } else {
                    Hit::Doubtful(frame.lsn)
                });
            }
            // What is cut off behind a seal is nothing.
            if self.is_last(core, segment) && self.cut_short(core, segment, bytes) {
                let end = segment.frames.last().map_or(BLOCK_LEN, |last| last.offset + last.len);
                return Some(Hit::Proven(segment.path.clone(), Some(end.next_multiple_of(BLOCK_LEN))));
            }
        }
        None
    }

    /// Whether a segment that stands behind says that the file was longer.
    fn cut_short(&self, core: usize, segment: &Segment, bytes: &[u8]) -> bool {
        let dir = name::core_dir(CoreId(core as u16), 0);
        let waits = self.ready.iter().any(|path| path.parent().unwrap().ends_with(&dir));
        bytes.len() < segment.bytes.len() && (waits || !self.is_last(core, segment))
    }

    fn is_last(&self, core: usize, segment: &Segment) -> bool {
        self.logs[core].last().is_some_and(|last| last.path == segment.path)
    }
}

enum Hit {
    /// Damage to what is known to be durable: file, and the block that is
    /// named.
    Proven(PathBuf, Option<usize>),
    /// The log ends before this frame.
    Doubtful(Lsn),
}

/// Whether something of these bytes is not what it was.
fn touched(before: &[u8], now: &[u8], offset: usize, len: usize) -> bool {
    now.get(offset..offset + len) != Some(&before[offset..offset + len])
}

impl Forecast {
    /// Holds a judgement to it.
    pub(crate) fn check(&self, whole: &[CoreData], judgement: &Judgement) -> Result<(), String> {
        let right = match (self, judgement) {
            (Self::Same, Judgement::Identical) => true,
            (Self::SameOrRefused(_), Judgement::Identical | Judgement::MadeGood) => true,
            (Self::Refused(places), Judgement::Refused(error)) => {
                places.iter().any(|(path, offset)| names(error, path, *offset))
            }
            (Self::SameOrRefused(paths), Judgement::Refused(error)) => {
                paths.iter().any(|path| names(error, path, None))
            }
            (Self::Cut(left), Judgement::Different(data)) => {
                let expected = left.iter().zip(whole).map(|(left, whole)| left.as_ref().unwrap_or(whole));
                expected.eq(data.iter())
            }
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("forecast {self:?}, found {judgement:?}")) }
    }
}

/// Whether an error names the file, and the position in it.
fn names(error: &Error, path: &Path, offset: Option<usize>) -> bool {
    let named = match error {
        Error::Damaged(damage) => {
            let place = place_of(path);
            let in_segment = place.is_none_or(|(core, segment)| (damage.core, damage.segment) == (core, Some(segment)));
            in_segment && damage.path == path && offset.is_none_or(|offset| damage.offset == offset as u64)
        }
        Error::Unsupported { path: named, .. } => named == path,
        _ => false,
    };
    // A manifest that does not read is made good by the one before it, which
    // may need what is gone; that error names what is gone.
    named || (path == manifest() && error.damage().is_some())
}
