//! Repairing: cutting a damaged log where the damage begins, so that the store
//! opens again, at the price of what stood behind it.
//!
//! A repair keeps every file that it changes or removes in `damaged-NNNN/`
//! inside the store's directory. It never gives an LSN or a sequence to other
//! bytes: the log goes on in a new segment, behind every position that was ever
//! used. Each step can be cut short by a crash; repairing again finishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corewal_format::{
    BLOCK_LEN, CoreId, Epoch, Lsn, MAX_BASE_LSN, MAX_EPOCH, Manifest, ManifestState, Opening, Record, SegmentHeader,
    SegmentId, Sequence, block_align, name,
};
use corewal_io::{AlignedBuf, EntryKind, FileStorage, OpenMode, Storage};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::lone_frame::LoneFrame;
use crate::reader::ready_manifest;
use crate::recovery::{check_base, check_claims, check_reach, check_root, lock, write_manifest};
use crate::route::Router;
use crate::scan::{Coverage, LogIdentity, Place, Survey, Verdict, newest_common, survey};
use crate::segments::{Want, create_segment};

/// One thing that a repair does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairStep {
    /// The core; `None` for the manifest.
    pub core: Option<CoreId>,
    /// What is wrong, and where.
    pub damage: String,
    /// What is done about it.
    pub action: String,
    /// What that loses.
    pub loss: String,
}

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// The steps; empty if nothing is wrong.
    pub steps: Vec<RepairStep>,
    /// Whether they were carried out.
    pub applied: bool,
    /// Where the files are kept that were changed or removed.
    pub kept: Option<PathBuf>,
    /// The newest epoch that is complete after the repair.
    pub complete_epoch: Epoch,
}

/// Finds out what a repair of the store in `dir` would do, and does it if
/// `apply` is set.
///
/// # Errors
/// [`Error::Locked`] if the store is open, [`Error::NotAStore`],
/// [`Error::Unsupported`] (a repair by an older program would destroy newer
/// data); [`Error::Damaged`] if no checkpoint is whole to which the logs go
/// back, which nothing here can make again: an archive may have it;
/// [`Error::BadLsn`] if the log says that all positions are used up, which no
/// log gets to; [`Error::Io`], after which repair again.
pub fn repair(dir: impl AsRef<Path>, apply: bool) -> Result<Repair> {
    // Compiled here, for all callers.
    fn on_files(dir: &Path, apply: bool) -> Result<Repair> {
        repair_dir(FileStorage::new(), dir, apply)
    }
    on_files(dir.as_ref(), apply)
}

/// As [`repair`], on another backend.
///
/// # Errors
/// As [`repair`].
pub fn repair_on<S: Storage>(storage: S, dir: impl AsRef<Path>, apply: bool) -> Result<Repair> {
    repair_dir(storage, dir.as_ref(), apply)
}

