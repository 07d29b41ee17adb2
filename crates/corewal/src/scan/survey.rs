//! The survey: the first pass over one core's log. It collects the facts from
//! which recovery decides; it changes nothing and applies nothing.

use corewal_format::{
    BLOCK_LEN, CoreId, Entry, Epoch, Frame, Lsn, MAX_EPOCH, Opening, Record, RecordError, SegmentId, Sequence,
    TimestampNs, block_align,
};
use corewal_io::Storage;

use super::coverage::Coverage;
use super::cursor::{Cursor, LogIdentity, Place, Step, Stop, StopReason};
use super::dead::DeadRanges;
use super::evidence::{self, Evidence};
use super::verdict::{Verdict, verdict};
use crate::error::{Damage, Result};
use crate::layout::Layout;
use crate::planted::PlantedBug;

/// A segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSpan {
    pub(crate) id: SegmentId,
    pub(crate) base_lsn: Lsn,
    /// Behind its last frame, as far as it has been read or written. The next
    /// segment begins there or later.
    pub(crate) end: Lsn,
    /// The newest epoch that counts as ended at its end.
    pub(crate) ended: Epoch,
}

/// A segment that is full, and what an archive has to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) id: SegmentId,
    pub(crate) base_lsn: Lsn,
    pub(crate) end: Lsn,
    /// Where the log goes on.
    pub(crate) next: (SegmentId, Lsn),
    /// The epoch of its first frame.
    pub(crate) first_epoch: Epoch,
    /// All epochs up to this one had ended by its end.
    pub(crate) ended: Epoch,
    pub(crate) newest: TimestampNs,
}

/// The facts about one core's log.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    pub(crate) core: CoreId,
    /// Segments the scan went through, in order.
    pub(crate) segments: Vec<SegmentSpan>,
    /// Those of them that are sealed.
    pub(crate) sealed: Vec<Sealed>,
    /// Epoch of the first frame of the segment at hand.
    first_epoch: Epoch,
    /// Segments that were released and not yet removed.
    pub(crate) released: Vec<SegmentId>,
    /// Segments behind the place where the scan stopped.
    pub(crate) later: Vec<SegmentId>,
    /// A checkpoint has what stands below.
    covered: Lsn,
    /// The first position that counts, and the newest epoch that ended in what
    /// was released before it.
    pub(crate) start: Lsn,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) sequence: Sequence,
    /// The epoch that is current at the end.
    pub(crate) epoch: Epoch,
    pub(crate) opening: Opening,
    pub(crate) timestamp: TimestampNs,
    /// Everything below was durable at some time.
    pub(crate) proven: Lsn,
    /// The newest position between two batches that counts.
    pub(crate) boundary: Lsn,
    pub(crate) batch_open: bool,
    pub(crate) coverage: Coverage,
    /// The newest epoch whose end stands in the log, counting or not.
    pub(crate) ended: Epoch,
    /// The newest epoch that the log says every core had ended.
    pub(crate) claimed: Epoch,
    pub(crate) dead: DeadRanges,
    /// The last record says that the log was closed in order.
    pub(crate) closed: bool,
    pub(crate) stop: Stop,
    pub(crate) evidence: Evidence,
    pub(crate) verdict: Verdict,
}

/// Surveys the log of one core, up to `limit`.
pub(crate) fn survey<S: Storage>(layout: &Layout<S>, log: LogIdentity, limit: Lsn) -> Result<Survey> {
    let Some(ids) = layout.list_segments(log.core)? else {
        return Ok(Survey::missing(log.core));
    };
    let mut first = 0;
    loop {
        let Some(&segment) = ids.get(first) else {
            return Ok(Survey::missing(log.core));
        };
        let mut survey = scan(layout, log, segment, limit)?;
        let last = survey.segments.last().map_or(segment, |span| span.id);
        let next = ids.partition_point(|&id| id <= last.max(survey.stop.place.segment));
        // A release whose removals a crash left half done shows as gaps that
        // the log behind the last of them vouches for.
        if survey.stop.reason == StopReason::NextMissing
            && let Some(begin) = begin_behind_gaps(layout, log, &ids, next, limit)?
        {
            first = begin;
            continue;
        }
        survey.later = ids[next..].to_vec();
        // What was released, and what a repair jumped over: nothing leads there.
        let visited = |id: &SegmentId| survey.segments.iter().any(|span| span.id == *id);
        survey.released =
            ids[..next].iter().filter(|id| !visited(id) && **id != survey.stop.place.segment).copied().collect();
        let spans = &survey.segments;
        let released = spans.windows(2).take_while(|pair| pair[1].base_lsn <= survey.start).count();
        survey.released.extend(spans[..released].iter().map(|span| span.id));
        survey.segments.drain(..released);
        let first = survey.segments.first().map_or(SegmentId(0), |span| span.id);
        survey.sealed.retain(|sealed| sealed.id >= first);
        survey.judge(layout, log)?;
        return Ok(survey);
    }
}

