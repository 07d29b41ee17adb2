//! The door: opening is the only way in. It creates a store or recovers it.
//!
//! ```text
//! lock → manifest → survey each core → settle its tail → verdict
//!      → plan (which epoch) → replay → cut → a record of the new opening
//! ```
//!
//! Up to the plan nothing is changed (settling makes durable what is already
//! there), so an open that refuses leaves the files as they were.

mod create;
mod from;
mod plan;
mod replay;
mod settle;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corewal_format::{BLOCK_LEN, CoreId, Epoch, Lsn, Manifest, Opening, SegmentId};
use corewal_io::{OpenMode, Storage};

use crate::checkpoint::{Checkpointer, CoreLog, RUN_BYTES, remove_litter};
use crate::clock::Clock;
use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::Options;
use crate::parallel::for_each_core;
use crate::planted::PlantedBug;
use crate::report::{CoreReport, Cut, RecoveryReport, RolledBack};
use crate::route::Router;
use crate::scan::{DeadRanges, LogIdentity, SegmentSpan, Survey, survey};
use crate::segments::{Workshop, remove_spares};
use crate::space::Space;
use crate::state::State;
use crate::writer::{Crew, OpenSegment, TakeUp, Writer};

use create::logs_in;
pub(crate) use create::{
    Root, create_dir, create_log, load_manifest, prepare_manifest, replace_manifest, write_manifest,
};
pub(crate) use from::{check_base, check_begin, replay_from};
pub(crate) use plan::{Plan, check_claims, check_reach, check_root, plan};
pub(crate) use replay::{Recovered, is_undoable};

/// One core, ready to go on.
pub(crate) struct OpenedCore<S: Storage, T> {
    pub(crate) writer: Writer<S>,
    pub(crate) state: T,
    pub(crate) progress: Progress,
    /// The newest epoch that counts as ended in this core's log and in all
    /// others.
    pub(crate) ended: Epoch,
    /// The parts of its log that rollbacks took back, this opening's included.
    dead: DeadRanges,
}

/// All cores, ready to go on.
pub(crate) struct OpenedLogs<S: Storage, T> {
    pub(crate) manifest: Manifest,
    pub(crate) router: Router,
    pub(crate) cores: Vec<OpenedCore<S, T>>,
    pub(crate) report: RecoveryReport,
    pub(crate) lock: Arc<S::Lock>,
    pub(crate) checkpointer: Checkpointer<S>,
    pub(crate) space: Arc<Space>,
}

/// Makes the empty state of a core.
pub(crate) type NewState<'s, T> = &'s (dyn Fn(CoreId) -> T + Send + Sync);

