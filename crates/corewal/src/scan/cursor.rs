//! The cursor: reads one core's log frame by frame, over all its segments, in
//! bounded memory. Recovery, readers, `dump` and `verify` all go through it:
//! there is one interpreter of a log.

use std::path::PathBuf;

use corewal_format::{
    BLOCK_LEN, CoreId, Epoch, FRAME_HEADER_LEN, Frame, FrameError, FrameHeader, LogId, Lsn, Manifest, Opening, Record,
    RecordError, RunId, SegmentError, SegmentHeader, SegmentId, SegmentIdentity, Sequence, block_align,
};
use corewal_io::{OpenMode, ReadPace, Storage};

use super::verdict::StopClass;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::planted::PlantedBug;

/// Bytes read at once.
fn chunk_len(pace: ReadPace) -> usize {
    match pace {
        ReadPace::Full => 512 << 10,
        ReadPace::Gentle => 256 << 10,
    }
}

/// Which log: everything a segment must agree with besides its number and base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogIdentity {
    pub(crate) log_id: LogId,
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    /// A checkpoint has what stands below, so the log may begin there or
    /// before.
    pub(crate) covered: Lsn,
}

impl LogIdentity {
    /// The log of a core of the store that `manifest` describes.
    pub(crate) fn of(manifest: &Manifest, core: CoreId) -> Self {
        let newest = manifest.newest().and_then(|newest| newest.cores.get(core.index()));
        let covered = newest.map_or(Lsn(0), |part| part.lsn);
        Self { log_id: manifest.log_id, core, cores: manifest.cores, covered }
    }
}

/// A place in a core's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: SegmentId,
    pub(crate) base_lsn: Lsn,
    /// Position in the segment's file.
    pub(crate) offset: u64,
}

impl Place {
    pub(crate) fn first_frame(segment: SegmentId, base_lsn: Lsn) -> Self {
        Self { segment, base_lsn, offset: BLOCK_LEN as u64 }
    }

    pub(crate) fn lsn(&self) -> Lsn {
        self.base_lsn.plus(self.offset)
    }
}

/// What the next frame must follow.
#[derive(Clone, Copy, Debug)]
struct Join {
    /// Unknown before the first frame of a scan.
    previous: Option<(Opening, Sequence)>,
    epoch: Epoch,
}

/// Why the cursor stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    Limit,
    EndOfFile,
    Frame(FrameError),
    Stale {
        opening: Opening,
        current: Opening,
    },
    /// Bytes of the file's life as another segment.
    Former,
    Unjoined {
        what: &'static str,
    },
    Records(RecordError),
    NextMissing,
    Header(SegmentError),
    Foreign {
        detail: String,
    },
}

impl StopReason {
    pub(crate) fn class(&self) -> StopClass {
        match self {
            Self::Limit => StopClass::Limit,
            Self::EndOfFile => StopClass::EndOfFile,
            Self::Frame(FrameError::Zeroed) => StopClass::Zeroed,
            Self::Frame(_) => StopClass::BadFrame,
            Self::Stale { .. } => StopClass::Stale,
            Self::Former => StopClass::Former,
            Self::Unjoined { .. } => StopClass::Unjoined,
            Self::Records(_) => StopClass::BadRecords,
            Self::NextMissing => StopClass::NextMissing,
            Self::Header(SegmentError::Version { .. }) => StopClass::NewerHeader,
            Self::Header(_) => StopClass::BadHeader,
            Self::Foreign { .. } => StopClass::ForeignHeader,
        }
    }
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Limit => write!(f, "the end of what is known to be durable"),
            Self::EndOfFile => write!(f, "the file ends"),
            Self::Frame(error) => error.fmt(f),
            Self::Stale { opening, current } => {
                write!(f, "a frame left by opening {opening}, while the log is at opening {current}")
            }
            Self::Former => write!(f, "bytes of the file's earlier life"),
            Self::Unjoined { what } => write!(f, "an intact frame that does not follow its predecessor: {what}"),
            Self::Records(error) => error.fmt(f),
            Self::NextMissing => write!(f, "the segment is absent, though its predecessor is sealed"),
            Self::Header(error) => error.fmt(f),
            Self::Foreign { detail } => write!(f, "not the segment that belongs here: {detail}"),
        }
    }
}

/// Where and why the cursor stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) place: Place,
    pub(crate) reason: StopReason,
}

