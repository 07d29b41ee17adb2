#![cfg(feature = "planted-bugs")]
#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: threads, processes and time, small numbers"
)]
//! Canaries: the tests must find each planted bug. Tests that find nothing
//! where there is something prove nothing where there is nothing.
//!
//! Most bugs the crash loop finds. What is no matter of crashes an existing
//! test finds: it is run with the bug planted, in a process of its own, and has
//! to fail. (Here it also runs without, and has to pass.)
//!
//! ```text
//! cargo test -p corewal --features planted-bugs --test canary -- --nocapture
//! COREWAL_CANARY=TokenCollision cargo test -p corewal --features planted-bugs --test canary
//! ```

mod damage;
#[path = "../../../format/tests/decode_anything.rs"]
mod decode_anything;
#[path = "../crash_loop/engine/mod.rs"]
mod engine;

use std::process::Command;

use corewal::PlantedBug::{self, *};
use engine::{Campaign, Profile, Workload};

/// Crash states within which a bug has to be found.
const PATIENCE: u64 = 50_000;

/// What finds a bug.
#[derive(Clone, Copy)]
enum By {
    /// The crash loop, where it does this.
    Loop(Workload),
    /// A test of this name.
    Test(&'static str),
}

use By::{Loop, Test};
use Workload::{Bare, Faults, Shards};

/// Every bug, and what finds it.
const CAUGHT: &[(PlantedBug, By)] = &[
    (SyncAcknowledgedEarly, Loop(Shards)),
    (SyncCoversLaterWrites, Loop(Shards)),
    (SyncRetriedAfterFailure, Loop(Faults)),
    (WriteResultIgnored, Loop(Faults)),
    (SyncResultIgnored, Loop(Faults)),
    (ShortWriteIgnored, Loop(Faults)),
    (TokenCollision, Loop(Shards)),
    (LatchIgnored, Loop(Faults)),
    (TicketsGrantedEarly, Loop(Shards)),
    (PaddingNotZeroed, Loop(Shards)),
    (ChecksumWithoutLength, Test("decode_anything::no_other_length_passes_for_a_frames_own")),
    (ChecksumWithoutIdentity, Test("damage::misdirected::a_block_that_landed_in_the_other_cores_file_is_noticed")),
    (OrderByClock, Loop(Shards)),
    (SealBeforeSuccessor, Loop(Shards)),
    (SuccessorHeaderNotSynced, Loop(Shards)),
    (SuccessorNameNotSynced, Loop(Shards)),
    (RecycledNamedBeforeHeader, Loop(Bare)),
    (SpareNameNotSynced, Loop(Bare)),
    (ReleasedBeforeRecord, Loop(Bare)),
    (DirectorySyncSkipped, Loop(Shards)),
    (LockNotTaken, Loop(Shards)),
    (TailNotSettled, Loop(Shards)),
    (ManifestNotSettled, Loop(Shards)),
    (TornTailNotCut, Loop(Shards)),
    (AppendedBehindTornTail, Loop(Shards)),
    (OpeningNumberNotRaised, Loop(Shards)),
    (ZeroFrameAccepted, Loop(Shards)),
    (
        ProofsIgnored,
        Test("damage::misdirected::a_block_that_landed_in_the_other_cores_file_is_noticed_by_its_own_log_alone"),
    ),
    (ClaimsIgnored, Test("damage::files::a_segment_put_back_from_the_past_is_noticed_if_anything_proves_what_is_gone")),
    (EpochOfTheFastestCore, Loop(Shards)),
    (EpochReportedEarly, Loop(Shards)),
    (OneLogDropped, Loop(Shards)),
    (CommitsIgnored, Loop(Shards)),
    (RollbackNotWritten, Loop(Shards)),
    (LsnReused, Loop(Shards)),
    (SequenceReused, Loop(Shards)),
    (RunsRemovedEarly, Loop(Shards)),
    (ReleasedBeforeManifest, Loop(Faults)),
    (RunNotSynced, Loop(Shards)),
    (RunShortWriteIgnored, Loop(Faults)),
    (ManifestNotSynced, Loop(Shards)),
    (ManifestRenameNotSynced, Loop(Shards)),
    (RunNotHeldAgainstManifest, Test("damage::runs::an_intact_run_of_another_history_is_never_served")),
    (CheckpointBeyondItsEpoch, Loop(Shards)),
    (CheckpointOfDeadRecords, Loop(Shards)),
    (RemovalsForgotten, Loop(Shards)),
    (OldLogsRemovedEarly, Loop(Shards)),
    (OneCoresOffsetsLost, Loop(Shards)),
    (RoutedOtherwise, Loop(Shards)),
    (PositionsBeginAgain, Loop(Shards)),
];

/// What found it, or that nothing did.
type Found = Result<String, String>;

/// Runs the crash loop on what `profile` makes of each seed.
fn by_the_loop(what: &str, profile: impl Fn(u64) -> Profile + Sync) -> Found {
    let report = Campaign { first: 0, states: PATIENCE, seeds: u64::MAX }.run(profile);
    let (states, took) = (report.counts.states, report.took.as_secs_f32());
    match report.violation {
        Some((seed, error)) => Ok(format!("{what}: by seed {seed}, {states} crash states, {took:.2} s: {error}")),
        None => Err(format!("{what}: the crash loop does not find it in {states} crash states, {took:.2} s")),
    }
}

/// Runs a test of this program with the bug planted; it has to fail.
fn by_test(bug: PlantedBug, test: &str) -> Found {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new(program).args(["--exact", test]).env("COREWAL_PLANT", format!("{bug:?}")).output();
    let output = run.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !said.contains(&format!("{test} ... FAILED")) {
        return Err(format!("{bug:?}: {test} does not fail: {said}"));
    }
    let why = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or_default();
    Ok(format!("{bug:?}: by {test}: {}", why.chars().take(300).collect::<String>()))
}

/// The engine's assertions are allowed to be what finds a bug, quietly: threads
/// of a campaign have no name.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name().is_some() {
                loud(panic);
            }
        }));
    });
}