/// Opens or creates the store in `dir`.
pub(crate) fn open<S: Storage, T: State>(
    mut options: Options,
    storage: S,
    dir: &Path,
    state: NewState<'_, T>,
) -> Result<OpenedLogs<S, T>> {
    options.check()?;
    let clock = Arc::clone(&options.clock);
    let began = clock.now();
    let mut layout = Layout { planted: options.planted, ..Layout::of(storage, dir)? };
    create::ensure_dir(&layout, options.create)?;
    let lock = Arc::new(lock(&layout)?);
    let (Root { mut manifest, instead }, created) = create::ensure_store(&layout, &options)?;
    layout.generation = manifest.generation;
    if !manifest.checkpoints.is_empty() && !T::FOLDS {
        return Err(Error::NotFoldable);
    }
    if let Some(asked) = options.cores.filter(|&asked| asked != manifest.cores) {
        return Err(Error::CoreCount { store: manifest.cores, asked });
    }
    let wanted_run = options.tuning.segment_bytes.min(RUN_BYTES);
    if let Some(budget) = options.budget {
        options.tuning.fit(budget, manifest.cores)?;
    }
    let strangers = layout.look_around(manifest.cores)?;
    let cores: Vec<_> = (0..manifest.cores).map(CoreId).collect();
    let found = manifest.clone();
    let identity = |core| LogIdentity::of(&found, core);

    let surveys = for_each_core(options.inline, cores, |core| survey_settled(&layout, identity(core), &*clock));
    let surveys: Vec<(Survey, Duration)> = surveys.into_iter().collect::<Result<_>>()?;
    if let Some(damage) = surveys.iter().find_map(|(survey, _)| survey.damage(&layout)) {
        return Err(Error::Damaged(Box::new(damage)));
    }
    let plan = plan(surveys.iter().map(|(survey, _)| survey), options.recover, options.until, layout.planted);
    if options.coordinated && plan.complete != options.until {
        let must = format!(
            "an epoch that ended on every core of {}; the newest not after {} is {}",
            layout.dir.display(),
            options.until,
            plan.complete
        );
        return Err(Error::BadOption { name: "coordinated", must });
    }
    if !layout.planted.has(PlantedBug::ClaimsIgnored) {
        check_claims(&layout, surveys.iter().map(|(survey, _)| survey), options.until)?;
    }
    check_reach(&layout, &manifest, surveys.iter().map(|(survey, _)| survey), plan.complete)?;
    check_root(&layout, &manifest, instead.as_deref(), surveys.iter().map(|(survey, _)| survey))?;

    let all: Vec<&Survey> = surveys.iter().map(|(survey, _)| survey).collect();
    let from = replay_from(&layout, &manifest, &all, plan.keep, options.inline, state, &*clock)?;
    let replayed = surveys.into_iter().zip(from.cores);
    let replayed: Vec<_> =
        replayed.map(|((survey, took), (recovered, more))| (survey, recovered, took + more)).collect();
    let bases = from.bases;

    // From here on the medium changes. The cores do so one by one: what a crash
    // leaves half done, the next open decides the same way.
    let next_epoch = plan.next_epoch(replayed.iter().any(|(_, recovered, _)| recovered.rolled_back > 0));
    let mut notes: Vec<String> = instead.iter().chain(&from.notes).cloned().collect();
    if !notes.is_empty() {
        // What is damaged is not named any more, and no number given twice.
        let usable = from.checkpoint.map_or(0, |checkpoint| checkpoint + 1);
        manifest.checkpoints.truncate(usable);
        manifest.number += 2;
        write_manifest(&layout, &manifest, None)?;
        notes.push("the manifest was written anew".into());
    }
    clear_others(&layout, &manifest)?;
    // What has a log's name and is none may have been a remain.
    let strangers = if strangers.is_empty() { strangers } else { layout.strangers(manifest.cores)? };
    let run_bytes = options.budget.map_or(wanted_run, |budget| budget.run_bytes(wanted_run));
    layout.space = Arc::new(Space::new(options.budget, run_bytes));
    layout.space.count(&layout, &manifest)?;
    let crew = Arc::new(if options.inline { Crew::inline() } else { Crew::background()? });
    let opened = for_each_core(options.inline, replayed, |(survey, recovered, took)| {
        let began = clock.now();
        let (lock, crew) = (Arc::clone(&lock), Arc::clone(&crew));
        let core = Core { layout: &layout, log: identity(survey.core), options: &options, lock, crew };
        let (opened, mut report) = core.go_on(survey, recovered, &plan, next_epoch)?;
        report.duration = took + since(&*clock, began);
        Ok((opened, report))
    });
    let opened: Vec<_> = opened.into_iter().collect::<Result<_>>()?;
    let (cores, reports): (Vec<OpenedCore<S, T>>, _) = opened.into_iter().unzip();
    let logs = cores.iter().zip(bases).map(|(core, progress)| CoreLog { dead: core.dead.clone(), progress });
    let checkpointer = Checkpointer::new(
        layout.gentle(),
        Arc::clone(&clock),
        options.checkpoints,
        manifest.clone(),
        logs.collect(),
        run_bytes,
    )?;
    let write_path = cores.first().expect("a store has a core").writer.write_path();
    let report = RecoveryReport {
        created,
        complete_epoch: plan.complete,
        write_path,
        checkpoint: from.checkpoint.map(|index| manifest.checkpoints[index].epoch),
        notes,
        strangers,
        cores: reports,
        duration: since(&*clock, began),
    };
    let space = Arc::clone(&layout.space);
    Ok(OpenedLogs { router: Router::new(manifest.cores), manifest, cores, report, lock, checkpointer, space })
}

/// Removes what `manifest` does not name: runs, and the logs of other
/// generations, of a change of the number of cores that a crash cut short or of
/// before one.
pub(crate) fn clear_others<S: Storage>(layout: &Layout<S>, manifest: &Manifest) -> Result<()> {
    remove_litter(layout, manifest)?;
    let others = logs_in(layout)?.into_iter().filter(|&(_, generation)| generation != layout.generation);
    for (core, generation) in others {
        let other = layout.of_generation(generation);
        for segment in other.list_segments(core)?.unwrap_or_default() {
            layout.remove_if_there(&other.segment(core, segment))?;
        }
        remove_spares(&other, core)?;
        // An empty directory stays where the backend cannot remove it.
    }
    Ok(())
}

