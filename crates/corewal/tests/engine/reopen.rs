//! The path everything takes: append, crash, open, same state. On real files.

use std::collections::BTreeMap;

use corewal::{Commit, Epoch, Error, Lsn, Opened, Options, Recover};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    Options::new().cores(2).segment_bytes(64 << 10).buffer_bytes(8 << 10)
}

fn state_of(opened: &mut Opened) -> Model {
    let mut state = Model::new();
    for shard in &mut opened.shards {
        state.extend(shard.scan(b"").map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    state
}

/// Puts `keys`, commits with the count as offset, and ends an epoch.
fn put_epoch(opened: &mut Opened, keys: std::ops::Range<u32>, model: &mut Model) {
    let epoch = opened.store.next_epoch();
    for key in keys.clone() {
        let (name, value) = (format!("key-{}", key % 97), format!("value-{key}"));
        let core = opened.store.route(name.as_bytes());
        opened.shards[core.index()].put(name.as_bytes(), value.as_bytes()).unwrap();
        model.insert(name.into_bytes(), value.into_bytes());
    }
    for shard in &mut opened.shards {
        shard.commit(&Commit::new().offset_u64("input", keys.end.into()).watermark(keys.end.into())).unwrap();
        shard.end_epoch(epoch).unwrap();
    }
}

#[test]
fn append_crash_open_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let mut epochs = 0;
    for round in 0..5_u32 {
        let mut opened = options().open(dir.path()).unwrap();
        assert_eq!(opened.report.complete_epoch.get(), epochs);
        assert_eq!(state_of(&mut opened), model);
        for batch in 0..20 {
            let from = round * 10_000 + batch * 500;
            put_epoch(&mut opened, from..from + 500, &mut model);
        }
        for shard in &mut opened.shards {
            shard.sync().unwrap();
        }
        epochs = opened.store.complete_epoch().get();
        assert!(epochs > 0);
        // Dropped without closing, as a killed process would leave it.
    }
    let opened = options().open(dir.path()).unwrap();
    for shard in &opened.shards {
        assert_eq!(shard.offset_u64("input"), Some(50_000));
        assert_eq!(shard.watermark(), Some(50_000));
    }
    assert!(opened.report.cores.iter().all(|core| core.segments > 3), "rotation was part of it");
}

#[test]
fn what_lies_after_the_complete_epoch_is_rolled_back_and_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let mut opened = options().open(dir.path()).unwrap();
    put_epoch(&mut opened, 0..100, &mut model);
    for shard in &mut opened.shards {
        shard.sync().unwrap();
    }
    // Core 0 ends another epoch durably, core 1 never does.
    let key = (0..).map(|n| format!("extra-{n}")).find(|key| opened.store.route(key.as_bytes()).get() == 0).unwrap();
    let epoch = opened.store.next_epoch();
    opened.shards[0].put(key.as_bytes(), b"lost").unwrap();
    opened.shards[0].commit(&Commit::new().offset_u64("input", 999)).unwrap();
    opened.shards[0].end_epoch(epoch).unwrap();
    opened.shards[0].sync().unwrap();
    let before = opened.shards[0].log().appended_lsn();
    drop(opened);

    for _ in 0..3 {
        let mut opened = options().open(dir.path()).unwrap();
        assert_eq!(state_of(&mut opened), model);
        assert_eq!(opened.shards[0].offset_u64("input"), Some(100));
        assert!(opened.shards[0].log().durable_lsn() > before, "its positions are not given to other bytes");
        assert!(opened.shards[0].log().epoch() > epoch, "nor is its epoch used again");
    }
}

#[test]
fn latest_gives_each_core_its_own_commits_and_drops_the_open_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = options().cores(1).open(dir.path()).unwrap();
    opened.shards[0].put(b"a", b"1").unwrap();
    opened.shards[0].commit(&Commit::new()).unwrap();
    opened.shards[0].put(b"b", b"2").unwrap();
    opened.shards[0].sync().unwrap();
    drop(opened);
    let mut opened = options().cores(1).recover(Recover::Latest).open(dir.path()).unwrap();
    assert_eq!(state_of(&mut opened), Model::from([(b"a".to_vec(), b"1".to_vec())]));
    assert_eq!(opened.report.cores[0].rolled_back.as_ref().unwrap().records, 1);
    // The next commit must not take the orphan in.
    opened.shards[0].put(b"c", b"3").unwrap();
    opened.shards[0].commit(&Commit::new()).unwrap();
    opened.shards[0].sync().unwrap();
    drop(opened);
    let mut opened = options().cores(1).recover(Recover::Latest).open(dir.path()).unwrap();
    assert_eq!(state_of(&mut opened).into_keys().collect::<Vec<_>>(), [b"a".to_vec(), b"c".to_vec()]);
}

