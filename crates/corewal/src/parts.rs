//! A store as files that can be copied elsewhere, and a store made of such
//! copies.
//!
//! What is there to copy is immutable: the runs of checkpoints, and segments
//! that are sealed. A store is made of them by replaying up to an epoch and
//! moving the state to fresh logs of a new generation, so no position of the
//! original is ever given to other bytes.

use std::path::{Path, PathBuf};

use corewal_format::{
    Checkpoint, CoreId, Epoch, LogId, Lsn, Manifest, ManifestState, Record, SegmentId, TimestampNs, name,
};
use corewal_io::{FileStorage, Storage};

use crate::checkpoint::{base_behind, begin_log};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::Options;
use crate::reader::Reader;
use crate::recovery::{create_dir, create_log, write_manifest};
use crate::reshard::{Resharded, move_to};
use crate::route::Router;
use crate::scan::LogIdentity;
use crate::segments::{Want, create_segment};

/// What of a store can be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Identity of the store.
    pub log_id: LogId,
    /// Number of cores.
    pub cores: u16,
    /// How often that was changed.
    pub generation: u32,
    /// The newest complete epoch; 0 if none.
    pub complete_epoch: Epoch,
    /// The checkpoints, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// The sealed segments, by core and number.
    pub segments: Vec<SealedSegment>,
}

/// A segment that is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// The core.
    pub core: CoreId,
    /// Its number.
    pub segment: SegmentId,
    /// Position of its file's first byte.
    pub base_lsn: Lsn,
    /// Position behind its last frame.
    pub end: Lsn,
    /// The segment in which the log goes on.
    pub next: SegmentId,
    /// The base of that segment.
    pub next_base: Lsn,
    /// The epoch of its first frame.
    pub first_epoch: Epoch,
    /// All epochs up to this one had ended in this core's log by its end.
    pub ended: Epoch,
    /// When its last frame was finished.
    pub newest: TimestampNs,
    /// Its file.
    pub path: PathBuf,
}

/// Path of a run's file, relative to a store's directory.
#[must_use]
pub fn run_name(run: corewal_format::RunId) -> String {
    format!("{}/{}", name::RUNS, name::run(run))
}

/// Path of a segment's file, relative to a store's directory.
#[must_use]
pub fn segment_name(core: CoreId, generation: u32, segment: SegmentId) -> String {
    format!("{}/{}", name::core_dir(core, generation), name::segment(segment))
}

impl<S: Storage> Reader<S> {
    /// What of the store can be copied. Beside a live writer a run may be
    /// removed at any time, and a segment renamed and written over: whoever
    /// copies one has to look afterwards whether it still has its name.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let (layout, manifest) = (self.layout(), self.manifest());
        let sealed =
            self.surveys().iter().flat_map(|survey| survey.sealed.iter().map(move |sealed| (survey.core, sealed)));
        let segments = sealed.map(|(core, sealed)| SealedSegment {
            core,
            segment: sealed.id,
            base_lsn: sealed.base_lsn,
            end: sealed.end,
            next: sealed.next.0,
            next_base: sealed.next.1,
            first_epoch: sealed.first_epoch,
            ended: sealed.ended,
            newest: sealed.newest,
            path: layout.segment(core, sealed.id),
        });
        Parts {
            log_id: manifest.log_id,
            cores: manifest.cores,
            generation: manifest.generation,
            complete_epoch: self.complete_epoch(),
            checkpoints: manifest.checkpoints.clone(),
            segments: segments.collect(),
        }
    }
}

/// Up to where a store is made of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The newest epoch that is complete in the copies.
    Latest,
    /// The end of this epoch.
    Epoch(Epoch),
    /// The end of the newest epoch that was over by this time on all cores.
    Time(TimestampNs),
}

/// Copies of files, and what a store of them is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// Identity of the store.
    pub log_id: LogId,
    /// Number of cores.
    pub cores: u16,
    /// Generation of the logs.
    pub generation: u32,
    /// The checkpoint whose runs are there, if any.
    pub checkpoint: Option<Checkpoint>,
    /// By core, where the last of its segments leads; `None` if there are none.
    pub leads: Vec<Option<(SegmentId, Lsn)>>,
    /// Up to where.
    pub until: Until,
}