/// Takes the lock that keeps other processes out.
pub(crate) fn lock<S: Storage>(layout: &Layout<S>) -> Result<S::Lock> {
    let path = layout.lock();
    match layout.storage.lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) if layout.planted.has(PlantedBug::LockNotTaken) => {
            // Of another file, which nobody asks for.
            lock(&Layout { dir: layout.runs(), ..layout.clone() })
        }
        Ok(None) => Err(Error::Locked { path }),
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

fn since(clock: &dyn Clock, began: corewal_format::TimestampNs) -> Duration {
    Duration::from_nanos(clock.now().0.saturating_sub(began.0))
}

/// Surveys a core's log and makes sure that what was read is what the medium
/// holds.
pub(crate) fn survey_settled<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    clock: &dyn Clock,
) -> Result<(Survey, Duration)> {
    let began = clock.now();
    // A write that a killed process had under way must not land on what this
    // opening is about to read, or to write.
    for segment in layout.list_segments(log.core)?.unwrap_or_default() {
        let path = layout.segment(log.core, segment);
        layout.storage.quiesce(&path).map_err(|error| Error::io("wait for the writes under way to", &path, error))?;
    }
    let mut found = survey(layout, log, Lsn(u64::MAX))?;
    if !layout.planted.has(PlantedBug::TailNotSettled) && !settle::settle(layout, log, &found)? {
        found = survey(layout, log, Lsn(u64::MAX))?;
    }
    Ok((found, since(clock, began)))
}

/// One core's log between the plan and the writer.
struct Core<'o, S: Storage> {
    layout: &'o Layout<S>,
    log: LogIdentity,
    options: &'o Options,
    lock: Arc<S::Lock>,
    crew: Arc<Crew<S>>,
}