/// The first of `ids`, from `next` on, where a log begins that says so.
fn begin_behind_gaps<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    ids: &[SegmentId],
    mut next: usize,
    limit: Lsn,
) -> Result<Option<usize>> {
    while let Some(&segment) = ids.get(next) {
        let behind = scan(layout, log, segment, limit)?;
        if behind.begins_where_it_says() {
            return Ok(Some(next));
        }
        if behind.stop.reason != StopReason::NextMissing {
            return Ok(None);
        }
        let last = behind.segments.last().map_or(segment, |span| span.id);
        next = ids.partition_point(|&id| id <= last);
    }
    Ok(None)
}

fn scan<S: Storage>(layout: &Layout<S>, log: LogIdentity, first: SegmentId, limit: Lsn) -> Result<Survey> {
    let mut survey = Survey { covered: log.covered, ..Survey::empty(log.core) };
    let mut cursor = match Cursor::new(layout, log, first, limit)? {
        Ok(cursor) => cursor,
        Err(stop) => {
            survey.stop = stop;
            return Ok(survey);
        }
    };
    survey.boundary = cursor.place().lsn();
    loop {
        let (frame, place) = match cursor.step()? {
            Step::Frame(frame, place) => (frame, place),
            Step::Stop(stop) => {
                survey.enter(&stop.place);
                survey.stop = stop;
                return Ok(survey);
            }
        };
        if let Err(error) = survey.take(&frame, place) {
            survey.stop = Stop { place, reason: StopReason::Records(error) };
            return Ok(survey);
        }
    }
}

/// A frame whose records are well-formed, and what they come to if all of them
/// are data and commits. Nearly all frames are such: they are walked once.
struct Checked {
    /// The end of the last commit.
    boundary: Option<Lsn>,
    batch_open: bool,
    /// There are other records too, to be taken one by one.
    steers: bool,
}

impl Checked {
    fn new(frame: &Frame<'_>) -> std::result::Result<Self, RecordError> {
        let mut checked = Self { boundary: None, batch_open: false, steers: false };
        for entry in frame.entries() {
            let entry = entry?;
            match entry.record {
                Record::Put { .. } | Record::Delete { .. } | Record::Payload(_) => checked.batch_open = true,
                Record::Commit(_) => {
                    checked.batch_open = false;
                    checked.boundary = Some(entry.end);
                }
                _ => checked.steers = true,
            }
        }
        Ok(checked)
    }
}

impl Survey {
    fn empty(core: CoreId) -> Self {
        let nowhere = Place::first_frame(SegmentId(0), Lsn(0));
        Self {
            core,
            segments: Vec::new(),
            sealed: Vec::new(),
            first_epoch: Epoch(0),
            released: Vec::new(),
            later: Vec::new(),
            covered: Lsn(0),
            start: Lsn(0),
            records: 0,
            bytes: 0,
            sequence: Sequence(0),
            epoch: Epoch(1),
            opening: Opening(0),
            timestamp: TimestampNs(0),
            proven: Lsn(0),
            boundary: Lsn(0),
            batch_open: false,
            coverage: Coverage::default(),
            ended: Epoch(0),
            claimed: Epoch(0),
            dead: DeadRanges::default(),
            closed: false,
            stop: Stop { place: nowhere, reason: StopReason::NextMissing },
            evidence: Evidence::nothing(),
            verdict: Verdict::Missing,
        }
    }

    fn missing(core: CoreId) -> Self {
        Self::empty(core)
    }

    /// The survey of a log of one segment, from the beginning, that has ended
    /// these epochs.
    #[cfg(test)]
    pub(crate) fn of_epochs(core: u16, epochs: &[u64]) -> Self {
        let mut survey = Self::empty(CoreId(core));
        for &epoch in epochs {
            let barrier = Record::Barrier { epoch: Epoch(epoch), complete: Epoch(0) };
            survey.coverage.take(survey.epoch, &barrier);
            survey.ended = Epoch(epoch);
            survey.epoch = Epoch(epoch + 1);
        }
        let place = Place { offset: 3 * BLOCK_LEN as u64, ..survey.stop.place };
        survey.segments =
            vec![SegmentSpan { id: place.segment, base_lsn: Lsn(0), end: place.lsn(), ended: survey.ended }];
        survey.stop.place = place;
        survey.verdict = Verdict::Clean;
        survey
    }

