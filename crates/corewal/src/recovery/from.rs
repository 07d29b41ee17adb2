//! From which checkpoint a replay begins: the newest, or an older one if the
//! newest is damaged and the log still reaches back.

use std::time::Duration;

use corewal_format::{Checkpoint, CoreId, Lsn, Manifest};
use corewal_io::Storage;

use super::plan::Keep;
use super::replay::{Base, Recovered, replay};
use super::{NewState, since};
use crate::checkpoint::Merge;
use crate::clock::Clock;
use crate::commit::Progress;
use crate::error::{Damage, Error, Result};
use crate::layout::Layout;
use crate::parallel::for_each_core;
use crate::scan::{LogIdentity, Survey, Verdict};
use crate::state::State;

/// What replaying all logs gives.
pub(crate) struct Replayed<T> {
    /// By core, and how long it took.
    pub(crate) cores: Vec<(Recovered<T>, Duration)>,
    /// Index of the checkpoint that it began from.
    pub(crate) checkpoint: Option<usize>,
    /// By core, what that checkpoint says of offsets and watermark.
    pub(crate) bases: Vec<Progress>,
    /// What is wrong with newer ones.
    pub(crate) notes: Vec<String>,
}

/// Replays each log onto the newest checkpoint that is whole.
pub(crate) fn replay_from<S: Storage, T: State>(
    layout: &Layout<S>,
    manifest: &Manifest,
    surveys: &[&Survey],
    keep: Keep,
    inline: bool,
    state: NewState<'_, T>,
    clock: &dyn Clock,
) -> Result<Replayed<T>> {
    let log = |core| LogIdentity::of(manifest, core);
    let begins: Vec<Lsn> = surveys.iter().map(|survey| survey.begin()).collect();
    let mut notes = Vec::new();
    let mut candidates = manifest.checkpoints.iter().enumerate().rev();
    let mut first_error = None;
    loop {
        let candidate = candidates.next();
        let possible = reaches(manifest, candidate.map(|(_, checkpoint)| checkpoint), &begins);
        if possible {
            let cores = for_each_core(inline, surveys.to_vec(), |survey| {
                let began = clock.now();
                let fresh = state(survey.core);
                let base = match candidate {
                    Some((_, checkpoint)) => {
                        Base::load(layout, log(survey.core), &checkpoint.cores[survey.core.index()], fresh)?
                    }
                    None => Base::empty(fresh),
                };
                let progress = base.progress.clone();
                let recovered = replay(layout, log(survey.core), survey, keep, base)?;
                Ok(((recovered, since(clock, began)), progress))
            });
            match (cores.into_iter().collect::<Result<Vec<_>>>(), candidate) {
                (Ok(cores), _) => {
                    let checkpoint = candidate.map(|(index, _)| index);
                    let (cores, bases) = cores.into_iter().unzip();
                    return Ok(Replayed { cores, checkpoint, bases, notes });
                }
                (Err(error @ Error::Damaged(_)), Some((_, checkpoint))) => {
                    notes.push(format!("checkpoint {} is not used: {error}", checkpoint.number));
                    first_error.get_or_insert(error);
                }
                (Err(error), _) => return Err(error),
            }
        } else if candidate.is_none() {
            return Err(first_error.unwrap_or_else(|| headless(layout, manifest, &begins)));
        }
    }
}

/// Refuses a store that has no checkpoint from which a replay could begin: that
/// is whole, and to which the logs, which begin at `begins`, go back.
pub(crate) fn check_base<S: Storage>(layout: &Layout<S>, manifest: &Manifest, begins: &[Lsn]) -> Result<()> {
    let mut first_error = None;
    for candidate in manifest.checkpoints.iter().rev().map(Some).chain([None]) {
        if !reaches(manifest, candidate, begins) {
            continue;
        }
        match candidate.map_or(Ok(()), |checkpoint| check_checkpoint(layout, manifest, checkpoint)) {
            Err(error @ Error::Damaged(_)) => drop(first_error.get_or_insert(error)),
            whole => return whole,
        }
    }
    Err(first_error.unwrap_or_else(|| headless(layout, manifest, begins)))
}

/// Refuses logs of which one begins behind what all checkpoints cover: what
/// stood between is missing. Reads nothing.
pub(crate) fn check_begin<S: Storage>(layout: &Layout<S>, manifest: &Manifest, begins: &[Lsn]) -> Result<()> {
    let mut candidates = manifest.checkpoints.iter().map(Some).chain([None]);
    if candidates.any(|candidate| reaches(manifest, candidate, begins)) {
        Ok(())
    } else {
        Err(headless(layout, manifest, begins))
    }
}

