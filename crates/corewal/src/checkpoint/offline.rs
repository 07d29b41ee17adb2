//! A checkpoint of a store that nobody has open. The logs are read and not
//! written to: what opening would roll back or cut is left for it to decide.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use corewal_format::{CoreId, MAX_EPOCH, ManifestState};
use corewal_io::{FileStorage, Storage};

use super::{CheckpointMade, Checkpointer, Checkpoints, CoreLog, Merge};
use crate::clock::{Clock, SystemClock};
use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::Recover;
use crate::recovery::{Root, check_claims, check_reach, load_manifest, lock, plan, survey_settled};
use crate::scan::{LogIdentity, Survey};

/// Makes a checkpoint of the newest complete epoch of the store in `dir`, which
/// must not be open; `None` if there is one already. `policy` says how many are
/// kept. The next opening releases the segments that it covers.
///
/// # Errors
/// [`Error::Locked`]; [`Error::NotFoldable`] if the log holds payloads; those
/// of opening. The checkpoints are as they were.
pub fn checkpoint(dir: impl AsRef<Path>, policy: Checkpoints) -> Result<Option<CheckpointMade>> {
    checkpoint_on(FileStorage::new(), dir, policy, Arc::new(SystemClock))
}

/// As [`checkpoint()`], on another backend, with the time from `clock`.
///
/// # Errors
/// As [`checkpoint()`].
pub fn checkpoint_on<S: Storage>(
    storage: S,
    dir: impl AsRef<Path>,
    policy: Checkpoints,
    clock: Arc<dyn Clock>,
) -> Result<Option<CheckpointMade>> {
    let mut layout = Layout::of(storage, dir.as_ref())?;
    // Before the lock, whose file would be made in any directory.
    load_manifest(&layout)?;
    let _lock = lock(&layout)?;
    let Root { manifest, instead } = load_manifest(&layout)?;
    layout.generation = manifest.generation;
    if manifest.state != ManifestState::Ready || instead.is_some() {
        let why = "its creation was cut short, or its manifest is damaged: opening it for writing mends that";
        return Err(Error::NotAStore { path: layout.dir, why });
    }
    let identity = |core| LogIdentity::of(&manifest, core);
    let surveys: Vec<Survey> = (0..manifest.cores)
        .map(|core| Ok(survey_settled(&layout, identity(CoreId(core)), &*clock)?.0))
        .collect::<Result<_>>()?;
    if let Some(damage) = surveys.iter().find_map(|survey| survey.damage(&layout)) {
        return Err(Error::Damaged(Box::new(damage)));
    }
    check_claims(&layout, surveys.iter(), MAX_EPOCH)?;
    let complete = plan(surveys.iter(), Recover::CompleteEpoch, MAX_EPOCH, layout.planted).complete;
    check_reach(&layout, &manifest, surveys.iter(), complete)?;
    let cores = surveys.iter().map(|survey| {
        let newest = manifest.newest().map(|newest| newest.cores[survey.core.index()].runs.as_slice());
        let runs = newest.unwrap_or_default();
        // The newest run says what all of them come to.
        let newest = &runs[runs.len().saturating_sub(1)..];
        let progress = match newest {
            [] => Progress::default(),
            _ => Merge::open(&layout, identity(survey.core), newest)?.for_each(|_| Ok(()))?,
        };
        Ok(CoreLog { dead: survey.dead.clone(), progress })
    });
    let cores = cores.collect::<Result<_>>()?;
    let durable: Vec<_> = surveys.iter().map(Survey::end).collect();
    let mut checkpointer = Checkpointer::new(layout.clone(), clock, policy, manifest, cores, u64::MAX)?;
    let stop = AtomicBool::new(false);
    let mut made = checkpointer.make(complete, &durable)?;
    if let Some(made) = &mut made {
        checkpointer.compact(made, &stop);
    }
    Ok(made)
}