/// One step of the cursor.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Frame(Frame<'a>, Place),
    Stop(Stop),
}

/// An open segment file and the part of it that is in memory.
pub(crate) struct Window<S: Storage> {
    file: S::File,
    path: PathBuf,
    pub(crate) segment: SegmentId,
    /// The file held another segment before.
    recycled: bool,
    bytes: Vec<u8>,
    /// File position of `bytes[0]`, and how many are filled.
    start: u64,
    filled: usize,
}

impl<S: Storage> Window<S> {
    pub(crate) fn open(layout: &Layout<S>, core: CoreId, segment: SegmentId, bytes: Vec<u8>) -> Result<Option<Self>> {
        Self::open_path(layout, layout.segment(core, segment), segment, bytes)
    }

    /// A run has the form of a segment, in another place.
    pub(crate) fn open_run(layout: &Layout<S>, run: RunId) -> Result<Option<Self>> {
        Self::open_path(layout, layout.run(run), SegmentId(run.0), Vec::new())
    }

    fn open_path(layout: &Layout<S>, path: PathBuf, segment: SegmentId, bytes: Vec<u8>) -> Result<Option<Self>> {
        match layout.storage.open(&path, OpenMode::Read) {
            Ok(file) => {
                layout.storage.set_read_pace(&file, layout.pace);
                Ok(Some(Self { file, path, segment, recycled: false, bytes, start: 0, filled: 0 }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// Its memory, for the next one.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Length of the file.
    pub(crate) fn len(&self, layout: &Layout<S>) -> Result<u64> {
        layout.len(&self.file, &self.path)
    }

    /// The file's header. It is read by itself: what is wanted next may stand far
    /// behind it.
    pub(crate) fn header(&self, layout: &Layout<S>) -> Result<std::result::Result<SegmentHeader, SegmentError>> {
        let mut block = [0; BLOCK_LEN];
        let read = layout.storage.read_at(&self.file, 0, &mut block);
        let len = read.map_err(|error| Error::io("read", &self.path, error))?;
        Ok(SegmentHeader::decode(&block[..len]))
    }

    /// Up to `len` bytes at `offset`, fewer only at the end of the file.
    pub(crate) fn at(&mut self, layout: &Layout<S>, offset: u64, len: usize) -> Result<&[u8]> {
        let within = offset >= self.start && offset + len as u64 <= self.start + self.filled as u64;
        if !within {
            let failed = |error| Error::io("read", &self.path, error);
            let chunk = chunk_len(layout.pace);
            let wanted = block_align(len).max(chunk);
            if self.bytes.len() < wanted {
                // No more memory than the file has bytes, whatever a length in
                // it claims; and clearing a large window would be most of the
                // cost of opening a small log.
                let rest = layout.storage.len(&self.file).map_err(failed)?.saturating_sub(offset);
                let rest = usize::try_from(rest).map_or(wanted, |rest| block_align(rest.min(wanted)));
                let wanted = wanted.min(rest.max(BLOCK_LEN));
                if self.bytes.len() < wanted {
                    // Anew: what is there goes, and the allocator may have zeros.
                    self.bytes = vec![0; wanted];
                }
            }
            self.start = offset;
            self.filled = 0;
            let read = layout.storage.read_at(&self.file, offset, &mut self.bytes);
            self.filled = read.map_err(failed)?;
            if self.filled == self.bytes.len() {
                // The next part comes from the medium while this one is looked at.
                layout.storage.read_ahead(&self.file, offset + self.filled as u64, chunk as u64);
            }
        }
        Ok(self.held(offset, len))
    }

    /// What has been read of `len` bytes at `offset`.
    #[inline]
    pub(crate) fn held(&self, offset: u64, len: usize) -> &[u8] {
        let from = usize::try_from(offset - self.start).expect("within the window");
        let to = (from + len).min(self.filled);
        &self.bytes[from.min(to)..to]
    }
}

/// Reads the frames of one core's log in order.
pub(crate) struct Cursor<'l, S: Storage> {
    layout: &'l Layout<S>,
    log: LogIdentity,
    place: Place,
    join: Join,
    /// Frames that end after this position are not read.
    limit: Lsn,
    window: Option<Window<S>>,
    /// The predecessor sealed itself: this segment has to be there.
    entered_by_seal: bool,
}

impl<'l, S: Storage> Cursor<'l, S> {
    /// A cursor at the first frame of `segment`, which need not be the first of
    /// the log.
    pub(crate) fn new(
        layout: &'l Layout<S>,
        log: LogIdentity,
        segment: SegmentId,
        limit: Lsn,
    ) -> Result<std::result::Result<Self, Stop>> {
        let mut cursor = Self {
            layout,
            log,
            place: Place::first_frame(segment, Lsn(0)),
            join: Join { previous: None, epoch: Epoch(0) },
            limit,
            window: None,
            entered_by_seal: false,
        };
        Ok(match cursor.enter(None)? {
            None => Ok(cursor),
            Some(stop) => Err(stop),
        })
    }

    /// A cursor at a frame in the middle of a log, whatever came before it.
    pub(crate) fn resume(layout: &'l Layout<S>, log: LogIdentity, place: Place) -> Self {
        Self {
            layout,
            log,
            place,
            join: Join { previous: None, epoch: Epoch(0) },
            limit: Lsn(u64::MAX),
            window: None,
            entered_by_seal: true,
        }
    }

    /// Where the next frame is expected.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Opens the segment at hand and checks its header. `base_lsn` is what the
    /// predecessor demands.
    fn enter(&mut self, base_lsn: Option<Lsn>) -> Result<Option<Stop>> {
        let Place { segment, .. } = self.place;
        let bytes = self.window.take().map(Window::into_buffer).unwrap_or_default();
        let at_header = Place { offset: 0, ..self.place };
        let stop = |reason| Ok(Some(Stop { place: at_header, reason }));
        let Some(mut window) = Window::open(self.layout, self.log.core, segment, bytes)? else {
            return stop(StopReason::NextMissing);
        };
        let header = match window.header(self.layout)? {
            Ok(header) => header,
            Err(error) => return stop(StopReason::Header(error)),
        };
        if let Some(detail) = foreign(&self.log, segment, base_lsn, &header) {
            return stop(StopReason::Foreign { detail });
        }
        window.recycled = header.recycled;
        self.place.base_lsn = header.identity.base_lsn;
        self.window = Some(window);
        Ok(None)
    }

    fn identity(&self) -> SegmentIdentity {
        SegmentIdentity {
            log_id: self.log.log_id,
            core: self.log.core,
            segment: self.place.segment,
            base_lsn: self.place.base_lsn,
        }
    }

    /// The next frame, or why there is none. After a stop the cursor stays
    /// where it is; calling again looks again.
    pub(crate) fn step(&mut self) -> Result<Step<'_>> {
        if self.window.as_ref().is_none_or(|window| window.segment != self.place.segment) {
            let base = self.entered_by_seal.then_some(self.place.base_lsn);
            if let Some(stop) = self.enter(base)? {
                return Ok(Step::Stop(stop));
            }
        }
        if self.layout.planted.has(PlantedBug::ZeroFrameAccepted) {
            self.planted_skip()?;
        }
        let place = self.place;
        let stop = |reason| Ok(Step::Stop(Stop { place, reason }));
        let len = match self.measure()? {
            Ok(len) => len,
            Err(reason) => return stop(reason),
        };
        let seed = self.layout.checksum_seed(&self.identity());
        let window = self.window.as_mut().expect("entered above");
        let bytes = window.at(self.layout, place.offset, len)?;
        let frame = match Frame::decode(bytes, seed, place.lsn()) {
            Ok(frame) => frame,
            Err(error) => return stop(StopReason::Frame(error)),
        };
        if let Err(reason) = joins(&self.join, &frame) {
            return stop(reason);
        }
        Self::follow(&mut self.place, &mut self.join, &frame);
        if frame.header.fields.sealed {
            let Some((next, sequence)) = successor(&frame, self.place) else {
                self.place = place;
                return stop(StopReason::Unjoined { what: "it is sealed and does not say where the log goes on" });
            };
            if next.segment <= place.segment || next.base_lsn < self.place.lsn() {
                self.place = place;
                return stop(StopReason::Unjoined { what: "it leads back to where the log has been" });
            }
            self.entered_by_seal = true;
            self.place = next;
            if let (Some(sequence), Some(previous)) = (sequence, &mut self.join.previous) {
                previous.1 = previous.1.max(sequence);
            }
        }
        Ok(Step::Frame(frame, place))
    }

    /// What a planted bug comes to: zeroed blocks before a frame are passed over.
    fn planted_skip(&mut self) -> Result<()> {
        let before = self.place.offset;
        let mut measured = self.measure()?;
        while matches!(measured, Err(StopReason::Frame(FrameError::Zeroed))) {
            self.place.offset += BLOCK_LEN as u64;
            measured = self.measure()?;
        }
        if measured.is_err() {
            self.place.offset = before;
        }
        Ok(())
    }

    fn follow(place: &mut Place, join: &mut Join, frame: &Frame<'_>) {
        let fields = &frame.header.fields;
        place.offset += block_align(frame.header.len) as u64;
        join.previous = Some((fields.opening, fields.sequence.plus(frame.header.records.into())));
        join.epoch = fields.epoch;
    }

    /// The length of the frame at hand, going by its header.
    fn measure(&mut self) -> Result<std::result::Result<usize, StopReason>> {
        let Place { offset, .. } = self.place;
        let (lsn, limit) = (self.place.lsn(), self.limit);
        if lsn >= limit {
            return Ok(Err(StopReason::Limit));
        }
        let window = self.window.as_mut().expect("entered before");
        let bytes = window.at(self.layout, offset, FRAME_HEADER_LEN)?;
        if bytes.is_empty() {
            return Ok(Err(StopReason::EndOfFile));
        }
        Ok(match FrameHeader::peek(bytes, lsn) {
            Ok(header) if lsn.0 + header.len as u64 > limit.0 => Err(StopReason::Limit),
            Ok(header) => Ok(header.len),
            // Only what claims to stand here can be an unfinished frame of this
            // life; where the file held another segment, the rest is of that.
            Err(FrameError::Magic | FrameError::Lsn { .. } | FrameError::Length { .. }) if window.recycled => {
                Err(StopReason::Former)
            }
            Err(error) => Err(StopReason::Frame(error)),
        })
    }
}

/// Why a file with this header is not the segment of the log that it stands for;
/// `base` is where that begins, if it is known.
pub(super) fn foreign(
    log: &LogIdentity,
    segment: SegmentId,
    base: Option<Lsn>,
    header: &SegmentHeader,
) -> Option<String> {
    let found = &header.identity;
    if header.cores != log.cores {
        return Some(format!("it belongs to a store of {} core(s)", header.cores));
    }
    if header.run {
        return Some("it is a run of a checkpoint".into());
    }
    if found.log_id != log.log_id {
        return Some(format!("it belongs to log {}, this store's is {}", found.log_id, log.log_id));
    }
    if found.core != log.core {
        return Some(format!("it belongs to core {}", found.core));
    }
    if found.segment != segment {
        return Some(format!("it is segment {}", found.segment));
    }
    match base {
        Some(base) if base != found.base_lsn => {
            Some(format!("it begins at LSN {}, its predecessor ends at {base}", found.base_lsn))
        }
        _ => None,
    }
}

fn joins(join: &Join, frame: &Frame<'_>) -> std::result::Result<(), StopReason> {
    let fields = &frame.header.fields;
    if let Some((opening, sequence)) = join.previous {
        if fields.opening < opening {
            return Err(StopReason::Stale { opening: fields.opening, current: opening });
        }
        if fields.opening > opening {
            match frame.entries().next() {
                Some(Ok(entry)) if matches!(entry.record, Record::Open { .. }) => {}
                Some(Err(error)) => return Err(StopReason::Records(error)),
                _ => return Err(StopReason::Unjoined { what: "a new opening without its record" }),
            }
        }
        if fields.sequence != sequence {
            return Err(StopReason::Unjoined { what: "sequence" });
        }
    }
    if fields.epoch < join.epoch {
        return Err(StopReason::Unjoined { what: "epoch" });
    }
    Ok(())
}

/// Where the log goes on behind a sealed frame that ends at `end`, and with
/// which sequence if a repair made it jump.
fn successor(frame: &Frame<'_>, end: Place) -> Option<(Place, Option<Sequence>)> {
    frame.entries().flatten().find_map(|entry| match entry.record {
        Record::Seal { base_lsn } => Some((Place::first_frame(end.segment.next(), base_lsn), None)),
        Record::Repair { segment, base_lsn, sequence, .. } => {
            Some((Place::first_frame(segment, base_lsn), Some(sequence)))
        }
        _ => None,
    })
}