fn repair_dir<S: Storage>(storage: S, dir: &Path, apply: bool) -> Result<Repair> {
    let mut layout = Layout::of(storage, dir)?;
    let mut repair = Repair { applied: apply, ..Repair::default() };
    let manifest = ready_manifest(&layout);
    if let Err(error @ (Error::NotAStore { .. } | Error::Unsupported { .. })) = manifest {
        return Err(error);
    }
    // A log that somebody writes to changes under the eyes and looks damaged.
    // Only a repair that changes something holds the lock itself.
    let path = layout.lock();
    if layout.storage.is_locked(&path).map_err(|error| Error::io("look at", &path, error))? {
        return Err(Error::Locked { path });
    }
    let _lock = if apply { Some(lock(&layout)?) } else { None };
    let mut aside = Aside { layout: layout.clone(), dir: None };
    let mut instead = None;
    // All is decided before anything is changed: a repair that is refused leaves
    // the store as it was.
    let mut new_root = false;
    let mut manifest = match manifest {
        Ok(root) => {
            layout.generation = root.manifest.generation;
            instead = root.instead;
            root.manifest
        }
        Err(Error::Damaged(damage)) => {
            let manifest = manifest_from_headers(&layout)?;
            layout.generation = manifest.generation;
            let runs = layout.list_runs()?.len();
            repair.steps.push(RepairStep {
                core: None,
                damage: format!("{} [{}]", damage.detail, damage.path.display()),
                action: format!("make it again from the segments' headers: {} core(s)", manifest.cores),
                loss: match runs {
                    0 => "nothing".into(),
                    _ => format!(
                        "what checkpoints hold of the state and the logs do not; their {runs} run(s) are kept aside"
                    ),
                },
            });
            new_root = true;
            manifest
        }
        Err(error) => return Err(error),
    };
    let surveys: Vec<Survey> = (0..manifest.cores)
        .map(|core| survey(&layout, LogIdentity::of(&manifest, CoreId(core)), Lsn(u64::MAX)))
        .collect::<Result<_>>()?;
    // What is newer is not this program's to cut.
    for damage in surveys.iter().filter_map(|survey| survey.damage(&layout)) {
        if damage.verdict == Verdict::Unsupported {
            return Err(Error::Unsupported { path: damage.path, detail: damage.detail });
        }
    }
    if let Err(Error::Damaged(damage)) = check_root(&layout, &manifest, instead.as_deref(), surveys.iter()) {
        repair.steps.push(RepairStep {
            core: None,
            damage: format!("{} [{}]", damage.detail, damage.path.display()),
            action: "go on with what the logs hold; the runs of checkpoints are kept aside".into(),
            loss: damage.loss.clone(),
        });
        new_root = true;
        manifest.number += 2;
    }
    let claimed = surveys.iter().map(|survey| survey.claimed).max().unwrap_or(Epoch(0));
    let checkpoint = manifest.newest().map_or(Epoch(0), |newest| newest.epoch);
    let cut_of = |core: CoreId| {
        let (log, survey) = (LogIdentity::of(&manifest, core), &surveys[core.index()]);
        let fresh = Fresh::behind(&layout, log, survey)?;
        Ok::<_, Error>(Cut { layout: &layout, log, survey, claimed, checkpoint, fresh })
    };
    // The logs as the repair leaves them, and which are cut.
    let mut after_repair = surveys.clone();
    let mut cuts = BTreeMap::new();
    for survey in &surveys {
        let Some(damage) = survey.damage(&layout) else { continue };
        let cut = cut_of(survey.core)?;
        repair.steps.push(RepairStep {
            core: Some(survey.core),
            damage: damage.to_string(),
            action: cut.describe(),
            loss: cut.loss(),
        });
        let after = &mut after_repair[survey.core.index()];
        after.ended = claimed;
        if !cut.keeps_something() {
            after.coverage = Coverage::default();
            after.coverage.take(Epoch(1), &Record::Release { to: Lsn(0), epoch: checkpoint });
        }
        cuts.insert(survey.core, cut);
    }
    // A log that is whole and yet shorter than another one says it was.
    while let Err(Error::Damaged(damage)) = check_claims(&layout, after_repair.iter(), MAX_EPOCH) {
        repair.steps.push(RepairStep {
            core: Some(damage.core),
            damage: damage.to_string(),
            action: "accept that the log ends where it ends".into(),
            loss: format!("{}; already gone from this log", damage.loss),
        });
        after_repair[damage.core.index()].ended = claimed;
        cuts.insert(damage.core, cut_of(damage.core)?);
    }
    // One that ends before what the newest checkpoint has of it.
    let complete = |after: &[Survey]| newest_common(after.iter().map(|survey| &survey.coverage), MAX_EPOCH);
    while let Err(Error::Damaged(damage)) =
        check_reach(&layout, &manifest, after_repair.iter(), complete(&after_repair))
    {
        let cut = cut_of(damage.core)?;
        repair.steps.push(RepairStep {
            core: Some(damage.core),
            damage: damage.to_string(),
            action: "begin an empty log behind the checkpoint".into(),
            loss: cut.loss(),
        });
        let release = Record::Release { to: Lsn(0), epoch: checkpoint };
        after_repair[damage.core.index()].coverage.take(Epoch(1), &release);
        cuts.insert(damage.core, cut);
    }
    // What a checkpoint held cannot be made again. To say that all is well, or
    // to cut logs beside it, would help nobody.
    let begins = surveys.iter().map(|survey| match cuts.get(&survey.core) {
        Some(cut) if !cut.keeps_something() => cut.log.covered,
        _ => survey.begin(),
    });
    check_base(&layout, &manifest, &begins.collect::<Vec<_>>())?;
    if apply {
        if new_root {
            aside.keep_root()?;
            write_manifest(&layout, &manifest, None)?;
        }
        cover_given_up(&layout, &manifest, &cuts, &mut aside)?;
        cuts.values().try_for_each(|cut| cut.apply(&mut aside))?;
    }
    repair.complete_epoch = newest_common(after_repair.iter().map(|survey| &survey.coverage), MAX_EPOCH);
    repair.kept = aside.dir;
    Ok(repair)
}

