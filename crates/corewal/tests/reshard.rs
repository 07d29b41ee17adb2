//! Another number of cores: nothing is lost, and a crash in the middle leaves
//! the old number or the new one.
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "tests")]

use std::collections::BTreeMap;

use corewal::io::{CrashKind, SimStorage};
use corewal::{Checkpoints, Commit, Error, Keyed, LogId, Opened, Options, Reader, reshard_on, verify_on};

const DIR: &str = "/db";

fn options() -> Options {
    let small = Options::new().buffers(4).buffer_bytes(4096).segment_bytes(16_384);
    small.log_id(LogId([5; 16])).checkpoints(Checkpoints::manual()).single_threaded()
}

type Store = Opened<Keyed, SimStorage>;

fn open(disk: &SimStorage, cores: Option<u16>) -> Store {
    let options = cores.map_or(options(), |cores| options().cores(cores));
    options.open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap()
}

/// Keys with values, and what every core says of offset and watermark.
type Data = (BTreeMap<Vec<u8>, Vec<u8>>, Option<u64>, Option<i64>);

fn data(store: &Store) -> Data {
    for shard in &store.shards {
        let at_home = |(key, _): (&[u8], &[u8])| store.store.route(key) == shard.core();
        assert!(shard.state().iter().all(at_home), "every key is with the core that owns it");
        assert_eq!(shard.offset_u64("in"), store.shards[0].offset_u64("in"));
    }
    let keys = store.shards.iter().flat_map(|shard| shard.state().iter());
    let keys = keys.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    (keys, store.shards[0].offset_u64("in"), store.shards[0].watermark())
}

fn round(store: &mut Store, number: u64) {
    for key in 0..15_u64 {
        let name = format!("key-{}", (number * 7 + key) % 50);
        let core = store.store.route(name.as_bytes());
        let shard = &mut store.shards[core.index()];
        if (number + key).is_multiple_of(6) {
            shard.delete(name.as_bytes()).unwrap();
        } else {
            shard.put(name.as_bytes(), format!("{number}.{key}").as_bytes()).unwrap();
        }
    }
    for shard in &mut store.shards {
        shard.commit(&Commit::new().offset_u64("in", number).watermark(number as i64)).unwrap();
    }
    store.store.announce_epoch();
    for shard in &mut store.shards {
        shard.sync().unwrap();
    }
}

#[test]
fn the_state_goes_through_many_numbers_of_cores() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    let mut number = 0;
    let mut positions = Vec::new();
    for cores in [4, 1, 3, 3, 8, 2] {
        for _ in 0..5 {
            number += 1;
            round(&mut store, number);
        }
        if number % 2 == 0 {
            store.store.checkpoint().unwrap().unwrap();
        }
        let expected = data(&store);
        let epoch = store.store.complete_epoch();
        drop(store);
        let before = Reader::open_on(disk.clone(), DIR).unwrap().info().unwrap().cores;
        let resharded = reshard_on(disk.clone(), DIR, cores, options()).unwrap();
        assert_eq!((resharded.from as usize, resharded.to), (before.len(), cores));
        assert!(resharded.epoch > epoch, "epochs go on");
        store = open(&disk, None);
        assert_eq!((store.store.cores(), data(&store)), (cores, expected));
        // No position is given to other bytes.
        if usize::from(cores) != before.len() {
            let begin = store.shards.iter().map(|shard| shard.log().durable_lsn()).min().unwrap();
            assert!(before.iter().all(|core| core.appended_lsn <= begin), "{before:?} {begin}");
            positions.push(begin);
        }
        assert_eq!(verify_on(disk.clone(), DIR).unwrap().findings, []);
    }
    assert!(positions.is_sorted());
    round(&mut store, 100);
    let expected = data(&store);
    drop(store);
    assert_eq!(data(&open(&disk, Some(2))), expected);
}

#[test]
fn after_a_crash_at_any_step_it_is_the_old_number_or_the_new_one() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    for number in 1..=6 {
        round(&mut store, number);
    }
    store.store.checkpoint().unwrap();
    round(&mut store, 7);
    let expected = data(&store);
    drop(store);
    disk.record_snapshots(true);
    reshard_on(disk.clone(), DIR, 3, options()).unwrap();
    let snapshots = disk.take_snapshots();
    disk.record_snapshots(false);
    let (mut old, mut new) = (0, 0);
    for (step, snapshot) in snapshots.iter().enumerate() {
        for seed in 0..3 {
            let crashed = snapshot.crash(if seed == 0 { CrashKind::Process } else { CrashKind::Power }, seed);
            let mut opened = open(&crashed, None);
            assert_eq!(data(&opened), expected, "step {step}, seed {seed}");
            *if opened.store.cores() == 2 { &mut old } else { &mut new } += 1;
            round(&mut opened, 8);
            let expected = data(&opened);
            drop(opened);
            // Asked for again, also over the remains of the first try.
            let crashed = crashed.snapshot().crash(CrashKind::Power, seed);
            reshard_on(crashed.clone(), DIR, 3, options()).unwrap();
            assert_eq!(data(&open(&crashed, Some(3))), expected, "step {step}, seed {seed}, again");
        }
    }
    assert!(old > 50 && new > 5, "{old} old, {new} new");
}

#[test]
fn opening_with_another_number_refuses_or_reshards_as_asked() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    round(&mut store, 1);
    let expected = data(&store);
    drop(store);
    let refused = options().cores(5).open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap_err();
    assert!(matches!(refused, Error::CoreCount { store: 2, asked: 5 }));
    let opened = options().cores(5).reshard(true).open_on(disk, DIR, |_| Keyed::default()).unwrap();
    assert_eq!((opened.store.cores(), data(&opened)), (5, expected));
}

#[test]
fn what_cannot_be_moved_is_refused_and_left_as_it_is() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    for (offset, shard) in store.shards.iter_mut().enumerate() {
        shard.commit(&Commit::new().offset_u64("in", offset as u64)).unwrap();
    }
    drop(store);
    // Nothing was durable, so there is nothing to differ.
    reshard_on(disk.clone(), DIR, 3, options()).unwrap();
    let mut store = open(&disk, Some(3));
    for (offset, shard) in store.shards.iter_mut().enumerate() {
        shard.commit(&Commit::new().offset_u64("in", offset as u64)).unwrap();
    }
    store.store.announce_epoch();
    store.shards.iter_mut().for_each(|shard| assert!(shard.sync().is_ok()));
    drop(store);
    let error = reshard_on(disk.clone(), DIR, 2, options()).unwrap_err();
    assert!(matches!(&error, Error::OffsetsDiffer { source } if source == "in"), "{error}");
    let store = open(&disk, Some(3));
    assert_eq!(
        store.shards.iter().map(|shard| shard.offset_u64("in")).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
    assert!(matches!(reshard_on(disk.clone(), DIR, 0, options()), Err(Error::BadOption { .. })));
    assert!(reshard_on(disk, DIR, 2, options()).unwrap_err().is_locked());
}
