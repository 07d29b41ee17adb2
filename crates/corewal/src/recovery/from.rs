//! From which checkpoint a replay begins: the newest, or an older one if the
//! newest is damaged and the log still reaches back.

use std::time::Duration;

use corewal_format::{CoreId, Lsn, Manifest};
use corewal_io::Storage;

use super::plan::Keep;
use super::replay::{Base, Recovered, replay};
use super::since;
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
    state: impl Fn(CoreId) -> T + Send + Sync,
    clock: &dyn Clock,
) -> Result<Replayed<T>> {
    let log = |core| LogIdentity::of(manifest, core);
    let mut notes = Vec::new();
    let mut candidates = manifest.checkpoints.iter().enumerate().rev();
    let mut first_error = None;
    loop {
        let candidate = candidates.next();
        let possible = match candidate {
            Some((_, checkpoint)) => {
                surveys.iter().all(|survey| begins_by(survey, checkpoint.cores[survey.core.index()].lsn))
            }
            // What was released, the user has elsewhere.
            None if manifest.checkpoints.is_empty() => true,
            // The whole log has to be there. (One of a later generation begins
            // with a checkpoint.)
            None => manifest.generation == 0 && surveys.iter().all(|survey| begins_by(survey, Lsn(0))),
        };
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
            match cores.into_iter().collect::<Result<Vec<_>>>() {
                Ok(cores) => {
                    let checkpoint = candidate.map(|(index, _)| index);
                    let (cores, bases) = cores.into_iter().unzip();
                    return Ok(Replayed { cores, checkpoint, bases, notes });
                }
                Err(error @ Error::Damaged(_)) if candidate.is_some() => {
                    notes.push(format!("checkpoint {} is not used: {error}", candidate.expect("checked").1.number));
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        } else if candidate.is_none() {
            return Err(first_error.unwrap_or_else(|| headless(layout, manifest, surveys)));
        }
    }
}

/// Whether a log goes back to `lsn`.
fn begins_by(survey: &Survey, lsn: Lsn) -> bool {
    survey.begin() <= lsn
}

/// The logs begin behind what a checkpoint covers, or there is none.
fn headless<S: Storage>(layout: &Layout<S>, manifest: &Manifest, surveys: &[&Survey]) -> Error {
    let newest = manifest.newest();
    let covered = |survey: &Survey| newest.map_or(Lsn(0), |newest| newest.cores[survey.core.index()].lsn);
    let survey = surveys.iter().find(|survey| !begins_by(survey, covered(survey))).expect("one does not reach");
    Error::Damaged(Box::new(Damage {
        core: survey.core,
        segment: survey.segments.first().map(|span| span.id),
        offset: 0,
        lsn: Some(survey.begin()),
        verdict: Verdict::Missing,
        path: layout.core_dir(survey.core),
        detail: format!(
            "the log begins at LSN {}, the newest checkpoint covers it up to {}",
            survey.begin(),
            covered(survey)
        ),
        loss: "what stood between".into(),
    }))
}