/// Lets the newest checkpoint cover all of the logs that are given up, up to
/// where the empty ones begin; before they do, so that a crash in between leaves
/// a store that has to be repaired still. Older checkpoints need what is gone.
fn cover_given_up<S: Storage>(
    layout: &Layout<S>,
    manifest: &Manifest,
    cuts: &BTreeMap<CoreId, Cut<'_, S>>,
    aside: &mut Aside<S>,
) -> Result<()> {
    let given_up: Vec<_> = cuts.values().filter(|cut| !cut.keeps_something()).collect();
    let Some(mut newest) = manifest.newest().filter(|_| !given_up.is_empty()).cloned() else { return Ok(()) };
    for cut in given_up {
        newest.cores[cut.log.core.index()].lsn = cut.fresh.base_lsn;
    }
    aside.keep(None, &layout.manifest(), name::MANIFEST)?;
    // Both say the same; the one before has to be the older of them.
    let before = Manifest { number: manifest.number + 1, checkpoints: vec![newest], ..manifest.clone() };
    let raised = Manifest { number: before.number + 1, ..before.clone() };
    write_manifest(layout, &raised, Some(&before))
}

/// What most of the segments that stand where they say they belong say of
/// their store. (One that was copied in from another store is outvoted.)
fn manifest_from_headers<S: Storage>(layout: &Layout<S>) -> Result<Manifest> {
    let entries = layout.storage.list(&layout.dir).map_err(|error| Error::io("list", &layout.dir, error))?;
    let cores = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
    let mut votes = BTreeMap::new();
    let logs: Vec<_> = cores.filter_map(|entry| name::parse_core_dir(&entry.name)).collect();
    let generation = logs.iter().map(|&(_, generation)| generation).max().unwrap_or(0);
    let layout = &layout.of_generation(generation);
    for (core, _) in logs.into_iter().filter(|log| log.1 == generation) {
        for segment in layout.list_segments(core)?.unwrap_or_default() {
            let header = layout.read_small(&layout.segment(core, segment), BLOCK_LEN)?;
            let header = header.and_then(|bytes| SegmentHeader::decode(&bytes).ok());
            let at_home = |found: &SegmentHeader| found.identity.core == core && found.identity.segment == segment;
            if let Some(header) = header.filter(at_home) {
                *votes.entry((header.identity.log_id, header.cores)).or_insert(0_u32) += 1;
            }
        }
    }
    let Some(((log_id, cores), _)) = votes.into_iter().max_by_key(|(_, votes)| *votes) else {
        let why = "neither its manifest nor any segment header is intact";
        return Err(Error::NotAStore { path: layout.dir.clone(), why });
    };
    Ok(Manifest { number: 1, generation, state: ManifestState::Ready, ..Manifest::new(log_id, cores, Router::NAME) })
}

/// Where the files go that a repair changes or removes.
struct Aside<S> {
    layout: Layout<S>,
    dir: Option<PathBuf>,
}

impl<S: Storage> Aside<S> {
    /// The directory for files of a core (or of the store), made when needed.
    fn dir(&mut self, core: Option<CoreId>) -> Result<PathBuf> {
        let storage = &self.layout.storage;
        let create = |dir: &Path| match storage.create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::io("create the directory", dir, error))
            }
            result => Ok(result.is_ok()),
        };
        let mut number = 1;
        while self.dir.is_none() {
            let dir = self.layout.dir.join(name::damaged(number));
            if create(&dir)? {
                self.layout.sync_dir(&self.layout.dir)?;
                self.dir = Some(dir);
            }
            number += 1;
        }
        let dir = self.dir.clone().expect("made above");
        let Some(core) = core else { return Ok(dir) };
        let dir_of_core = dir.join(name::core_dir(core, self.layout.generation));
        if create(&dir_of_core)? {
            self.layout.sync_dir(&dir)?;
        }
        Ok(dir_of_core)
    }

    /// Copies what says which checkpoints there are, and their runs, aside: no
    /// manifest will name them, so the next opening removes them.
    fn keep_root(&mut self) -> Result<()> {
        self.keep(None, &self.layout.manifest(), name::MANIFEST)?;
        self.keep(None, &self.layout.manifest_old(), name::MANIFEST_OLD)?;
        for run in self.layout.list_runs()? {
            self.keep(None, &self.layout.run(run), &name::run(run))?;
        }
        Ok(())
    }

    /// Copies a file aside, durably. A file that is not there is no error.
    fn keep(&mut self, core: Option<CoreId>, path: &Path, name: &str) -> Result<()> {
        let storage = self.layout.storage.clone();
        let from = match storage.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let dir = self.dir(core)?;
        let target = dir.join(name);
        let copy = || -> std::io::Result<()> {
            let to = storage.open(&target, OpenMode::CreateNew)?;
            let len = storage.len(&from)?;
            let mut buffer = AlignedBuf::new(1 << 20);
            let mut offset = 0;
            while offset < len {
                let read = storage.read_at(&from, offset, buffer.as_mut_slice())?;
                storage.write_at(&to, offset, &buffer, 0..block_align(read.max(1)))?;
                offset += read.max(1) as u64;
            }
            storage.set_len(&to, len)?;
            storage.settle(&to, 0)
        };
        copy().map_err(|error| Error::io("copy to", &target, error))?;
        self.layout.sync_dir(&dir)
    }
}