    /// Position of the next frame.
    pub(crate) fn end(&self) -> Lsn {
        self.stop.place.lsn()
    }

    pub(crate) fn begins_where_it_says(&self) -> bool {
        self.segments.first().is_some_and(|first| first.base_lsn <= self.start.max(self.covered))
    }

    /// Whether the log ends before what the newest checkpoint has of it. What a
    /// checkpoint holds was durable, so there were frames that are gone; or the
    /// log was given up by a repair that was cut short, and what is left of it
    /// does not count. (Where it was to stop at a limit, that is no end.)
    fn ends_before_checkpoint(&self) -> bool {
        self.stop.reason != StopReason::Limit && self.end() < self.covered
    }

    /// The first position that counts and is there.
    pub(crate) fn begin(&self) -> Lsn {
        self.segments.first().map_or(self.start, |first| self.start.max(first.base_lsn))
    }

    fn enter(&mut self, place: &Place) {
        let known = self.segments.last().is_some_and(|last| last.id == place.segment);
        if !known && place.offset > 0 {
            let end = place.base_lsn.plus(BLOCK_LEN as u64);
            let ended = self.coverage.newest_named();
            if let Some(last) = self.segments.last_mut() {
                last.ended = ended;
            }
            self.segments.push(SegmentSpan { id: place.segment, base_lsn: place.base_lsn, end, ended });
        }
    }

    fn take(&mut self, frame: &Frame<'_>, place: Place) -> std::result::Result<(), RecordError> {
        self.enter(&place);
        let fields = frame.header.fields;
        if place.offset == BLOCK_LEN as u64 {
            self.first_epoch = fields.epoch;
        }
        // All records are checked before any is taken: a frame counts whole.
        let checked = Checked::new(frame)?;
        // The cursor compares the beginnings of frames; here it is known where
        // the last one ended.
        if fields.epoch < self.epoch {
            return Err(RecordError::Malformed { what: "the epoch goes back" });
        }
        // A log whose beginning was released has no other record of it.
        self.epoch = self.epoch.max(fields.epoch);
        self.sequence = fields.sequence.plus(frame.header.records.into());
        if checked.steers {
            for entry in frame.entries().flatten() {
                self.take_entry(&entry);
                if let (Record::Repair { sequence, .. }, true) = (entry.record, fields.sealed) {
                    self.sequence = self.sequence.max(sequence);
                }
            }
        } else {
            self.closed = false;
            self.batch_open = checked.batch_open;
            self.boundary = checked.boundary.unwrap_or(self.boundary);
        }
        let len = block_align(frame.header.len) as u64;
        self.segments.last_mut().expect("entered above").end = place.lsn().plus(len);
        self.records += u64::from(frame.header.records);
        self.bytes += len;
        self.opening = fields.opening;
        self.timestamp = self.timestamp.max(fields.timestamp);
        self.proven = self.proven.max(fields.durable_lsn);
        if fields.sealed {
            self.seal(frame, place);
        }
        Ok(())
    }

    fn seal(&mut self, frame: &Frame<'_>, place: Place) {
        let leads = frame.entries().flatten().find_map(|entry| match entry.record {
            Record::Seal { base_lsn } => Some((place.segment.next(), base_lsn)),
            Record::Repair { segment, base_lsn, .. } => Some((segment, base_lsn)),
            _ => None,
        });
        self.sealed.push(Sealed {
            id: place.segment,
            base_lsn: place.base_lsn,
            end: self.segments.last().expect("entered above").end,
            next: leads.expect("the cursor went on there"),
            first_epoch: self.first_epoch,
            ended: self.coverage.newest_up_to(MAX_EPOCH),
            newest: self.timestamp,
        });
    }

