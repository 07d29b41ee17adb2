//! Entries: what is changed through them is logged by the commit, of each key
//! the last change. (Crashes at any step: `coordinated`, which uses them too.)

use std::collections::BTreeMap;

use corewal::io::{CrashKind, Fault, FaultKind, OperationKind, SimStorage};
use corewal::{Checkpoints, Commit, Epoch, Error, Keyed, LogId, Opened, Options, Recover};

type Store = Opened<Keyed, SimStorage>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    let small = Options::new().cores(1).buffers(4).buffer_bytes(4096).segment_bytes(65_536);
    small.log_id(LogId([3; 16])).checkpoints(Checkpoints::manual()).recover(Recover::Latest).single_threaded()
}

fn open(options: Options, disk: &SimStorage) -> Store {
    options.open_on(disk.clone(), "/db", |_| Keyed::default()).unwrap()
}

fn state(store: &Store) -> Model {
    store.shards[0].state().iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn put(store: &mut Store, key: &[u8], value: &[u8]) -> corewal::Result<()> {
    store.shards[0].entry(key)?.put(value)
}

#[test]
fn mixed_with_puts_and_deletes_the_last_change_counts() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = SimStorage::default();
        let mut store = open(options(), &disk);
        let (mut model, mut committed) = (Model::new(), Model::new());
        for number in 0..400_u64 {
            let shard = &mut store.shards[0];
            let key = format!("key-{}", random.u8(..40)).into_bytes();
            let value = vec![random.u8(..); random.usize(..200)];
            match random.u8(..12) {
                0 => {
                    shard.commit(&Commit::new().offset_u64("in", number)).unwrap();
                    committed = model.clone();
                }
                1 => shard.delete(&key).map(|()| drop(model.remove(&key))).unwrap(),
                2 | 3 => shard.put(&key, &value).map(|()| drop(model.insert(key, value))).unwrap(),
                4 => {
                    // More than once, with one look.
                    let mut entry = shard.entry(&key).unwrap();
                    entry.delete().unwrap();
                    assert_eq!(entry.get(), None);
                    entry.put(&value).unwrap();
                    entry.put(b"").unwrap();
                    assert_eq!(entry.get(), Some(&b""[..]));
                    model.insert(key, Vec::new());
                }
                5..=7 => shard.entry(&key).unwrap().delete().map(|()| drop(model.remove(&key))).unwrap(),
                _ => {
                    let mut entry = shard.entry(&key).unwrap();
                    assert_eq!(entry.get(), model.get(&key).map(Vec::as_slice));
                    entry.put(&value).unwrap();
                    assert_eq!(entry.get(), Some(value.as_slice()));
                    model.insert(key, value);
                }
            }
            assert_eq!(state(&store), model, "seed {seed}, {number}");
        }
        store.shards[0].sync().unwrap();
        drop(store);
        let crashed = disk.snapshot().crash(CrashKind::Power, seed);
        assert_eq!(state(&open(options(), &crashed)), committed, "seed {seed}");
    }
}

/// Some hundred at a time, with keys that come again within a group, before and
/// behind removals that have the slots of removed keys given back.
#[test]
fn entries_of_several_keys_are_as_one_after_the_other() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = SimStorage::default();
        let mut store = open(options().segment_bytes(1 << 20), &disk);
        let mut model = Model::new();
        for round in 0..30 {
            // In some rounds the state is larger than the caches are taken to be.
            let (keys, value_len) = if seed % 2 == 0 { (40_u16, 8) } else { (3_000, 600) };
            let keys: Vec<_> = (0..random.usize(..700)).map(|_| format!("key-{}", random.u16(..keys))).collect();
            let removes = round % 3 == 2;
            // What is logged at once mixes with what the commit logs.
            for part in keys.chunks(random.usize(1..300)) {
                let entries = store.shards[0].entries(part);
                let mut entries = if random.bool() { entries.write_through() } else { entries };
                for key in part {
                    let mut entry = entries.next_entry().unwrap().unwrap();
                    assert_eq!(entry.get(), model.get(key.as_bytes()).map(Vec::as_slice), "seed {seed}, {round}");
                    if removes || random.u8(..8) == 0 {
                        entry.delete().unwrap();
                        model.remove(key.as_bytes());
                    } else {
                        let value = vec![random.u8(..); random.usize(..value_len)];
                        entry.put(&value).unwrap();
                        model.insert(key.clone().into_bytes(), value);
                    }
                }
                assert!(entries.next_entry().is_none());
            }
            assert_eq!(state(&store), model, "seed {seed}, {round}");
            store.shards[0].commit(&Commit::new()).unwrap();
        }
        store.shards[0].sync().unwrap();
        drop(store);
        assert_eq!(state(&open(options(), &disk)), model, "seed {seed}");
    }
}

