//! Classes 10 and 11: what a backend says, in the wrong order, too late, never,
//! twice, or of something else. The log waits or latches; it never takes for
//! durable what is not.

use corewal::io::CrashKind;
use corewal::{Lsn, Writer};

use super::bench::{Meddled, Meddling, append, commit, commits_of, writer};

/// A log of one durable commit, the positions of which the second has been
/// written and its sync is under way, and the third is being written.
fn three_commits(meddled: &Meddled) -> (Writer<Meddled>, [Lsn; 3]) {
    let mut log = writer(meddled.clone());
    let first = commit(&mut log, 0, 100);
    let second = append(&mut log, 1, 100).unwrap();
    log.submit().unwrap();
    log.poll().unwrap();
    assert!(log.written_lsn() >= second && log.durable_lsn() < second);
    log.request_sync().unwrap();
    let third = append(&mut log, 2, 100).unwrap();
    log.submit().unwrap();
    assert!(log.durable_lsn() >= first && log.durable_lsn() < second);
    (log, [first, second, third])
}

/// How many commits survive a power cut at worst and at best.
fn survivors(meddled: &Meddled) -> (u8, u8) {
    let cut = |seed| commits_of(&meddled.disk.snapshot().crash(CrashKind::Power, seed));
    let found: Vec<_> = (0..40).map(cut).collect();
    (*found.iter().min().unwrap(), *found.iter().max().unwrap())
}

#[test]
fn class_10_a_sync_that_completes_behind_a_later_write_does_not_cover_it() {
    let meddled = Meddled::new(1);
    let (mut log, [_, second, third]) = three_commits(&meddled);
    meddled.set(Meddling::SyncsLate);
    log.poll().unwrap();
    assert!(log.written_lsn() >= third && log.durable_lsn() < second, "the write is there before the sync");
    meddled.set(Meddling::None);
    log.poll().unwrap();
    assert!(log.durable_lsn() >= second && log.durable_lsn() < third);
    // The medium agrees: some power cuts take the third, none the second.
    assert_eq!(survivors(&meddled), (2, 3));
    log.sync().unwrap();
    assert!(log.durable_lsn() >= third);
    assert_eq!(survivors(&meddled), (3, 3));
}

#[test]
fn class_10_a_sync_is_not_submitted_before_the_writes_that_it_is_for_have_completed() {
    let meddled = Meddled::new(2);
    let mut log = writer(meddled.clone());
    commit(&mut log, 0, 100);
    append(&mut log, 1, 100).unwrap();
    log.submit().unwrap();
    let end = append(&mut log, 2, 100).unwrap();
    meddled.set(Meddling::Late);
    let step = meddled.disk.step();
    log.request_sync().unwrap();
    assert_eq!(meddled.disk.step(), step + 1, "the second write is submitted, and no sync beside it");
    log.poll().unwrap();
    assert!(log.durable_lsn() < end);
    meddled.set(Meddling::None);
    log.sync().unwrap();
    assert!(log.durable_lsn() >= end);
    assert_eq!(survivors(&meddled), (3, 3));
}

#[test]
fn class_11_completions_that_come_late_are_waited_for() {
    let meddled = Meddled::new(3);
    let (mut log, [first, second, third]) = three_commits(&meddled);
    meddled.set(Meddling::Late);
    for _ in 0..100 {
        log.poll().unwrap();
        assert!(log.durable_lsn() >= first && log.durable_lsn() < second);
    }
    meddled.set(Meddling::None);
    assert!(log.sync().unwrap() >= third);
    assert_eq!(survivors(&meddled), (3, 3));
}

#[test]
fn class_11_what_a_lost_completion_was_of_is_never_acknowledged() {
    let meddled = Meddled::new(4);
    let (mut log, [first, second, _]) = three_commits(&meddled);
    let ticket = log.ticket(second);
    meddled.set(Meddling::Lost);
    log.poll().unwrap();
    meddled.set(Meddling::None);
    for _ in 0..100 {
        log.poll().unwrap();
        assert!(log.durable_lsn() >= first && log.durable_lsn() < second && !ticket.is_durable());
    }
    drop(log);
    // Opening reads the medium, which has them.
    assert_eq!(survivors(&meddled), (2, 3));
}

#[test]
fn class_11_a_completion_that_comes_twice_latches() {
    let meddled = Meddled::new(5);
    let (mut log, [_, second, third]) = three_commits(&meddled);
    meddled.set(Meddling::Doubled);
    assert!(log.poll().unwrap_err().is_latched());
    assert!(log.durable_lsn() < third, "at most what the first of two said");
    meddled.set(Meddling::None);
    assert!(log.sync().unwrap_err().is_latched(), "for good");
    assert!(append(&mut log, 3, 100).unwrap_err().is_latched());
    let acknowledged = if log.durable_lsn() >= second { 2 } else { 1 };
    drop(log);
    assert!(survivors(&meddled).0 >= acknowledged);
}

/// The token of a sync on a write's completion moved the durable position,
/// though the sync had not completed: nobody looked whether a buffer came with
/// it.
#[test]
fn class_11_a_completion_under_the_token_of_another_operation_latches() {
    for mixed in [Meddling::WriteForSync, Meddling::SyncForWrite] {
        let meddled = Meddled::new(6);
        let (mut log, [first, second, _]) = three_commits(&meddled);
        meddled.set(mixed);
        let error = log.poll().unwrap_err();
        assert!(error.is_latched() && error.to_string().contains("match a completion"), "{mixed:?}: {error}");
        assert!(log.durable_lsn() >= first && log.durable_lsn() < second, "{mixed:?}");
        meddled.set(Meddling::None);
        assert!(log.poll().unwrap_err().is_latched());
        assert!(log.durable_lsn() < second, "{mixed:?}");
        drop(log);
        assert!(survivors(&meddled).0 >= 1);
    }
}
