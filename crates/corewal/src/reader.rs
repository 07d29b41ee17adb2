//! The reader: looks into a store and changes nothing.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use corewal_format::{
    Checkpoint, CoreId, Epoch, Frame, LogId, Lsn, MAX_EPOCH, Manifest, ManifestState, Offsets, Record, RunRef,
    SegmentIdentity, Sequence, TimestampNs,
};
use corewal_io::{FileStorage, OpenMode, Storage, WritePath};

use crate::checkpoint::{for_each_record, named_runs};
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::Recover;
use crate::parallel::for_each_core;
use crate::recovery::{
    NewState, Plan, Recovered, Root, check_claims, check_reach, check_root, is_undoable, load_manifest, plan,
    replay_from,
};
use crate::route::Router;
use crate::scan::{Cursor, LogIdentity, Place, Step, Survey, survey};
use crate::state::State;

/// How often a reader beside a live writer looks again when a log changes
/// under its eyes: a segment released, a frame half written.
const LOOKS: u32 = 5;

/// Looks into a store, beside a live writer too. It creates and changes
/// nothing, takes no lock, and keeps nobody out.
///
/// Beside a live writer it sees what the logs themselves prove to be durable:
/// every frame carries the durable position that its writer knew, so what was
/// made durable last shows once the next frame is written. Where no writer
/// lives, it sees what the next open would recover.
///
/// ```
/// use corewal::{Keyed, Options, Reader, Recover};
///
/// # fn main() -> corewal::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let mut opened = Options::new().cores(1).open(dir.path())?;
/// opened.shards[0].put(b"key", b"value")?;
/// opened.shards[0].commit(&Default::default())?;
/// opened.shards.remove(0).close()?;
/// drop(opened);
///
/// let reader = Reader::open(dir.path())?;
/// let cores = reader.replay(Recover::Latest, |_| Keyed::default())?;
/// assert_eq!(cores[0].state.get(b"key"), Some(&b"value"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader<S: Storage = FileStorage> {
    layout: Layout<S>,
    manifest: Manifest,
    /// What is wrong with a newer manifest, if this is the one before it.
    instead: Option<String>,
    live: bool,
    surveys: Vec<Survey>,
    /// No epoch behind it is looked at.
    until: Epoch,
}

/// One core, as a reader sees it.
#[derive(Clone, Debug)]
pub struct CoreView<T> {
    /// The core.
    pub core: CoreId,
    /// Its state.
    pub state: T,
    /// Its source offsets.
    pub offsets: Offsets,
    /// Its watermark.
    pub watermark: Option<i64>,
}

/// Facts about one core's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreInfo {
    /// The core.
    pub core: CoreId,
    /// First position that has not been released.
    pub start_lsn: Lsn,
    /// End of what is there.
    pub appended_lsn: Lsn,
    /// Everything below was durable when it was written about. Where no writer
    /// lives, what lies above becomes durable at the next open.
    pub durable_lsn: Lsn,
    /// The newest epoch that this core has ended.
    pub epoch: Epoch,
    /// The sequence of the next record.
    pub next_sequence: Sequence,
    /// Records in the log.
    pub records: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Whether the log was closed in order.
    pub closed: bool,
}

/// What holds a store's space, in bytes of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Runs that checkpoints consist of.
    pub checkpoints: u64,
    /// Runs that none names: of one that is being made, or litter that the next
    /// opening removes.
    pub other_runs: u64,
    /// Segments of the logs, those included that are ready and unused.
    pub segments: u64,
    /// Files of released segments, to be used again.
    pub spares: u64,
}

/// Facts about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Identity of the store.
    pub log_id: LogId,
    /// Whether somebody has it open for writing.
    pub live: bool,
    /// The newest complete epoch; 0 if none.
    pub complete_epoch: Epoch,
    /// The checkpoints, oldest first, with their runs.
    pub checkpoints: Vec<Checkpoint>,
    /// What holds space.
    pub space: Space,
    /// What is wrong with the newest manifest, if the one before it counts.
    pub note: Option<String>,
    /// Names inside the store's directory that are not the store's.
    pub strangers: Vec<PathBuf>,
    /// By core.
    pub cores: Vec<CoreInfo>,
}

/// A record with its place and whether it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The core.
    pub core: CoreId,
    /// Position of its first byte.
    pub lsn: Lsn,
    /// Its number in the core's log.
    pub sequence: Sequence,
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// When its frame was finished.
    pub timestamp: TimestampNs,
    /// Whether no rollback took it back.
    pub counts: bool,
    /// The record.
    pub record: Record<'a>,
}