#[test]
fn a_parked_shard_holds_no_epoch_back_and_recovery_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = options().open(dir.path()).unwrap();
    opened.shards[1].park().unwrap();
    for _ in 0..3 {
        let epoch = opened.store.announce_epoch();
        opened.shards[0].sync().unwrap();
        assert_eq!(opened.store.complete_epoch(), epoch);
    }
    assert!(matches!(opened.shards[1].payload(b"x"), Err(Error::Parked)));
    drop(opened);

    let mut opened = options().open(dir.path()).unwrap();
    assert_eq!(opened.report.complete_epoch, Epoch(3));
    opened.shards[1].park().unwrap();
    let epoch = opened.store.announce_epoch();
    opened.shards[0].sync().unwrap();
    assert_eq!(opened.store.complete_epoch(), epoch);
    opened.shards[1].unpark().unwrap();
    let waits = opened.store.announce_epoch();
    opened.shards[0].sync().unwrap();
    assert_eq!(opened.store.complete_epoch(), epoch, "an unparked shard is waited for");
    opened.shards[1].sync().unwrap();
    assert_eq!(opened.store.complete_epoch(), waits);
    drop(opened);
    assert_eq!(options().open(dir.path()).unwrap().report.complete_epoch, waits);
}

#[test]
fn in_one_core_the_later_put_wins_whatever_the_clock_did() {
    use corewal::{ManualClock, TimestampNs};
    use std::sync::Arc;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(TimestampNs(1_000_000)));
    let mut opened = options().cores(1).clock(clock.clone()).open(dir.path()).unwrap();
    for (now, value) in [(1_000_000, "early"), (10, "after the clock stepped back")] {
        clock.set(TimestampNs(now));
        opened.shards[0].put(b"key", value.as_bytes()).unwrap();
        opened.shards[0].commit(&Commit::new()).unwrap();
        opened.shards[0].sync().unwrap();
    }
    drop(opened);
    let opened = options().cores(1).clock(clock).recover(Recover::Latest).open(dir.path()).unwrap();
    assert_eq!(opened.shards[0].get(b"key"), Some(&b"after the clock stepped back"[..]));
}

#[test]
fn a_second_opener_is_kept_out_and_a_wrong_core_count_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = options().open(dir.path()).unwrap();
    assert!(options().open(dir.path()).unwrap_err().is_locked());
    drop(opened);
    let error = options().cores(3).open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::CoreCount { store: 2, asked: 3 }), "{error}");
    assert_eq!(Options::new().open(dir.path()).unwrap().shards.len(), 2, "the store's own count by default");
}

#[test]
fn truncate_release_and_reset_are_durable_and_reuse_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let storage = corewal::io::FileStorage::new();
        let options = options().cores(1).recover(Recover::Latest);
        options.open_writers(storage, dir.path()).unwrap().0.remove(0)
    };
    let mut writer = open();
    let mut ends = vec![];
    for n in 0..200_u32 {
        // The next segment may still be in the making.
        while writer.payload(&[n as u8; 2000]).is_err_and(|error| error.is_full()) {
            writer.submit().unwrap();
            writer.wait().unwrap();
        }
        ends.push(writer.commit(&Commit::new()).unwrap());
        writer.sync().unwrap();
    }
    let (end, sequence) = (writer.appended_lsn(), writer.sequence());
    assert!(matches!(writer.truncate_to(ends[99]), Err(Error::BadLsn { .. })), "not a frame's beginning");
    // Frames begin on whole blocks.
    let frame = Lsn(ends[99].get().next_multiple_of(4096));
    assert_eq!(writer.truncate_to(frame).unwrap(), ends[99]);
    assert!(writer.appended_lsn() > end && writer.sequence() > sequence);
    drop(writer);

    let mut writer = open();
    assert!(writer.appended_lsn() > end && writer.sequence() > sequence);
    assert!(matches!(writer.release_below(Lsn(u64::MAX)), Err(Error::BadLsn { .. })));
    let start = writer.release_below(frame).unwrap();
    assert!(Lsn(0) < start && start <= frame);
    drop(writer);

    let mut writer = open();
    assert_eq!(writer.start_lsn(), start);
    let (end, sequence) = (writer.appended_lsn(), writer.sequence());
    writer.reset().unwrap();
    assert!(writer.start_lsn() >= end && writer.sequence() > sequence);
    drop(writer);
    let writer = open();
    assert!(writer.start_lsn() >= end && writer.sequence() > sequence);
    drop(writer);
    // What was released is used again: the one in use, the one that is ready,
    // and a few spare files.
    let files = std::fs::read_dir(dir.path().join("core-0000")).unwrap().map(|file| file.unwrap().file_name());
    let (segments, spares): (Vec<_>, Vec<_>) = files.partition(|name| name.to_string_lossy().ends_with(".wal"));
    assert!(segments.len() <= 2 && spares.len() <= 4, "{segments:?} {spares:?}");
}

#[test]
fn a_log_emptied_by_reset_keeps_its_epoch() {
    // The epoch was known from barriers and openings alone. A reset took them
    // all away, the log went on in epoch 1, and the open after that found an
    // epoch that had gone back, and called the log corrupt.
    let dir = tempfile::tempdir().unwrap();
    let open = || options().open_writers(corewal::io::FileStorage::new(), dir.path()).unwrap().0;
    let mut writers = open();
    for epoch in 1..10 {
        writers[0].barrier(Epoch(epoch), Epoch(0)).unwrap();
    }
    writers[0].reset().unwrap();
    drop(writers);
    for _ in 0..3 {
        assert!(open()[0].epoch() >= Epoch(10));
    }
}
