//! Classes 8 and 9: a write that comes half way, a sync that fails.

use corewal::io::{CrashKind, Fault, FaultKind, OperationKind, SimOptions, SimStorage};

use super::bench::{append, commit, commits_of, writer};

#[test]
fn class_08_a_short_write_is_written_to_its_end_or_latches() {
    let (mut finished, mut latched) = (0, 0);
    for seed in 0..64 {
        let disk = SimStorage::new(SimOptions { seed, direct: seed % 2 == 0, ..SimOptions::default() });
        let mut log = writer(disk.clone());
        commit(&mut log, 0, 100);
        disk.inject(Fault { on: OperationKind::Write, skip: 0, kind: FaultKind::ShortWrite, sticky: false });
        // Three blocks.
        let end = append(&mut log, 1, 11_000).unwrap();
        let durable = match log.sync() {
            Ok(lsn) => {
                assert!(lsn >= end);
                finished += 1;
                2
            }
            Err(error) => {
                assert!(error.is_latched() && log.durable_lsn() < end, "{error}");
                assert!(log.sync().unwrap_err().is_latched());
                latched += 1;
                1
            }
        };
        for cut in 0..8 {
            let found = commits_of(&disk.snapshot().crash(CrashKind::Power, cut));
            assert!((durable..=2).contains(&found), "seed {seed}, cut {cut}: {found} of {durable}");
        }
    }
    assert!(finished > 10 && latched > 10, "{finished} finished, {latched} latched");
}

/// A log whose sync fails so, and what comes of it.
fn failed_sync(kind: FaultKind) {
    for seed in 0..32 {
        let disk = SimStorage::new(SimOptions { seed, ..SimOptions::default() });
        let mut log = writer(disk.clone());
        let first = commit(&mut log, 0, 100);
        append(&mut log, 1, 5000).unwrap();
        // Not alone, so that it does not carry its own sync.
        log.submit().unwrap();
        let second = append(&mut log, 2, 5000).unwrap();
        let ticket = log.ticket(second);
        disk.inject(Fault { on: OperationKind::Sync, skip: 0, kind, sticky: false });
        assert!(log.sync().unwrap_err().is_latched());
        assert!(log.durable_lsn() >= first && log.durable_lsn() < second && !ticket.is_durable());
        // The disk is well again, and would say that all is durable.
        let step = disk.step();
        assert!(log.sync().unwrap_err().is_latched());
        assert!(log.request_sync().unwrap_err().is_latched());
        assert!(append(&mut log, 3, 100).unwrap_err().is_latched());
        assert!(log.poll().unwrap_err().is_latched());
        assert_eq!(disk.step(), step, "nothing is tried again");
        assert!(ticket.wait().unwrap_err().is_latched());
        drop(log);
        for cut in 0..4 {
            let found = commits_of(&disk.snapshot().crash(CrashKind::Power, cut));
            assert!((1..=3).contains(&found), "seed {seed}, cut {cut}");
            // The process goes on instead: what its opening finds, and what
            // it acknowledges behind that, no power cut takes.
            let opened = disk.snapshot().crash(CrashKind::Process, cut);
            let found = commits_of(&opened);
            let mut log = writer(opened.clone());
            commit(&mut log, found, 100);
            drop(log);
            let after = commits_of(&opened.snapshot().crash(CrashKind::Power, cut));
            assert_eq!(after, found + 1, "seed {seed}, cut {cut}");
        }
    }
}

#[test]
fn class_09_a_sync_that_fails_and_drops_its_pages_is_final() {
    failed_sync(FaultKind::FailedSyncPagesDropped);
}

#[test]
fn class_09_a_sync_that_fails_and_keeps_its_pages_clean_is_final() {
    failed_sync(FaultKind::FailedSyncPagesKept);
}

#[test]
fn class_09_a_sync_that_fails_half_way_is_final() {
    failed_sync(FaultKind::FailedSyncHalf);
}