/// Size of the segment in which a repaired log goes on.
const REPAIRED_BYTES: u64 = 1 << 20;

/// The cut of one core's log.
struct Cut<'s, S> {
    layout: &'s Layout<S>,
    log: LogIdentity,
    survey: &'s Survey,
    claimed: Epoch,
    /// Epoch of the newest checkpoint; 0 if there is none.
    checkpoint: Epoch,
    fresh: Fresh,
}

impl<S: Storage> Cut<'_, S> {
    /// Whether something of the log is left to go on from. A log whose
    /// beginning is lost is not: what is left of it cannot be replayed. Nor is one
    /// that ends before the newest checkpoint, by its position or by its epochs
    /// (a seal can lead anywhere): that has all of it and more.
    fn keeps_something(&self) -> bool {
        let survey = self.survey;
        survey.begins_where_it_says()
            && survey.end() >= self.log.covered
            && survey.coverage.newest_up_to(self.checkpoint) == self.checkpoint
    }

    fn describe(&self) -> String {
        let place = self.survey.stop.place;
        if !self.keeps_something() {
            return "give up this core's log and begin an empty one".into();
        }
        match self.survey.verdict {
            Verdict::Foreign if self.survey.evidence.detail.is_some() => {
                format!("move the segments behind segment {} aside", place.segment)
            }
            _ => format!("cut the log at segment {}, offset {} (LSN {})", place.segment, place.offset, place.lsn()),
        }
    }

    fn loss(&self) -> String {
        let damage = self.survey.damage(self.layout);
        let loss = damage.map_or_else(String::new, |damage| damage.loss);
        if self.keeps_something() {
            format!("{loss}; this core keeps epochs up to {}", self.survey.coverage.newest_named())
        } else {
            match self.checkpoint {
                Epoch(0) => format!("all of core {}: no epoch stays complete", self.log.core),
                epoch => format!("what core {} did since the checkpoint of epoch {epoch}", self.log.core),
            }
        }
    }

    /// The segments that go aside: the damaged one and all behind it.
    fn damaged(&self) -> Vec<SegmentId> {
        let stop = self.survey.stop.place.segment;
        let mut damaged = self.survey.later.clone();
        if self.keeps_something() {
            damaged.push(stop);
        } else {
            damaged.extend(self.survey.segments.iter().map(|span| span.id));
            damaged.push(stop);
        }
        damaged.sort_unstable();
        damaged.dedup();
        damaged
    }

    fn apply(&self, aside: &mut Aside<S>) -> Result<()> {
        let (layout, core) = (self.layout, self.log.core);
        match layout.storage.create_dir(&layout.core_dir(core)) {
            Ok(()) => layout.sync_dir(&layout.dir)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create the directory", &layout.core_dir(core), error)),
        }
        let damaged = self.damaged();
        for &segment in &damaged {
            aside.keep(Some(core), &layout.segment(core, segment), &name::segment(segment))?;
        }
        // 1. Where the log goes on: behind every segment and position in use.
        let fresh = self.fresh;
        let Fresh { segment, base_lsn, .. } = fresh;
        let target = create_segment(layout, self.log, Want::exactly(segment, base_lsn, REPAIRED_BYTES))?;
        if !self.keeps_something() {
            // 2. Nothing leads there but its own word, so it gets that first;
            // then the rest goes.
            let release = Record::Release { to: fresh.base_lsn, epoch: self.checkpoint };
            self.write_frame(
                &target.file,
                Place::first_frame(fresh.segment, fresh.base_lsn),
                &[release, self.jump(fresh)],
                false,
            )?;
            return self.remove(&damaged, None);
        }
        // 2. The jump, written over the beginning of the damage in one block:
        // from here on the log is whole, and what stands behind a sealed frame
        // does not count.
        let stop = self.survey.stop.place;
        let place = Place { offset: stop.offset.max(BLOCK_LEN as u64), ..stop };
        let file = if self.survey.segments.last().is_some_and(|last| last.id == stop.segment) {
            let path = layout.segment(core, stop.segment);
            layout.open(&path, OpenMode::ReadWrite)?
        } else {
            let Place { segment, base_lsn, .. } = stop;
            create_segment(layout, self.log, Want::exactly(segment, base_lsn, 2 * BLOCK_LEN as u64))?.file
        };
        // 3. The rest goes.
        self.write_frame(&file, place, &[self.jump(fresh)], true)?;
        self.remove(&damaged, Some(stop.segment))
    }

    fn jump(&self, fresh: Fresh) -> Record<'static> {
        Record::Repair {
            segment: fresh.segment,
            base_lsn: fresh.base_lsn,
            sequence: fresh.sequence,
            forgiven: self.claimed,
        }
    }

    fn write_frame(&self, file: &S::File, place: Place, records: &[Record<'_>], sealed: bool) -> Result<()> {
        let survey = self.survey;
        let frame = LoneFrame {
            epoch: survey.epoch,
            sequence: survey.sequence,
            timestamp: survey.timestamp,
            opening: Opening(survey.opening.0.max(1)),
            sealed,
        };
        frame.write(self.layout, self.log, file, place, records)
    }

    fn remove(&self, segments: &[SegmentId], except: Option<SegmentId>) -> Result<()> {
        for &segment in segments.iter().filter(|segment| Some(**segment) != except) {
            self.layout.remove_if_there(&self.layout.segment(self.log.core, segment))?;
        }
        self.layout.sync_dir(&self.layout.core_dir(self.log.core))
    }
}

