//! Class 20: the clock steps back, or was years ahead.

use std::sync::Arc;
use std::time::Duration;

use corewal::format::Manifest;
use corewal::io::{CrashKind, SimStorage};
use corewal::{Checkpoints, Commit, Epoch, Keyed, LogId, ManualClock, Opened, Options, TimestampNs};

const SECOND: u64 = 1_000_000_000;

fn options(clock: &Arc<ManualClock>) -> Options {
    let small = Options::new().cores(2).buffers(4).buffer_bytes(4096).segment_bytes(16_384).single_threaded();
    let policy = Checkpoints::manual().every(Duration::from_secs(60));
    small.log_id(LogId([4; 16])).checkpoints(policy).clock(clock.clone())
}

fn open(disk: &SimStorage, clock: &Arc<ManualClock>) -> Opened<Keyed, SimStorage> {
    options(clock).open_on(disk.clone(), "/db", |_| Keyed::default()).unwrap()
}

/// One epoch, in which the key `k` of each core gets the number.
fn round(store: &mut Opened<Keyed, SimStorage>, number: u64) -> Epoch {
    for shard in &mut store.shards {
        let core = shard.core();
        let key = (0..).map(|n| format!("k{n}")).find(|key| store.store.route(key.as_bytes()) == core).unwrap();
        shard.put(key.as_bytes(), &number.to_le_bytes()).unwrap();
        shard.commit(&Commit::new().offset_u64("in", number)).unwrap();
    }
    let epoch = store.store.announce_epoch();
    for shard in &mut store.shards {
        shard.sync().unwrap();
        shard.poll().unwrap();
    }
    epoch
}

#[test]
fn class_20_a_clock_that_steps_back_brings_no_older_value_and_no_older_epoch_back() {
    let disk = SimStorage::default();
    let clock = Arc::new(ManualClock::new(TimestampNs(50 * SECOND)));
    let mut number = 0;
    for now in [50, 49, 0, 4_000_000_000, 3, 2, 1, 100] {
        // Also across openings: each sees the clock of an earlier time.
        let mut store = open(&disk, &clock);
        clock.set(TimestampNs(now * SECOND));
        for _ in 0..3 {
            number += 1;
            let epoch = round(&mut store, number);
            assert_eq!(store.store.complete_epoch(), epoch);
        }
        let complete = store.store.complete_epoch();
        drop(store);
        let crashed = disk.snapshot().crash(CrashKind::Power, now);
        let store = open(&crashed, &clock);
        assert_eq!(store.report.complete_epoch, complete, "at {now}");
        for shard in &store.shards {
            assert_eq!(shard.offset_u64("in"), Some(number), "at {now}");
            let values: Vec<_> = shard.state().iter().map(|(_, value)| value.to_vec()).collect();
            assert_eq!(values, [number.to_le_bytes().to_vec()], "at {now}");
        }
    }
}

/// A clock that had been years ahead for a moment kept checkpoints by time from
/// being made until it would have come there again, also behind an opening.
#[test]
fn class_20_a_clock_that_was_ahead_does_not_hold_checkpoints_by_time_back() {
    let disk = SimStorage::default();
    let clock = Arc::new(ManualClock::new(TimestampNs(1000 * SECOND)));
    let mut store = open(&disk, &clock);
    round(&mut store, 1);
    assert_eq!(store.store.checkpoint_status().made, 0, "not yet");
    clock.set(TimestampNs(4_000_000_000 * SECOND));
    round(&mut store, 2);
    assert_eq!(store.store.checkpoint_status().made, 1);
    clock.set(TimestampNs(1000 * SECOND));
    round(&mut store, 3);
    assert_eq!(store.store.checkpoint_status().made, 1, "the time begins anew");
    clock.set(TimestampNs(1061 * SECOND));
    round(&mut store, 4);
    assert_eq!(store.store.checkpoint_status().made, 2);
    // Once more, with an opening in between.
    clock.set(TimestampNs(4_000_000_000 * SECOND));
    round(&mut store, 5);
    assert_eq!(store.store.checkpoint_status().made, 3);
    drop(store);
    clock.set(TimestampNs(2000 * SECOND));
    let mut store = open(&disk, &clock);
    round(&mut store, 6);
    clock.set(TimestampNs(2061 * SECOND));
    round(&mut store, 7);
    assert_eq!(store.store.checkpoint_status().made, 1);
}

/// A checkpoint of a clock that had been years ahead for a moment was as young
/// as could be until then, and all that came after it was kept too.
#[test]
fn class_20_a_clock_that_was_ahead_does_not_keep_checkpoints_for_years() {
    let disk = SimStorage::default();
    let clock = Arc::new(ManualClock::new(TimestampNs(1000 * SECOND)));
    let policy = Checkpoints::manual().keep(1).keep_for(Duration::from_secs(60));
    let options = options(&clock).checkpoints(policy);
    let mut store: Opened<Keyed, SimStorage> = options.open_on(disk.clone(), "/db", |_| Keyed::default()).unwrap();
    let mut kept_at = |seconds, number| {
        clock.set(TimestampNs(seconds * SECOND));
        round(&mut store, number);
        store.store.checkpoint().unwrap();
        let manifest = Manifest::decode(&disk.read_file("/db/MANIFEST".as_ref()).unwrap()).unwrap();
        manifest.checkpoints.len()
    };
    assert_eq!([kept_at(1000, 1), kept_at(1059, 2), kept_at(1060, 3)], [1, 2, 2], "the first is a minute old");
    assert_eq!(kept_at(4_000_000_000, 4), 1);
    assert_eq!(kept_at(4_000_000_001, 5), 2, "one of a second ago is young");
    assert_eq!(kept_at(1070, 6), 1, "and one from the future is not");
    assert_eq!([kept_at(1040, 7), kept_at(1041, 8)], [2, 3], "unless it is near");
}