/// Reads the runs of a checkpoint.
fn check_checkpoint<S: Storage>(layout: &Layout<S>, manifest: &Manifest, checkpoint: &Checkpoint) -> Result<()> {
    checkpoint.cores.iter().zip(0..).try_for_each(|(part, core)| {
        Merge::open(layout, LogIdentity::of(manifest, CoreId(core)), &part.runs)?.for_each(|_| Ok(()))?;
        Ok(())
    })
}

/// Whether logs that begin at `begins` go back to a checkpoint, or to their
/// beginning if it is none.
fn reaches(manifest: &Manifest, checkpoint: Option<&Checkpoint>, begins: &[Lsn]) -> bool {
    match checkpoint {
        Some(checkpoint) => begins.iter().zip(&checkpoint.cores).all(|(begin, part)| *begin <= part.lsn),
        // What was released, the user has elsewhere.
        None if manifest.checkpoints.is_empty() => true,
        // The whole log has to be there. (One of a later generation begins
        // with a checkpoint.)
        None => manifest.generation == 0 && begins.iter().all(|begin| *begin == Lsn(0)),
    }
}

/// The logs begin behind what a checkpoint covers.
fn headless<S: Storage>(layout: &Layout<S>, manifest: &Manifest, begins: &[Lsn]) -> Error {
    let newest = manifest.newest().expect("without one the logs are all there is");
    let cores = begins.iter().zip(&newest.cores).zip((0..).map(CoreId));
    let mut behind = cores.filter(|((begin, part), _)| *begin > &part.lsn);
    let ((begin, part), core) = behind.next().expect("one does not reach");
    Error::Damaged(Box::new(Damage {
        core,
        segment: None,
        offset: 0,
        lsn: Some(*begin),
        verdict: Verdict::Missing,
        path: layout.core_dir(core),
        detail: format!("the log begins at LSN {begin}, the newest checkpoint covers it up to {}", part.lsn),
        loss: "what stood between".into(),
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use corewal_format::{CoreCheckpoint, Epoch, LogId, Offsets, TimestampNs};
    use corewal_io::SimStorage;

    use super::*;

    /// A checkpoint that covers so much of each core's log.
    fn checkpoint(covered: [u64; 2]) -> Checkpoint {
        let part = |lsn| CoreCheckpoint { lsn: Lsn(lsn), runs: Vec::new() };
        Checkpoint {
            number: 1,
            epoch: Epoch(1),
            time: TimestampNs(0),
            inherited: Offsets::default(),
            cores: covered.map(part).into(),
        }
    }

    fn manifest(generation: u32, checkpoints: Vec<Checkpoint>) -> Manifest {
        Manifest { generation, checkpoints, ..Manifest::new(LogId([1; 16]), 2, "") }
    }

    #[test]
    fn a_replay_may_begin_where_all_logs_go_back_to_or_at_the_beginning_of_all() {
        let newest = checkpoint([100, 200]);
        let kept = manifest(0, vec![newest.clone()]);
        let reaches = |manifest: &Manifest, checkpoint: Option<&Checkpoint>, begins: [u64; 2]| {
            reaches(manifest, checkpoint, &begins.map(Lsn))
        };
        for (begins, expected) in
            [([0, 0], true), ([100, 200], true), ([101, 200], false), ([100, 201], false), ([300, 300], false)]
        {
            assert_eq!(reaches(&kept, Some(&newest), begins), expected, "{begins:?}");
        }
        // Without one: the whole log, of a store that has always had so many cores.
        assert!(reaches(&kept, None, [0, 0]));
        assert!(!reaches(&kept, None, [0, 1]));
        assert!(!reaches(&kept, None, [1, 0]));
        assert!(!reaches(&manifest(1, vec![newest]), None, [0, 0]));
        // What was released by hand, where there are no checkpoints.
        assert!(reaches(&manifest(0, Vec::new()), None, [100, 0]));
    }

    #[test]
    fn the_log_that_begins_behind_the_newest_checkpoint_is_named() {
        let layout = Layout::new(SimStorage::default(), Path::new("/db"));
        let manifest = manifest(0, vec![checkpoint([50, 50]), checkpoint([100, 200])]);
        let check = |begins: [u64; 2]| check_begin(&layout, &manifest, &begins.map(Lsn));
        assert!(check([50, 0]).is_ok() && check([100, 200]).is_ok());
        let Err(Error::Damaged(damage)) = check([100, 201]) else { panic!("core 1 does not reach") };
        assert_eq!((damage.core, damage.lsn, damage.verdict), (CoreId(1), Some(Lsn(201)), Verdict::Missing));
        assert_eq!(damage.path, layout.core_dir(CoreId(1)));
        assert_eq!(damage.detail, "the log begins at LSN 201, the newest checkpoint covers it up to 200");
        let Err(Error::Damaged(damage)) = check([101, 0]) else { panic!("core 0 does not reach") };
        assert_eq!(damage.core, CoreId(0));
    }
}