/// Where a repaired log goes on.
#[derive(Clone, Copy)]
struct Fresh {
    segment: SegmentId,
    base_lsn: Lsn,
    sequence: Sequence,
}

impl Fresh {
    /// Behind every segment and position that a log may ever have used.
    fn behind<S: Storage>(layout: &Layout<S>, log: LogIdentity, survey: &Survey) -> Result<Self> {
        let stop = survey.stop.place.segment;
        let of_log = survey.segments.iter().map(|span| span.id);
        let newest = of_log.chain(survey.later.iter().copied()).fold(stop, SegmentId::max);
        let later = survey.later.iter().chain([&stop]);
        let ends = later.map(|&segment| end_of(layout, log, survey, segment));
        let used = ends.fold(survey.end().max(survey.start), Lsn::max);
        // The jump itself takes a block, behind a header if its segment has to
        // be made again.
        let base_lsn = Lsn(used.0.next_multiple_of(BLOCK_LEN as u64) + 2 * BLOCK_LEN as u64);
        if base_lsn > MAX_BASE_LSN || newest.next() == newest {
            let detail = format!("core {} has no position behind it (segment {newest}) for a log to go on", log.core);
            return Err(Error::BadLsn { asked: base_lsn, detail });
        }
        // No record is shorter than its header, so no more than this many
        // sequences can have been given out in the bytes that are lost.
        let lost = (base_lsn.0 - survey.end().0.min(base_lsn.0)) / corewal_format::RECORD_HEADER_LEN as u64;
        Ok(Self { segment: newest.next(), base_lsn, sequence: survey.sequence.plus(lost + 1) })
    }
}

/// The position after the last byte of a segment, as far as its header and
/// length tell.
fn end_of<S: Storage>(layout: &Layout<S>, log: LogIdentity, survey: &Survey, segment: SegmentId) -> Lsn {
    let Ok(file) = layout.storage.open(&layout.segment(log.core, segment), OpenMode::Read) else { return Lsn(0) };
    let mut block = vec![0; BLOCK_LEN];
    let header = layout.storage.read_at(&file, 0, &mut block).map(|_| SegmentHeader::decode(&block));
    let len = layout.storage.len(&file).unwrap_or(0);
    match header {
        Ok(Ok(header)) if header.identity.log_id == log.log_id && header.identity.core == log.core => {
            header.identity.base_lsn.plus(len)
        }
        // Its place is known by what leads to it, if anything does.
        _ if segment == survey.stop.place.segment => survey.stop.place.base_lsn.plus(len),
        _ => survey.end().plus(len),
    }
}