/// Makes a store of the copies in `dir`, which stand under the names they had
/// ([`run_name`], [`segment_name`]). Its logs are empty and of a new generation,
/// its state is in a checkpoint.
///
/// # Errors
/// [`Error::Damaged`] if the copies do not fit together or do not reach as far;
/// [`Error::Io`]. The directory is of no use then.
pub fn assemble(dir: impl AsRef<Path>, assembly: &Assembly) -> Result<Resharded> {
    // Compiled here, for all callers.
    fn on_files(dir: &Path, assembly: &Assembly) -> Result<Resharded> {
        assemble_dir(FileStorage::new(), dir, assembly, Options::new())
    }
    on_files(dir.as_ref(), assembly)
}

/// As [`assemble`], on another backend, with the options by which the store is
/// opened for it.
///
/// # Errors
/// As [`assemble`].
pub fn assemble_on<S: Storage>(
    storage: S,
    dir: impl AsRef<Path>,
    assembly: &Assembly,
    options: Options,
) -> Result<Resharded> {
    assemble_dir(storage, dir.as_ref(), assembly, options)
}

fn assemble_dir<S: Storage>(storage: S, dir: &Path, assembly: &Assembly, options: Options) -> Result<Resharded> {
    const CAPACITY: u64 = 1 << 20;
    let Assembly { log_id, cores, generation, ref checkpoint, ref leads, until } = *assembly;
    if leads.len() != usize::from(cores) || checkpoint.as_ref().is_some_and(|found| found.cores.len() != leads.len()) {
        return Err(Error::BadOption { name: "assembly", must: format!("for {cores} cores") });
    }
    let layout = Layout::of(storage.clone(), dir)?.of_generation(generation);
    create_dir(&layout, &layout.runs())?;
    let mut manifest = Manifest {
        state: ManifestState::Ready,
        number: checkpoint.as_ref().map_or(1, |checkpoint| checkpoint.number),
        generation,
        checkpoints: checkpoint.iter().cloned().collect(),
        ..Manifest::new(log_id, cores, Router::NAME)
    };
    for (index, leads) in leads.iter().enumerate() {
        let core = CoreId(u16::try_from(index).expect("at most 1,024 cores"));
        let log = LogIdentity::of(&manifest, core);
        create_dir(&layout, &layout.core_dir(core))?;
        match (*leads, checkpoint) {
            // Behind a sealed segment there has to be another.
            (Some((segment, base_lsn)), _) => {
                create_segment(&layout, log, Want::exactly(segment, base_lsn, CAPACITY))?;
            }
            (None, Some(checkpoint)) => {
                // Nothing is known of what stood between, nor asked for.
                let covered = &mut manifest.checkpoints[0].cores[index].lsn;
                *covered = base_behind(*covered);
                let base = *covered;
                begin_log(&layout, log, base, checkpoint.epoch, checkpoint.time)?;
            }
            (None, None) => {
                create_log(&layout, &manifest, core, Want::exactly(SegmentId(0), Lsn(0), CAPACITY))?;
            }
        }
    }
    write_manifest(&layout, &manifest, None)?;
    let until = match until {
        // Of one log the copies may hold more than of another, which then says
        // of an epoch that it was complete though they do not hold all of it.
        Until::Latest => Reader::open_unclaimed(storage.clone(), dir)?.complete_epoch(),
        Until::Epoch(epoch) => epoch,
        Until::Time(time) => epoch_by(storage.clone(), dir, time)?,
    };
    let options = Options { cores: None, create: false, reshard: false, until, ..options };
    let moved = move_to(storage, dir, None, options)?;
    match assembly.until {
        Until::Epoch(epoch) if moved.epoch != epoch => Err(Error::BadOption {
            name: "until",
            must: format!("an epoch that is complete in the copies; the newest one before it is {}", moved.epoch),
        }),
        _ => Ok(moved),
    }
}

/// The newest epoch that had ended everywhere by `time`.
fn epoch_by<S: Storage>(storage: S, dir: &Path, time: TimestampNs) -> Result<Epoch> {
    let reader = Reader::open_unclaimed(storage, dir)?;
    let mut epoch = reader.complete_epoch();
    reader.for_each_record(None, Lsn(0), |record| {
        if let Record::Barrier { epoch: ended, .. } = record.record
            && record.counts
            && record.timestamp > time
        {
            epoch = epoch.min(Epoch(ended.0 - 1));
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(epoch)
}