#[test]
fn a_key_is_logged_once_a_commit_and_an_open_batch_ends_no_epoch() {
    let disk = SimStorage::default();
    let mut store = open(options(), &disk);
    let before = store.shards[0].log().sequence().0;
    for number in 0..1000_u64 {
        put(&mut store, &[b'k', (number % 10) as u8], &number.to_le_bytes()).unwrap();
    }
    let shard = &mut store.shards[0];
    shard.entry(b"not there").unwrap().delete().unwrap();
    assert_eq!(shard.log().sequence().0, before);
    assert!(shard.log().batch_open());
    assert!(matches!(shard.end_epoch(Epoch(1)), Err(Error::OpenBatch { .. })));
    shard.commit(&Commit::new()).unwrap();
    assert_eq!(shard.log().sequence().0, before + 11);
    shard.end_epoch(Epoch(1)).unwrap();
    // What was logged is not logged again.
    shard.commit(&Commit::new()).unwrap();
    assert_eq!(shard.log().sequence().0, before + 13);
}

#[test]
fn written_through_each_change_is_logged_when_it_is_made() {
    let disk = SimStorage::default();
    let mut store = open(options(), &disk);
    let before = store.shards[0].log().sequence().0;
    put(&mut store, b"a", b"not logged yet").unwrap();
    let shard = &mut store.shards[0];
    let mut entries = shard.entries(&["a", "b", "a", "not there"]).write_through();
    entries.next_entry().unwrap().unwrap().put(b"1").unwrap();
    let mut entry = entries.next_entry().unwrap().unwrap();
    entry.put(b"2").unwrap();
    entry.delete().unwrap();
    assert_eq!(entry.get(), None);
    entries.next_entry().unwrap().unwrap().put(b"3").unwrap();
    entries.next_entry().unwrap().unwrap().delete().unwrap();
    assert_eq!(shard.log().sequence().0, before + 4);
    assert!(shard.log().batch_open());
    // The commit logs what an entry of before has put, as it is by now.
    shard.commit(&Commit::new()).unwrap();
    assert_eq!(shard.log().sequence().0, before + 6);
    shard.sync().unwrap();
    drop(store);
    assert_eq!(state(&open(options(), &disk)), Model::from([(b"a".to_vec(), b"3".to_vec())]));
}

/// Logged ahead of the state: it is the log's at once, and the state's when it is told.
#[test]
fn what_is_logged_ahead_of_the_state_is_there_after_a_crash() {
    let disk = SimStorage::default();
    let mut store = open(options(), &disk);
    let shard = &mut store.shards[0];
    shard.put(b"a", b"1").unwrap();
    shard.put(b"b", b"1").unwrap();
    shard.log_put(b"a", b"2").unwrap();
    shard.log_delete(b"b").unwrap();
    shard.log_put(b"c", b"2").unwrap();
    assert!(shard.log().batch_open());
    shard.commit(&Commit::new()).unwrap();
    shard.log_put(b"d", b"not committed").unwrap();
    shard.sync().unwrap();
    let pairs = |pairs: &[(&[u8], &[u8])]| pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    let (before, after): (Model, Model) = (pairs(&[(b"a", b"1"), (b"b", b"1")]), pairs(&[(b"a", b"2"), (b"c", b"2")]));
    assert_eq!(state(&store), before);
    let crashed = disk.snapshot().crash(CrashKind::Power, 1);
    assert_eq!(state(&open(options(), &crashed)), after);

    let shard = &mut store.shards[0];
    let sequence = shard.log().sequence();
    let mut entries = shard.entries(&["a", "b", "c", "b"]).already_logged();
    for value in [Some(b"2"), None, Some(b"2"), None] {
        let mut entry = entries.next_entry().unwrap().unwrap();
        match value {
            Some(value) => entry.put(value).unwrap(),
            None => entry.delete().unwrap(),
        }
    }
    assert_eq!(shard.log().sequence(), sequence);
    assert_eq!(state(&store), after);
    store.shards[0].commit(&Commit::new()).unwrap();
    store.shards[0].park().unwrap();
    assert!(matches!(store.shards[0].log_put(b"a", b"3"), Err(Error::Parked)));
    assert!(matches!(store.shards[0].log_delete(b"a"), Err(Error::Parked)));
    assert!(matches!(store.shards[0].log_put(&[0; 70_000], b""), Err(Error::Parked | Error::TooLarge { .. })));
    assert_eq!(state(&store), after);
}