fn tell(found: &Found) {
    println!("{}", found.as_ref().unwrap_or_else(|missed| missed));
}

fn all_must_be_found(mut bugs: impl Iterator<Item = Found>) {
    let missed: Vec<_> = bugs.by_ref().inspect(tell).filter_map(Result::err).collect();
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

/// The bugs to look for: all, or the one that `COREWAL_CANARY` names.
fn bugs() -> impl Iterator<Item = &'static (PlantedBug, By)> {
    let only = std::env::var("COREWAL_CANARY").ok();
    CAUGHT.iter().filter(move |(bug, _)| only.as_ref().is_none_or(|only| *only == format!("{bug:?}")))
}

#[test]
fn every_bug_that_can_be_planted_is_in_the_list_once() {
    let listed: Vec<_> = CAUGHT.iter().map(|&(bug, _)| bug).collect();
    assert_eq!(listed, PlantedBug::ALL);
}

#[test]
fn the_crash_loop_finds_its_bugs() {
    quiet();
    all_must_be_found(bugs().filter_map(|&(bug, by)| {
        let Loop(workload) = by else { return None };
        Some(by_the_loop(&format!("{bug:?}"), |seed| {
            let profile = Profile::with(seed, workload);
            let options = profile.options.clone().plant(bug);
            Profile { options, ..profile }
        }))
    }));
}

#[test]
fn other_tests_find_theirs() {
    all_must_be_found(bugs().filter_map(|&(bug, by)| match by {
        Loop(_) => None,
        Test(test) => Some(by_test(bug, test)),
    }));
}

#[test]
fn a_disk_whose_syncs_lie_is_found() {
    quiet();
    let lies = |seed| {
        let profile = Profile::of(seed);
        let disk = corewal::io::SimOptions { sync_lies: true, ..profile.disk };
        Profile { disk, ..profile }
    };
    all_must_be_found(std::iter::once(by_the_loop("a disk whose syncs lie", lies)));
}
