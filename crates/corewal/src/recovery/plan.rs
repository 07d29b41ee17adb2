//! The plan: which epoch to go back to. Pure.

use corewal_format::{Epoch, Lsn, Manifest};
use corewal_io::Storage;

use crate::error::{Damage, Error, Result};
use crate::layout::Layout;
use crate::options::Recover;
use crate::planted::{Planted, PlantedBug};
use crate::scan::{Survey, Verdict, newest_common};

/// What counts of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Everything up to the end of this epoch.
    UpToEpoch(Epoch),
    /// Everything up to the last commit.
    UpToLastCommit,
}

/// What opening goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) keep: Keep,
    /// The newest epoch that every core had ended.
    pub(crate) complete: Epoch,
    /// The newest epoch that is current in any log.
    current: Epoch,
}

/// Decides from the surveys of all cores; nothing after the epoch `until` is
/// looked at.
pub(crate) fn plan<'s>(
    surveys: impl Iterator<Item = &'s Survey> + Clone,
    recover: Recover,
    until: Epoch,
    planted: Planted,
) -> Plan {
    let mut complete = newest_common(surveys.clone().map(|survey| &survey.coverage), until);
    if planted.has(PlantedBug::EpochOfTheFastestCore) {
        complete = surveys.clone().map(|survey| survey.coverage.newest_named()).max().unwrap_or(complete);
    }
    let keep = match recover {
        Recover::CompleteEpoch => Keep::UpToEpoch(complete),
        Recover::Latest if planted.has(PlantedBug::CommitsIgnored) => Keep::UpToEpoch(Epoch(u64::MAX)),
        Recover::Latest => Keep::UpToLastCommit,
    };
    let current = surveys.map(|survey| survey.epoch).max().unwrap_or(Epoch(1));
    Plan { keep, complete, current: current.max(complete.next()) }
}

impl Plan {
    /// The epoch in which all cores go on. After a rollback it is one that no
    /// log has used, so that a reader never sees one epoch mean two things.
    pub(crate) fn next_epoch(&self, rolled_back: bool) -> Epoch {
        if rolled_back { self.current.next() } else { self.current }
    }

    /// The last epoch whose barrier still counts.
    pub(crate) fn keep_barriers(&self, next_epoch: Epoch) -> Epoch {
        match self.keep {
            Keep::UpToEpoch(epoch) => epoch,
            Keep::UpToLastCommit => Epoch(next_epoch.0 - 1),
        }
    }
}

/// Refuses logs that contradict each other: if one says that an epoch was
/// complete, every log must hold the end of it. (Of those up to `until`: a copy
/// may hold more of one log than of another.)
pub(crate) fn check_claims<'s, S: Storage>(
    layout: &Layout<S>,
    surveys: impl Iterator<Item = &'s Survey> + Clone,
    until: Epoch,
) -> Result<()> {
    let Some(claim) = surveys.clone().max_by_key(|survey| survey.claimed) else {
        return Ok(());
    };
    let claimed = claim.claimed.min(until);
    let short = |survey: &&Survey| survey.ended < claimed && survey.coverage.newest_up_to(claimed) < claimed;
    let mut surveys = surveys;
    let Some(survey) = surveys.find(short) else {
        return Ok(());
    };
    Err(ends_early(layout, survey, &format!("the log of core {}", claim.core), claimed))
}

/// Refuses logs that end before the epoch of the newest checkpoint.
pub(crate) fn check_reach<'s, S: Storage>(
    layout: &Layout<S>,
    manifest: &Manifest,
    mut surveys: impl Iterator<Item = &'s Survey>,
    complete: Epoch,
) -> Result<()> {
    let Some(newest) = manifest.newest().filter(|newest| newest.epoch > complete) else {
        return Ok(());
    };
    let short = |survey: &&Survey| survey.coverage.newest_up_to(newest.epoch) < newest.epoch;
    let survey = surveys.find(short).expect("an epoch that all have ended is complete");
    Err(ends_early(layout, survey, &format!("checkpoint {}", newest.number), newest.epoch))
}

/// Refuses the manifest before the newest if it knows no checkpoint and the
/// logs have let go of their beginning: what stood there was in a checkpoint
/// that only the newest named. (Who releases by hand has no manifest before the
/// newest: it comes with the first checkpoint.)
pub(crate) fn check_root<'s, S: Storage>(
    layout: &Layout<S>,
    manifest: &Manifest,
    instead: Option<&str>,
    mut surveys: impl Iterator<Item = &'s Survey>,
) -> Result<()> {
    let Some(instead) = instead.filter(|_| manifest.checkpoints.is_empty()) else {
        return Ok(());
    };
    let Some(survey) = surveys.find(|survey| survey.begin() > Lsn(0)) else {
        return Ok(());
    };
    Err(Error::Damaged(Box::new(Damage {
        core: survey.core,
        segment: None,
        offset: 0,
        lsn: Some(survey.begin()),
        verdict: Verdict::Missing,
        path: layout.manifest(),
        detail: format!(
            "{instead}; that one names no checkpoint, and the log of core {} begins at LSN {}",
            survey.core,
            survey.begin()
        ),
        loss: "what stood before, which a checkpoint holds that no manifest names".into(),
    })))
}

/// A log ends before an epoch of which `witness` says that it was complete.
fn ends_early<S: Storage>(layout: &Layout<S>, survey: &Survey, witness: &str, complete: Epoch) -> Error {
    let place = survey.stop.place;
    Error::Damaged(Box::new(Damage {
        core: survey.core,
        segment: Some(place.segment),
        offset: place.offset,
        lsn: Some(survey.end()),
        verdict: Verdict::Missing,
        path: layout.segment(survey.core, place.segment),
        detail: format!(
            "the log ends in epoch {}, but {witness} says that epoch {complete} was complete on all cores",
            survey.epoch
        ),
        loss: format!("what core {} did from epoch {} to {complete}", survey.core, survey.ended.next()),
    }))
}