#[test]
fn written_through_what_the_log_does_not_take_is_not_changed() {
    let disk = SimStorage::default();
    let mut store = open(options(), &disk);
    disk.inject(Fault { on: OperationKind::Create, skip: 0, kind: FaultKind::Error(28), sticky: true });
    let mut expected = Model::new();
    let error = loop {
        let (key, value) = (vec![b'k', fastrand::u8(..)], vec![fastrand::u8(..); 1000]);
        let keys = [&key];
        let mut entries = store.shards[0].entries(&keys).write_through();
        match entries.next_entry().unwrap().unwrap().put(&value) {
            Ok(()) => drop(expected.insert(key, value)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::OutOfSpace { .. } | Error::Io { .. }), "{error}");
    assert!(!expected.is_empty());
    assert_eq!(state(&store), expected);
    disk.clear_faults();
    store.shards[0].commit(&Commit::new()).unwrap();
    store.shards[0].park().unwrap();
    let keys = ["key"];
    let mut entries = store.shards[0].entries(&keys).write_through();
    assert!(matches!(entries.next_entry().unwrap().unwrap().put(b"value"), Err(Error::Parked)));
    assert_eq!(state(&store), expected);
}

#[test]
fn very_many_keys_do_not_wait_for_the_commit() {
    let disk = SimStorage::default();
    let mut store = open(options().segment_bytes(8 << 20), &disk);
    let before = store.shards[0].log().sequence().0;
    let keys = 40_000_u64;
    for number in 0..keys {
        put(&mut store, &number.to_le_bytes(), b"value").unwrap();
    }
    let logged = store.shards[0].log().sequence().0 - before;
    assert!((keys / 2..keys).contains(&logged), "{logged}");
    store.shards[0].commit(&Commit::new()).unwrap();
    assert_eq!(store.shards[0].log().sequence().0, before + keys + 1);
    store.shards[0].sync().unwrap();
    drop(store);
    assert_eq!(state(&open(options(), &disk)).len() as u64, keys);
}

#[test]
fn a_commit_that_finds_no_space_logs_the_rest_later() {
    let disk = SimStorage::default();
    let mut store = open(options(), &disk);
    let (mut expected, mut committed) = (Model::new(), Model::new());
    disk.inject(Fault { on: OperationKind::Create, skip: 0, kind: FaultKind::Error(28), sticky: true });
    let error = loop {
        for _ in 0..30 {
            let (key, value) = (vec![b'k', fastrand::u8(..)], vec![fastrand::u8(..); 1000]);
            put(&mut store, &key, &value).unwrap();
            expected.insert(key, value);
        }
        match store.shards[0].commit(&Commit::new()) {
            Ok(_) => committed = expected.clone(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::OutOfSpace { .. } | Error::Io { .. }), "{error}");
    assert!(!committed.is_empty() && committed != expected);
    assert_eq!(state(&store), expected);
    assert!(store.shards[0].log().batch_open());
    let crashed = disk.snapshot().crash(CrashKind::Process, 1);
    assert_eq!(state(&open(options(), &crashed)), committed);

    disk.clear_faults();
    // Another change of a key that was logged, and of one that was not.
    for key in expected.keys().cloned().collect::<Vec<_>>() {
        put(&mut store, &key, b"new").unwrap();
        expected.insert(key, b"new".to_vec());
    }
    store.shards[0].commit(&Commit::new()).unwrap();
    store.shards[0].sync().unwrap();
    drop(store);
    assert_eq!(state(&open(options(), &disk)), expected);
}

#[test]
fn what_may_not_be_changed_is_not() {
    let disk = SimStorage::default();
    let mut store = open(options(), &disk);
    put(&mut store, b"key", b"value").unwrap();
    store.shards[0].commit(&Commit::new()).unwrap();
    let long = vec![0; 70_000];
    assert!(matches!(put(&mut store, &long, b""), Err(Error::TooLarge { what: "the key", .. })));
    store.shards[0].park().unwrap();
    assert!(matches!(put(&mut store, b"key", b"other"), Err(Error::Parked)));
    store.shards[0].unpark().unwrap();
    disk.inject(Fault { on: OperationKind::Write, skip: 0, kind: FaultKind::Error(5), sticky: true });
    put(&mut store, b"key", b"other").unwrap();
    store.shards[0].commit(&Commit::new()).unwrap();
    assert!(store.shards[0].sync().unwrap_err().is_latched());
    assert!(matches!(put(&mut store, b"key", b"third"), Err(Error::Latched { .. })));
    assert!(matches!(store.shards[0].entry(b"key").unwrap().delete(), Err(Error::Latched { .. })));
    assert_eq!(store.shards[0].get(b"key"), Some(&b"other"[..]));
    assert!(!store.shards[0].log().batch_open());
}
