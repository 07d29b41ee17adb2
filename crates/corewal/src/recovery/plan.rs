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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use corewal_format::{
        Checkpoint, CoreCheckpoint, CoreId, LogId, MAX_EPOCH, Offsets, Record, SegmentId, TimestampNs,
    };
    use corewal_io::SimStorage;

    use super::*;

    fn layout() -> Layout<SimStorage> {
        Layout::new(SimStorage::default(), Path::new("/db"))
    }

    /// A manifest of two cores with a checkpoint at the end of each of these
    /// epochs.
    fn manifest(epochs: &[u64]) -> Manifest {
        let checkpoint = |&epoch: &u64| Checkpoint {
            number: 100 + epoch,
            epoch: Epoch(epoch),
            time: TimestampNs(0),
            inherited: Offsets::default(),
            cores: vec![CoreCheckpoint::default(); 2],
        };
        Manifest { checkpoints: epochs.iter().map(checkpoint).collect(), ..Manifest::new(LogId([1; 16]), 2, "") }
    }

    fn plan_of(surveys: &[Survey], recover: Recover, until: Epoch) -> Plan {
        plan(surveys.iter(), recover, until, Planted::default())
    }

    fn damage(result: Result<()>) -> Option<Damage> {
        match result {
            Ok(()) => None,
            Err(Error::Damaged(damage)) => Some(*damage),
            Err(error) => panic!("another error: {error}"),
        }
    }

    #[test]
    fn what_every_core_has_ended_is_kept_or_all_that_is_committed() {
        let surveys = [Survey::of_epochs(0, &[1, 2, 3, 4]), Survey::of_epochs(1, &[1, 2])];
        let complete = plan_of(&surveys, Recover::CompleteEpoch, MAX_EPOCH);
        assert_eq!((complete.keep, complete.complete), (Keep::UpToEpoch(Epoch(2)), Epoch(2)));
        let latest = plan_of(&surveys, Recover::Latest, MAX_EPOCH);
        assert_eq!((latest.keep, latest.complete), (Keep::UpToLastCommit, Epoch(2)));
        let before = plan_of(&surveys, Recover::CompleteEpoch, Epoch(1));
        assert_eq!((before.keep, before.complete), (Keep::UpToEpoch(Epoch(1)), Epoch(1)));
    }

    #[test]
    fn all_go_on_in_the_newest_epoch_that_is_current_and_behind_it_where_something_was_taken_back() {
        let surveys = [Survey::of_epochs(0, &[1, 2, 3, 4]), Survey::of_epochs(1, &[1, 2])];
        let complete = plan_of(&surveys, Recover::CompleteEpoch, MAX_EPOCH);
        assert_eq!((complete.next_epoch(false), complete.next_epoch(true)), (Epoch(5), Epoch(6)));
        // Barriers that count: up to the complete epoch, or all there are.
        assert_eq!(complete.keep_barriers(Epoch(6)), Epoch(2));
        let latest = plan_of(&surveys, Recover::Latest, MAX_EPOCH);
        assert_eq!(latest.keep_barriers(Epoch(6)), Epoch(5));
        // A parked core's log may lag behind an epoch that was complete.
        let mut parked = Survey::of_epochs(0, &[1]);
        parked.coverage.take(Epoch(2), &Record::Park { epoch: Epoch(7) });
        assert_eq!(plan_of(&[parked], Recover::CompleteEpoch, MAX_EPOCH).next_epoch(false), Epoch(8));
    }

    #[test]
    fn a_log_that_lacks_what_another_says_was_complete_is_named() {
        let mut surveys = [Survey::of_epochs(0, &[1, 2, 3, 4, 5]), Survey::of_epochs(1, &[1, 2, 3])];
        let check = |surveys: &[Survey; 2], until| damage(check_claims(&layout(), surveys.iter(), until));
        assert!(check(&surveys, MAX_EPOCH).is_none(), "nobody says anything");
        surveys[0].claimed = Epoch(3);
        assert!(check(&surveys, MAX_EPOCH).is_none(), "all have it");
        surveys[0].claimed = Epoch(5);
        let found = check(&surveys, MAX_EPOCH).expect("core 1 has not");
        assert_eq!((found.core, found.verdict, found.lsn), (CoreId(1), Verdict::Missing, Some(surveys[1].end())));
        assert_eq!((found.segment, found.offset), (Some(SegmentId(0)), surveys[1].stop.place.offset));
        assert_eq!(found.path, layout().segment(CoreId(1), SegmentId(0)));
        let detail = "the log ends in epoch 4, but the log of core 0 says that epoch 5 was complete on all cores";
        assert_eq!(found.detail, detail);
        assert_eq!(found.loss, "what core 1 did from epoch 4 to 5");
        // A copy of the store as it was then.
        assert!(check(&surveys, Epoch(3)).is_none());
        assert!(check(&surveys, Epoch(4)).is_some());
    }

    #[test]
    fn what_a_repair_forgave_and_what_a_parked_core_missed_is_no_lack() {
        let mut forgiven = [Survey::of_epochs(0, &[1, 2, 3, 4, 5]), Survey::of_epochs(1, &[1, 2, 3])];
        forgiven[0].claimed = Epoch(5);
        let mut parked = forgiven.clone();
        forgiven[1].ended = Epoch(5);
        assert!(damage(check_claims(&layout(), forgiven.iter(), MAX_EPOCH)).is_none());
        parked[1].coverage.take(Epoch(4), &Record::Park { epoch: Epoch(4) });
        assert!(damage(check_claims(&layout(), parked.iter(), MAX_EPOCH)).is_none());
    }

    #[test]
    fn a_log_that_ends_before_the_newest_checkpoint_is_named() {
        let surveys = [Survey::of_epochs(0, &[1, 2, 3, 4]), Survey::of_epochs(1, &[1, 2, 3])];
        let check = |epochs: &[u64], complete| {
            damage(check_reach(&layout(), &manifest(epochs), surveys.iter(), Epoch(complete)))
        };
        assert!(check(&[], 3).is_none(), "there is no checkpoint");
        assert!(check(&[1, 3], 3).is_none());
        assert!(check(&[1, 2], 3).is_none());
        let found = check(&[1, 4], 3).expect("core 1 ended no epoch 4");
        assert_eq!((found.core, found.verdict), (CoreId(1), Verdict::Missing));
        assert!(found.detail.contains("but checkpoint 104 says that epoch 4"), "{}", found.detail);
    }

    #[test]
    fn the_manifest_before_the_newest_is_refused_if_the_beginning_is_gone_and_no_checkpoint_has_it() {
        let whole = [Survey::of_epochs(0, &[1]), Survey::of_epochs(1, &[1])];
        let mut released = whole.clone();
        released[1].start = Lsn(8192);
        let instead = Some("the newest is damaged");
        let check = |surveys: &[Survey; 2], epochs: &[u64], instead| {
            damage(check_root(&layout(), &manifest(epochs), instead, surveys.iter()))
        };
        assert!(check(&released, &[], None).is_none(), "it is the newest");
        assert!(check(&released, &[1], instead).is_none(), "a checkpoint has it");
        assert!(check(&whole, &[], instead).is_none(), "all is there");
        let found = check(&released, &[], instead).expect("core 1 lacks it");
        assert_eq!((found.core, found.lsn, found.verdict), (CoreId(1), Some(Lsn(8192)), Verdict::Missing));
        assert_eq!((found.path, found.segment), (layout().manifest(), None));
        assert!(found.detail.starts_with("the newest is damaged; that one names no checkpoint"), "{}", found.detail);
    }
}