    fn take_entry(&mut self, entry: &Entry<'_>) {
        self.closed = false;
        match entry.record {
            Record::Put { .. } | Record::Delete { .. } | Record::Payload(_) => {
                self.batch_open = true;
                return;
            }
            Record::Commit(_) => {
                self.batch_open = false;
                self.boundary = entry.end;
                return;
            }
            _ => self.coverage.take(self.epoch, &entry.record),
        }
        match entry.record {
            Record::CheckpointMark { .. } => self.boundary = entry.end,
            Record::Barrier { epoch, complete } => {
                self.ended = self.ended.max(epoch);
                self.claimed = self.claimed.max(complete);
                self.boundary = entry.end;
            }
            Record::Park { epoch } => {
                self.ended = self.ended.max(epoch);
                self.boundary = entry.end;
            }
            Record::Unpark { .. } | Record::Open { .. } => {
                // What a parked core missed counts as ended: see `coverage`.
                self.ended = self.ended.max(self.coverage.newest_named());
            }
            Record::Close { complete } => {
                self.claimed = self.claimed.max(complete);
                self.closed = true;
            }
            Record::Rollback { to, .. } => {
                self.dead.add(to, entry.lsn);
                self.boundary = self.boundary.min(to).max(self.start);
                self.batch_open = false;
            }
            Record::Release { to, epoch } => {
                self.start = self.start.max(to);
                self.boundary = self.boundary.max(self.start);
                self.ended = self.ended.max(epoch);
            }
            Record::Repair { forgiven, .. } => self.ended = self.ended.max(forgiven),
            _ => {}
        }
        self.epoch = entry.record.epoch_after(self.epoch).max(self.epoch);
    }

    fn judge<S: Storage>(&mut self, layout: &Layout<S>, log: LogIdentity) -> Result<()> {
        if self.stop.reason != StopReason::Limit {
            self.evidence = evidence::search(layout, log, self.stop.place, &self.later)?;
        }
        let proven = self.proven.max(self.evidence.proven);
        let ignored = layout.planted.has(PlantedBug::ProofsIgnored);
        self.verdict = verdict(self.stop.reason.class(), proven > self.end() && !ignored, self.evidence.behind);
        if self.verdict.opens() && (!self.begins_where_it_says() || self.ends_before_checkpoint()) {
            self.verdict = Verdict::Missing;
        }
        if !self.stop.reason.class().may_be_the_end() {
            // The place itself is wrong: that is to be told, not what may be
            // wrong behind it.
            self.evidence.detail = None;
        }
        Ok(())
    }

    /// The damage, if the verdict is one that refuses to open.
    pub(crate) fn damage<S: Storage>(&self, layout: &Layout<S>) -> Option<Damage> {
        if self.verdict.opens() {
            return None;
        }
        let place = self.stop.place;
        let whole_core = self.segments.is_empty() && self.later.is_empty();
        let headless = !whole_core && !self.begins_where_it_says() && !self.segments.is_empty();
        let mut damage = Damage {
            core: self.core,
            segment: Some(place.segment),
            offset: place.offset,
            lsn: (!self.segments.is_empty()).then(|| self.end()),
            verdict: self.verdict,
            path: layout.segment(self.core, place.segment),
            detail: self.stop.reason.to_string(),
            loss: self.loss(),
        };
        if whole_core && self.stop.reason == StopReason::NextMissing {
            damage.segment = None;
            damage.path = layout.core_dir(self.core);
            damage.detail = "the core's log is absent".into();
        } else if headless && self.verdict == Verdict::Missing && self.stop.reason != StopReason::NextMissing {
            let first = self.segments[0];
            damage.segment = Some(first.id);
            damage.offset = 0;
            damage.lsn = Some(first.base_lsn);
            damage.path = layout.segment(self.core, first.id);
            damage.detail = "the log begins here, but nothing says that what came before was released".into();
        } else if self.verdict == Verdict::Missing
            && self.stop.reason.class().may_be_the_end()
            && self.ends_before_checkpoint()
        {
            damage.detail = format!("the log ends here, and the newest checkpoint has it up to LSN {}", self.covered);
        } else if let Some((segment, detail)) = &self.evidence.detail {
            if *segment != place.segment {
                damage.segment = Some(*segment);
                damage.offset = 0;
                damage.path = layout.segment(self.core, *segment);
            }
            damage.detail.clone_from(detail);
        }
        Some(damage)
    }

    fn loss(&self) -> String {
        let evidence = &self.evidence;
        let proven = self.proven.max(evidence.proven);
        let mut loss = match proven.0.checked_sub(self.end().0) {
            Some(bytes) if bytes > 0 && proven.0 != u64::MAX => format!("at least {bytes} durable bytes"),
            _ => "everything behind this place".into(),
        };
        if evidence.frames > 0 {
            loss += &format!("; {} intact frame(s) stand behind it", evidence.frames);
        }
        loss
    }
}
