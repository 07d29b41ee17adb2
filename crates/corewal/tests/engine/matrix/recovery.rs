//! Class 17: a crash while a log is recovered, and while one is repaired.

use std::path::Path;

use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::repair_on;

use super::bench::{DIR, append, commit, commits_of, writer};

const SEGMENT: &str = "/db/core-0000/00000000000000000000.wal";

/// Both kinds of crash, a few of each, at each step.
fn crashes(steps: &[SimSnapshot]) -> impl Iterator<Item = (String, SimStorage)> {
    steps.iter().flat_map(|step| {
        (0..6).map(move |seed| {
            let kind = if seed % 2 == 0 { CrashKind::Process } else { CrashKind::Power };
            (format!("step {}, {kind:?} {seed}", step.step), step.crash(kind, seed))
        })
    })
}

/// The steps that `act` takes on a copy of the disk.
fn steps_of(disk: &SimSnapshot, act: impl FnOnce(&SimStorage)) -> Vec<SimSnapshot> {
    let disk = disk.crash(CrashKind::Process, 0);
    disk.record_snapshots(true);
    act(&disk);
    disk.take_snapshots()
}

#[test]
fn class_17_a_crash_at_any_step_of_a_recovery_is_recovered_from_as_if_it_had_not_been() {
    let disk = SimStorage::default();
    let mut log = writer(disk.clone());
    for number in 0..3 {
        commit(&mut log, number, 3000);
    }
    append(&mut log, 3, 9000).unwrap();
    log.submit().unwrap();
    append(&mut log, 4, 3000).unwrap();
    log.submit().unwrap();
    let torn = disk.snapshot();
    drop(log);
    let mut cut = 0;
    for seed in 0..12 {
        let found = torn.crash(CrashKind::Power, seed).snapshot();
        let kept = commits_of(&found.crash(CrashKind::Process, 0));
        assert!(kept >= 3);
        cut += u32::from(kept < 5);
        let steps = steps_of(&found, |disk| drop(writer(disk.clone())));
        assert!(steps.len() > 5, "{} steps", steps.len());
        for (name, crashed) in crashes(&steps) {
            // Recovered once and twice, and gone on from.
            assert_eq!(commits_of(&crashed), kept, "seed {seed}, {name}");
            assert_eq!(commits_of(&crashed), kept, "seed {seed}, {name}, again");
            commit(&mut writer(crashed.clone()), kept, 100);
            let after = commits_of(&crashed.snapshot().crash(CrashKind::Power, seed));
            assert_eq!(after, kept + 1, "seed {seed}, {name}, gone on from");
        }
    }
    assert!(cut > 3, "{cut} logs had something to cut");
}

#[test]
fn class_17_a_repair_that_a_crash_cuts_short_is_finished_by_repairing_again() {
    let disk = SimStorage::default();
    let mut log = writer(disk.clone());
    for number in 0..60 {
        commit(&mut log, number, 3000);
    }
    drop(log);
    let mut bytes = disk.read_file(Path::new(SEGMENT)).unwrap();
    // In the middle of the first segment.
    let damaged = 4096 * 7 + 500;
    bytes[damaged] ^= 1;
    disk.write_file(Path::new(SEGMENT), bytes);
    let found = disk.snapshot();
    let repaired = found.crash(CrashKind::Process, 0);
    let steps = repair_on(repaired.clone(), DIR, true).unwrap().steps;
    assert_eq!(steps.len(), 1);
    let kept = commits_of(&repaired);
    assert!((1..60).contains(&kept), "{kept}");
    let steps = steps_of(&found, |disk| drop(repair_on(disk.clone(), DIR, true).unwrap()));
    assert!(steps.len() > 10, "{} steps", steps.len());
    for (name, crashed) in crashes(&steps) {
        repair_on(crashed.clone(), DIR, true).unwrap();
        assert_eq!(commits_of(&crashed), kept, "{name}");
        commit(&mut writer(crashed.clone()), kept, 100);
        let after = crashed.snapshot().crash(CrashKind::Power, 1);
        assert_eq!(commits_of(&after), kept + 1, "{name}, gone on from");
    }
}
