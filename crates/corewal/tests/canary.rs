#![cfg(feature = "planted-bugs")]
#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: threads and time of the campaign, small numbers"
)]
//! Canaries: the crash loop must find each planted bug. A loop that finds
//! nothing where there is something proves nothing where there is nothing.
//!
//! ```text
//! cargo test -p corewal --features planted-bugs --test canary
//! ```

#[path = "crash_loop/engine/mod.rs"]
mod engine;

use corewal::PlantedBug;
use engine::{Campaign, Profile};

/// Crash states within which a bug has to be found.
const PATIENCE: u64 = 50_000;

fn must_be_found(what: &str, profile: impl Fn(u64) -> Profile + Sync) {
    // The engine's assertions are allowed to be what finds it, quietly.
    std::panic::set_hook(Box::new(|_| {}));
    let report = Campaign { first: 0, states: PATIENCE }.run(profile);
    let _ = std::panic::take_hook();
    println!("{what}: {report}");
    match report.violation {
        Some((seed, error)) => println!("  found by seed {seed}: {error}"),
        None => panic!("the crash loop does not find `{what}`"),
    }
}

fn planted(bug: PlantedBug) {
    must_be_found(&format!("{bug:?}"), |seed| {
        let profile = Profile::of(seed);
        let options = profile.options.clone().plant(bug);
        Profile { options, ..profile }
    });
}

#[test]
fn a_sync_that_is_acknowledged_early_is_found() {
    planted(PlantedBug::SyncAcknowledgedEarly);
}

#[test]
fn a_tail_that_is_not_settled_is_found() {
    planted(PlantedBug::TailNotSettled);
}

#[test]
fn a_seal_that_does_not_wait_for_its_successor_is_found() {
    planted(PlantedBug::SealBeforeSuccessor);
}

#[test]
fn an_epoch_that_only_the_fastest_core_ended_is_found() {
    planted(PlantedBug::EpochOfTheFastestCore);
}

#[test]
fn runs_that_are_removed_before_the_manifest_lets_go_of_them_are_found() {
    planted(PlantedBug::RunsRemovedEarly);
}

#[test]
fn a_log_that_is_released_before_its_checkpoint_counts_is_found() {
    planted(PlantedBug::ReleasedBeforeManifest);
}

#[test]
fn a_run_that_the_manifest_names_unsynced_is_found() {
    planted(PlantedBug::RunNotSynced);
}

#[test]
fn old_logs_that_are_removed_before_the_new_ones_count_are_found() {
    planted(PlantedBug::OldLogsRemovedEarly);
}

#[test]
fn a_disk_whose_syncs_lie_is_found() {
    must_be_found("a disk whose syncs lie", |seed| {
        let profile = Profile::of(seed);
        let disk = corewal::io::SimOptions { sync_lies: true, ..profile.disk };
        Profile { disk, ..profile }
    });
}