impl<S: Storage> Core<'_, S> {
    fn go_on<T>(
        &self,
        survey: Survey,
        recovered: Recovered<T>,
        plan: &Plan,
        next_epoch: Epoch,
    ) -> Result<(OpenedCore<S, T>, CoreReport)> {
        let report = CoreReport {
            core: self.log.core,
            segments: survey.segments.len() as u64,
            records: survey.records,
            bytes: survey.bytes,
            applied: recovered.applied,
            cut: (survey.verdict == crate::scan::Verdict::Torn).then(|| Cut {
                segment: survey.stop.place.segment,
                offset: survey.stop.place.offset,
                bytes: survey.evidence.bytes,
                why: survey.stop.reason.to_string(),
            }),
            rolled_back: (recovered.rolled_back > 0)
                .then_some(RolledBack { from: recovered.end, records: recovered.rolled_back }),
            epoch: survey.coverage.newest_named(),
            duration: Duration::ZERO,
        };
        let planted = self.layout.planted;
        let unsaid = planted.has(PlantedBug::RollbackNotWritten);
        let survey = self.planted_survey(survey, &recovered)?;
        let rollback = (recovered.rolled_back > 0 && !unsaid).then(|| (recovered.end, plan.keep_barriers(next_epoch)));
        // An epoch that this core ended and another one did not can never be
        // complete any more: all of them go on in a later one.
        let ended = plan.complete;
        let mut dead = survey.dead.clone();
        if let Some((from, _)) = rollback {
            // Its record comes first in what is written now.
            dead.add(from, survey.end());
        }
        let Ends { spans, active, successor } = self.cut(&survey)?;
        remove_spares(self.layout, self.log.core)?;
        let writer = Writer::take_up(
            TakeUp {
                layout: self.layout.clone(),
                log: self.log,
                clock: Arc::clone(&self.options.clock),
                tuning: self.options.tuning,
                spans,
                active,
                successor,
                workshop: Workshop::new(self.layout.clone(), self.log),
                crew: Arc::clone(&self.crew),
                end: survey.end(),
                start: survey.start,
                opening: match survey.opening {
                    last @ Opening(1..) if planted.has(PlantedBug::OpeningNumberNotRaised) => last,
                    last => last.next(),
                },
                epoch: next_epoch,
                coverage: survey.coverage,
                sequence: if planted.has(PlantedBug::SequenceReused) {
                    corewal_format::Sequence(survey.sequence.0 - recovered.rolled_back)
                } else {
                    survey.sequence
                },
                timestamp: survey.timestamp,
                lock: Arc::clone(&self.lock),
            },
            rollback,
        )?;
        Ok((OpenedCore { writer, state: recovered.state, progress: recovered.progress, ended, dead }, report))
    }

    /// The end of the log, where a planted bug puts it elsewhere.
    fn planted_survey<T>(&self, mut survey: Survey, recovered: &Recovered<T>) -> Result<Survey> {
        let (planted, place) = (self.layout.planted, survey.stop.place);
        if planted.has(PlantedBug::LsnReused) && recovered.rolled_back > 0 {
            let up_to = crate::scan::survey(self.layout, self.log, recovered.end)?;
            if up_to.end() >= recovered.end {
                (survey.stop, survey.segments, survey.sequence) = (up_to.stop, up_to.segments, up_to.sequence);
            }
        }
        if planted.has(PlantedBug::AppendedBehindTornTail) && survey.evidence.until > place.offset {
            survey.stop.place.offset = survey.evidence.until.next_multiple_of(BLOCK_LEN as u64);
        }
        Ok(survey)
    }

    /// Removes what lies behind the end of the log, durably, and opens the
    /// segment in which it goes on, and the one behind it if it was made ready.
    fn cut(&self, survey: &Survey) -> Result<Ends<S::File>> {
        let place = survey.stop.place;
        let active = self.open_active(survey)?;
        let (next, base_lsn) = (place.segment.next(), active.next_base());
        let ready = |segment: SegmentId| {
            survey.evidence.ready.iter().any(|span| span.id == segment && segment == next && span.base_lsn == base_lsn)
        };
        let mut removed = false;
        for &segment in survey.released.iter().chain(survey.later.iter().rev()) {
            removed |= !ready(segment) && self.layout.discard_segment(&self.segment(segment))?;
        }
        if removed {
            self.layout.sync_dir(&self.layout.core_dir(self.log.core))?;
        }
        let storage = &self.layout.storage;
        let (path, end) = (self.segment(place.segment), survey.evidence.until);
        let left = [PlantedBug::TornTailNotCut, PlantedBug::OpeningNumberNotRaised];
        if end > place.offset && !left.into_iter().any(|bug| self.layout.planted.has(bug)) {
            let len = end.next_multiple_of(BLOCK_LEN as u64) - place.offset;
            storage.zero(&active.file, place.offset, len).map_err(|error| Error::io("cut", &path, error))?;
            self.layout.settle(&active.file, place.offset, &path)?;
        }
        let successor = if ready(next) {
            let mut successor = self.open_segment(next, base_lsn)?;
            self.complete(&mut successor, BLOCK_LEN as u64)?;
            Some(successor)
        } else {
            None
        };
        Ok(Ends { spans: survey.segments.clone(), active, successor })
    }

    /// The segment in which the log goes on.
    fn open_active(&self, survey: &Survey) -> Result<OpenSegment<S::File>> {
        let place = survey.stop.place;
        let last = survey.segments.last().expect("a log that opens has a segment");
        assert_eq!(last.id, place.segment, "the verdict found the successor of a sealed segment whole");
        let mut active = self.open_segment(place.segment, place.base_lsn)?;
        self.complete(&mut active, place.offset)?;
        Ok(active)
    }

    /// A file that was cut short by hand, behind the `end` of what counts, gets
    /// its last block back, and room for a seal: the next segment's base says
    /// how long this file is.
    fn complete(&self, segment: &mut OpenSegment<S::File>, end: u64) -> Result<()> {
        let path = self.segment(segment.identity.segment);
        let len = self.layout.len(&segment.file, &path)?;
        segment.capacity = segment.capacity.max(end + BLOCK_LEN as u64);
        if len < segment.capacity {
            let from = (len / BLOCK_LEN as u64 * BLOCK_LEN as u64).max(end);
            self.layout.space.log_grown(segment.capacity - len);
            let zeroed = self.layout.storage.zero(&segment.file, from, segment.capacity - from);
            zeroed.map_err(|error| Error::io("extend", &path, error))?;
            self.layout.settle(&segment.file, from, &path)?;
        }
        Ok(())
    }

    fn open_segment(&self, segment: SegmentId, base_lsn: Lsn) -> Result<OpenSegment<S::File>> {
        let path = self.segment(segment);
        let file = self.layout.open(&path, OpenMode::ReadWrite)?;
        let capacity = self.layout.len(&file, &path)?.next_multiple_of(BLOCK_LEN as u64);
        let LogIdentity { log_id, core, .. } = self.log;
        let identity = corewal_format::SegmentIdentity { log_id, core, segment, base_lsn };
        Ok(OpenSegment { identity, file, capacity })
    }

    fn segment(&self, segment: SegmentId) -> std::path::PathBuf {
        self.layout.segment(self.log.core, segment)
    }
}

/// The segments at a log's end.
struct Ends<F> {
    spans: Vec<SegmentSpan>,
    active: OpenSegment<F>,
    successor: Option<OpenSegment<F>>,
}