impl Reader {
    /// Looks into the store in `dir`.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Damaged`], [`Error::Unsupported`],
    /// [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        // Compiled here, for all callers.
        fn on_files(dir: &Path) -> Result<Reader> {
            Reader::open_dir(FileStorage::new(), dir)
        }
        on_files(dir.as_ref())
    }
}

impl<S: Storage> Reader<S> {
    /// As [`Reader::open`], on another backend.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_on(storage: S, dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_dir(storage, dir.as_ref())
    }

    fn open_dir(storage: S, dir: &Path) -> Result<Self> {
        let reader = Self::open_unclaimed(storage, dir)?;
        check_root(&reader.layout, &reader.manifest, reader.instead.as_deref(), reader.surveys.iter())?;
        // A live log may lag behind what another one says of it.
        if !reader.live {
            check_claims(&reader.layout, reader.surveys.iter(), MAX_EPOCH)?;
            check_reach(&reader.layout, &reader.manifest, reader.surveys.iter(), reader.complete_epoch())?;
        }
        Ok(reader)
    }

    /// Whatever the logs say of each other.
    pub(crate) fn open_unclaimed(storage: S, dir: &Path) -> Result<Self> {
        let mut layout = Layout::of(storage, dir)?;
        let Root { manifest, instead } = ready_manifest(&layout)?;
        layout.generation = manifest.generation;
        let lock = layout.lock();
        let live = layout.storage.is_locked(&lock).map_err(|error| Error::io("look at", &lock, error))?;
        let cores: Vec<_> = (0..manifest.cores).map(CoreId).collect();
        let surveys = for_each_core(false, cores, |core| {
            let log = LogIdentity::of(&manifest, core);
            if live { survey_live(&layout, log) } else { survey(&layout, log, Lsn(u64::MAX)) }
        });
        let surveys: Vec<Survey> = surveys.into_iter().collect::<Result<_>>()?;
        if let Some(damage) = surveys.iter().find_map(|survey| survey.damage(&layout)) {
            return Err(Error::Damaged(Box::new(damage)));
        }
        Ok(Self { layout, manifest, instead, live, surveys, until: MAX_EPOCH })
    }

    pub(crate) fn layout(&self) -> &Layout<S> {
        &self.layout
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn surveys(&self) -> &[Survey] {
        &self.surveys
    }

    /// Looks at no epoch behind this one: the newest complete epoch is one up to
    /// it. It has to be one that no checkpoint has folded away; see
    /// [`Options::coordinated`](crate::Options::coordinated) for stores where
    /// that holds.
    #[must_use]
    pub fn until(mut self, epoch: Epoch) -> Self {
        self.until = epoch;
        self
    }

    /// The newest complete epoch; 0 if none.
    #[must_use]
    pub fn complete_epoch(&self) -> Epoch {
        self.plan(Recover::CompleteEpoch).complete
    }

    /// Which core owns which key.
    #[must_use]
    pub fn router(&self) -> Router {
        Router::new(self.manifest.cores)
    }

    /// How a writer on this backend would write to the store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_path(&self) -> Result<WritePath> {
        let path = self.layout.manifest();
        let file = self.layout.storage.open(&path, OpenMode::Read).map_err(|error| Error::io("open", &path, error))?;
        Ok(self.layout.storage.write_path(&file))
    }

    fn log(&self, core: CoreId) -> LogIdentity {
        LogIdentity::of(&self.manifest, core)
    }

    fn plan(&self, recover: Recover) -> Plan {
        plan(self.surveys.iter(), recover, self.until, self.layout.planted)
    }

    /// The state of every core, built by the same `apply` as everywhere.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`], also if a live writer has released
    /// what was about to be read: look again. [`Error::NotFoldable`] if there are
    /// checkpoints and the state does not fold.
    pub fn replay<T: State>(
        &self,
        recover: Recover,
        state: impl Fn(CoreId) -> T + Send + Sync,
    ) -> Result<Vec<CoreView<T>>> {
        if !self.manifest.checkpoints.is_empty() && !T::FOLDS {
            return Err(Error::NotFoldable);
        }
        self.replay_on(&self.manifest, recover, &state)
    }

    /// Source offsets and watermark of every core, without the state: of a
    /// checkpoint it reads a part only.
    ///
    /// # Errors
    /// As [`Reader::replay`].
    pub fn progress(&self, recover: Recover) -> Result<Vec<CoreView<()>>> {
        let mut manifest = self.manifest.clone();
        for part in manifest.checkpoints.iter_mut().flat_map(|checkpoint| &mut checkpoint.cores) {
            // The newest run says what all of them come to.
            part.runs.drain(..part.runs.len().saturating_sub(1));
        }
        self.replay_on(&manifest, recover, &|_| ())
    }

    fn replay_on<T: State>(
        &self,
        manifest: &Manifest,
        recover: Recover,
        state: NewState<'_, T>,
    ) -> Result<Vec<CoreView<T>>> {
        let keep = self.plan(recover).keep;
        let surveys: Vec<&Survey> = self.surveys.iter().collect();
        let replayed = replay_from(&self.layout, manifest, &surveys, keep, false, state, &SystemClock)?;
        let view = |(survey, (recovered, _)): (&Survey, (Recovered<T>, _))| {
            let progress = recovered.progress;
            let (offsets, watermark) = (progress.offsets, progress.watermark);
            CoreView { core: survey.core, state: recovered.state, offsets, watermark }
        };
        Ok(self.surveys.iter().zip(replayed.cores).map(view).collect())
    }

    /// Facts about the store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn info(&self) -> Result<Info> {
        let cores: Vec<_> = self.surveys.iter().map(|survey| self.core_info(survey)).collect::<Result<_>>()?;
        let complete_epoch = self.complete_epoch();
        let space = self.space(&cores)?;
        Ok(Info {
            log_id: self.manifest.log_id,
            live: self.live,
            complete_epoch,
            checkpoints: self.manifest.checkpoints.clone(),
            space,
            note: self.instead.clone(),
            strangers: self.layout.strangers(self.manifest.cores)?,
            cores,
        })
    }

    fn space(&self, cores: &[CoreInfo]) -> Result<Space> {
        let layout = &self.layout;
        let mut space = Space { segments: cores.iter().map(|core| core.bytes).sum(), ..Space::default() };
        let named = named_runs(&self.manifest);
        for run in layout.list_runs()? {
            let bytes = layout.len_if_there(&layout.run(run))?;
            *if named.contains(&run) { &mut space.checkpoints } else { &mut space.other_runs } += bytes;
        }
        for core in cores {
            for spare in layout.list_spares(core.core)? {
                space.spares += layout.len_if_there(&layout.spare(core.core, spare))?;
            }
        }
        Ok(space)
    }

    fn core_info(&self, survey: &Survey) -> Result<CoreInfo> {
        let segments = self.layout.list_segments(survey.core)?.unwrap_or_default();
        let mut bytes = 0;
        for &segment in &segments {
            bytes += self.layout.len_if_there(&self.layout.segment(survey.core, segment))?;
        }
        Ok(CoreInfo {
            core: survey.core,
            start_lsn: survey.start,
            appended_lsn: survey.end(),
            durable_lsn: if survey.closed { survey.end() } else { survey.proven },
            epoch: survey.coverage.newest_named(),
            next_sequence: survey.sequence,
            records: survey.records,
            segments: segments.len() as u64,
            bytes,
            closed: survey.closed,
        })
    }

    /// Gives every record from `from` on (a position of each core's log) to
    /// `visit`, merged over the cores in the order (epoch, core, LSN), until it
    /// breaks. Memory is bounded by one frame a core.
    ///
    /// # Errors
    /// As [`Reader::replay`].
    pub fn for_each_record(
        &self,
        cores: Option<CoreId>,
        from: Lsn,
        mut visit: impl FnMut(RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut feeds = Vec::new();
        for survey in self.surveys.iter().filter(|survey| cores.is_none_or(|core| core == survey.core)) {
            feeds.extend(Feed::new(&self.layout, self.log(survey.core), survey, from)?);
        }
        // A core's epochs ascend with its LSNs, so taking the smallest (epoch,
        // core) at hand gives the merged order.
        while let Some(next) = (0..feeds.len()).min_by_key(|&feed| (feeds[feed].epoch, feeds[feed].survey.core)) {
            if feeds[next].run(from, &mut visit).is_break() {
                return Ok(());
            }
            if !feeds[next].advance()? {
                feeds.remove(next);
            }
        }
        Ok(())
    }

    /// Gives every record of the runs of the newest checkpoint to `visit`, core
    /// by core, run by run, as it stands there, until it breaks. The view's
    /// positions count from the beginning of the run's file; the epoch is that
    /// of the checkpoint for which the run was written.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`], also if a live writer has removed a run
    /// meanwhile: look again.
    pub fn for_each_run_record(
        &self,
        cores: Option<CoreId>,
        mut visit: impl FnMut(&RunRef, RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some(newest) = self.manifest.newest() else { return Ok(()) };
        let wanted = self.surveys.iter().map(|survey| survey.core).filter(|core| cores.is_none_or(|one| one == *core));
        for core in wanted {
            for &run in &newest.cores[core.index()].runs {
                let given = for_each_record(&self.layout, self.log(core), run, |header, entry| {
                    let view = RecordView {
                        core,
                        lsn: entry.lsn,
                        sequence: entry.sequence,
                        epoch: entry.epoch,
                        timestamp: header.fields.timestamp,
                        counts: true,
                        record: entry.record,
                    };
                    visit(&run, view)
                })?;
                if given.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The manifest of a store whose creation was finished.
pub(crate) fn ready_manifest<S: Storage>(layout: &Layout<S>) -> Result<Root> {
    let root = load_manifest(layout)?;
    if root.manifest.state != ManifestState::Ready {
        let why = "its creation was cut short; the next open for writing finishes it";
        return Err(Error::NotAStore { path: layout.dir.clone(), why });
    }
    Ok(root)
}

/// Surveys a log that somebody writes to, up to what it proves durable.
pub(crate) fn survey_live<S: Storage>(layout: &Layout<S>, log: LogIdentity) -> Result<Survey> {
    let mut looks = 0;
    loop {
        looks += 1;
        let found = survey(layout, log, Lsn(u64::MAX)).and_then(|whole| {
            // The files of a release go when its record is durable, which may
            // be before a later frame says so.
            let covered = if whole.begins_where_it_says() { log.covered.max(whole.start) } else { log.covered };
            survey(layout, LogIdentity { covered, ..log }, whole.proven)
        });
        match found {
            Ok(survey) if survey.verdict.opens() || looks == LOOKS => return Ok(survey),
            Err(error) if looks == LOOKS => return Err(error),
            _ => {}
        }
    }
}

/// One core's part of a merged reading: the frame at hand, copied out of the
/// cursor.
struct Feed<'r, S: Storage> {
    cursor: Cursor<'r, S>,
    log: LogIdentity,
    survey: &'r Survey,
    frame: Vec<u8>,
    place: Place,
    /// Records of the frame that have been given out.
    given: usize,
    /// Epoch of the next record.
    epoch: Epoch,
}

impl<'r, S: Storage> Feed<'r, S> {
    fn new(layout: &'r Layout<S>, log: LogIdentity, survey: &'r Survey, from: Lsn) -> Result<Option<Self>> {
        let first = survey.segments.iter().rev().find(|span| span.base_lsn <= from).or(survey.segments.first());
        let Some(first) = first else { return Ok(None) };
        let Ok(cursor) = Cursor::new(layout, log, first.id, survey.end())? else {
            return Ok(None);
        };
        let place = cursor.place();
        let mut feed = Self { cursor, log, survey, frame: Vec::new(), place, given: 0, epoch: Epoch(0) };
        Ok(feed.load()?.then_some(feed))
    }

    /// Takes the next frame in; `false` at the end of the log.
    fn load(&mut self) -> Result<bool> {
        match self.cursor.step()? {
            Step::Stop(_) => Ok(false),
            Step::Frame(frame, place) => {
                self.frame.clear();
                self.frame.extend_from_slice(frame.bytes());
                self.place = place;
                self.given = 0;
                self.epoch = frame.entries().flatten().next().map_or(frame.header.fields.epoch, |entry| entry.epoch);
                Ok(true)
            }
        }
    }

    /// Gives out the records that share the epoch at hand.
    fn run(&mut self, from: Lsn, visit: &mut impl FnMut(RecordView<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let (log, place) = (self.log, self.place);
        let identity =
            SegmentIdentity { log_id: log.log_id, core: log.core, segment: place.segment, base_lsn: place.base_lsn };
        let frame = Frame::decode(&self.frame, identity.checksum_seed(), place.lsn());
        let frame = frame.expect("the cursor found it valid and this is a copy");
        for entry in frame.entries().flatten().skip(self.given) {
            if entry.epoch != self.epoch {
                self.epoch = entry.epoch;
                return ControlFlow::Continue(());
            }
            self.given += 1;
            let undone =
                is_undoable(&entry.record) && (self.survey.dead.contains(entry.lsn) || entry.lsn < self.survey.start);
            if entry.lsn >= from {
                visit(RecordView {
                    core: log.core,
                    lsn: entry.lsn,
                    sequence: entry.sequence,
                    epoch: entry.epoch,
                    timestamp: frame.header.fields.timestamp,
                    counts: !undone,
                    record: entry.record,
                })?;
            }
        }
        self.given = usize::MAX;
        ControlFlow::Continue(())
    }

    /// Makes sure that there is a next record; `false` at the end of the log.
    fn advance(&mut self) -> Result<bool> {
        if self.given == usize::MAX { self.load() } else { Ok(true) }
    }
}
