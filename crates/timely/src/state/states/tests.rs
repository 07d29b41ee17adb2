use std::cell::RefCell;
use std::collections::BTreeMap;

use corewal::{Commit, Keyed, Options, Reader, Recover};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::state::window::Window;

fn shard() -> (tempfile::TempDir, Shard) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Options::new().cores(1).open(dir.path()).unwrap();
    (dir, opened.shards.remove(0))
}

/// What a record does to the state of its key.
#[derive(Clone, Copy, Debug)]
enum Does {
    Add(u64),
    Remove,
}

/// Some keys come often, and there are more than are kept in memory.
fn record() -> impl Strategy<Value = (u8, Does)> {
    let key = prop_oneof![3 => 0_u8..20, 1 => any::<u8>()];
    (key, prop_oneof![5 => (0_u64..3).prop_map(Does::Add), 1 => Just(Does::Remove)])
}

/// Changes a state, and gives what it is then if it is there.
fn does(what: Does, state: &mut u64) -> Option<u64> {
    match what {
        Does::Add(more) => {
            *state += more;
            Some(*state)
        }
        Does::Remove => None,
    }
}

/// All that the shard has of an operator.
fn stored<S: Stored>(shard: &mut Shard, name: &str) -> BTreeMap<u8, S> {
    let prefix = crate::state::prefix(name);
    let pairs = shard.scan(&prefix);
    pairs.map(|(key, state)| (u8::read(&key[prefix.len()..]).unwrap(), S::read(state).unwrap())).collect()
}

/// All that a start would find of it.
fn logged<S: Stored>(dir: &tempfile::TempDir, shard: &mut Shard, name: &str) -> BTreeMap<u8, S> {
    // Beside the writer a frame shows only what was durable before it.
    for _ in 0..2 {
        shard.sync().unwrap();
        shard.commit(&Commit::new()).unwrap();
    }
    shard.sync().unwrap();
    let views = Reader::open(dir.path()).unwrap().replay(Recover::Latest, |_| Keyed::default()).unwrap();
    let prefix = crate::state::prefix(name);
    let pairs = views[0].state.iter().filter_map(|(key, state)| Some((key.strip_prefix(&*prefix)?, state)));
    pairs.map(|(key, state)| (u8::read(key).unwrap(), S::read(state).unwrap())).collect()
}

#[test]
fn states_are_those_of_a_map_whatever_is_kept_in_memory() {
    let (dir, shard) = shard();
    let (shard, case) = (RefCell::new(shard), RefCell::new(0));
    let epochs = vec((vec(record(), 0..300), any::<bool>()), 1..8);
    proptest!(|(epochs in epochs, kept_max in prop_oneof![Just(AT_ONCE), AT_ONCE..300])| {
        let mut shard = shard.borrow_mut();
        let name = format!("case-{}", case.replace_with(|&mut case| case + 1));
        let mut states = States::<u8, u64>::new(&name, kept_max);
        let mut model = BTreeMap::new();
        for (mut records, starts_again) in epochs {
            let expected: Vec<_> = records
                .iter()
                .map(|&(key, what)| {
                    let now = does(what, model.entry(key).or_default());
                    if now.is_none() {
                        model.remove(&key);
                    }
                    now
                })
                .collect();
            let mut found = Vec::new();
            let fold = |_: &u8, what, state: &mut u64| {
                found.push(does(what, state));
                found.last() == Some(&None)
            };
            states.apply(&mut shard, &mut records, fold).unwrap();
            prop_assert_eq!(found, expected);
            prop_assert!(records.is_empty());
            states.write(&mut shard).unwrap();
            shard.commit(&Commit::new()).unwrap();
            if starts_again {
                states.store(&mut shard).unwrap();
                prop_assert_eq!(&stored(&mut shard, &name), &model);
                states = States::new(&name, kept_max);
            }
        }
        prop_assert_eq!(logged(&dir, &mut shard, &name), model);
    });
}

/// Some are short enough for what the log says of them to be remembered, others are
/// not, and many stay as they were.
#[test]
fn states_of_all_lengths_are_in_the_log_at_once_and_in_the_shard_when_it_is_told() {
    let (dir, shard) = shard();
    let (shard, case) = (RefCell::new(shard), RefCell::new(0));
    let state = prop_oneof![Just(0), 14_usize..19].prop_map(|len| Some(vec![7_u8; len]));
    let record = (0_u8..60, prop_oneof![4 => state, 1 => Just(None)]);
    let epochs = vec((vec(record, 0..80), any::<bool>(), any::<bool>()), 1..10);
    proptest!(|(epochs in epochs, kept_max in prop_oneof![Just(AT_ONCE), Just(300)])| {
        let mut shard = shard.borrow_mut();
        let name = format!("case-{}", case.replace_with(|&mut case| case + 1));
        let mut states = States::<u8, Vec<u8>>::new(&name, kept_max);
        let mut model = BTreeMap::new();
        for (mut records, stores, starts_again) in epochs {
            for (key, state) in &records {
                match state {
                    Some(state) => model.insert(*key, state.clone()),
                    None => model.remove(key),
                };
            }
            let replace = |_: &u8, new: Option<Vec<u8>>, state: &mut Vec<u8>| {
                let removed = new.is_none();
                *state = new.unwrap_or_default();
                removed
            };
            states.apply(&mut shard, &mut records, replace).unwrap();
            states.write(&mut shard).unwrap();
            shard.commit(&Commit::new()).unwrap();
            if stores || starts_again {
                states.store(&mut shard).unwrap();
                prop_assert_eq!(&stored(&mut shard, &name), &model);
            }
            if starts_again {
                states = States::new(&name, kept_max);
            }
        }
        prop_assert_eq!(logged(&dir, &mut shard, &name), model);
    });
}

/// Windows that are over are taken with their last state, those that end first before
/// others, wherever they are; what comes for one afterwards begins anew.
#[test]
fn windows_are_closed_once_whatever_is_kept_in_memory() {
    let (_dir, shard) = shard();
    let (shard, case) = (RefCell::new(shard), RefCell::new(0));
    let record = (-3_i64..4, any::<u8>()).prop_map(|(end, key)| Window { end, key });
    let epochs = vec((vec(record, 0..200), any::<bool>(), -4_i64..4), 1..8);
    proptest!(|(epochs in epochs, kept_max in prop_oneof![Just(AT_ONCE), AT_ONCE..300])| {
        let mut shard = shard.borrow_mut();
        let name = format!("windows-{}", case.replace_with(|&mut case| case + 1));
        let mut states = States::<Window<u8>, u64>::new(&name, kept_max);
        let mut model = BTreeMap::new();
        for (records, starts_again, time) in epochs {
            for window in &records {
                *model.entry(window.clone()).or_insert(0) += 1;
            }
            let mut records = records.into_iter().map(|window| (window, ())).collect();
            let add = |_: &Window<u8>, (), count: &mut u64| {
                *count += 1;
                false
            };
            states.apply(&mut shard, &mut records, add).unwrap();
            states.write(&mut shard).unwrap();
            let mut closed = Vec::new();
            let over = |window: &Window<u8>| window.end <= time;
            states.take_while(&mut shard, over, |window, count| closed.push((window, count))).unwrap();
            shard.commit(&Commit::new()).unwrap();
            let open = model.split_off(&Window { end: time + 1, key: 0 });
            prop_assert_eq!(closed, std::mem::replace(&mut model, open).into_iter().collect::<Vec<_>>());
            prop_assert_eq!(shard.scan(&crate::state::prefix(&name)).count(), model.len());
            if starts_again {
                states = States::new(&name, kept_max);
            }
        }
    });
}

#[test]
fn what_is_no_window_is_named() {
    let (_dir, mut shard) = shard();
    shard.put(b"n/12:00/LAX", &[0; 8]).unwrap();
    let mut states = States::<Window<String>, u64>::new("n", KEPT_MAX);
    let told = states.take_while(&mut shard, |_| true, |_, _| panic!("there is no window")).unwrap_err();
    assert!(matches!(&told, Error::State { name, key, .. } if name == "n" && key == b"12:00/LAX"), "{told:?}");
    assert!(shard.get(b"n/12:00/LAX").is_some());
}

#[test]
fn what_changes_often_is_logged_once_and_what_stays_as_it_was_not_at_all() {
    let (_dir, mut shard) = shard();
    let mut states = States::<String, u64>::new("counts", KEPT_MAX);
    let mut logged = |more: u64| {
        let mut records: Vec<_> = (0..100_000_u64).map(|number| (format!("key {}", number % 500), more)).collect();
        let before = shard.log().sequence();
        let add = |_: &String, more, count: &mut u64| {
            *count += more;
            false
        };
        states.apply(&mut shard, &mut records, add).unwrap();
        states.write(&mut shard).unwrap();
        shard.commit(&Commit::new()).unwrap();
        shard.log().sequence().0 - before.0
    };
    // Each key, and the commit.
    assert_eq!([logged(1), logged(0), logged(1)], [501, 1, 501]);
    assert_eq!(shard.get(b"counts/key 7"), None);
    states.store(&mut shard).unwrap();
    assert_eq!(shard.get(b"counts/key 7"), Some(&400_u64.to_le_bytes()[..]));
}

#[test]
fn nothing_is_in_the_shard_before_it_is_written_unless_room_is_wanted() {
    let (_dir, mut shard) = shard();
    let mut states = States::<u64, u64>::new("n", AT_ONCE);
    let mut apply = |keys: std::ops::Range<u64>| {
        let mut records: Vec<_> = keys.map(|key| (key, ())).collect();
        let keep = |_: &u64, (), state: &mut u64| {
            *state += 1;
            false
        };
        states.apply(&mut shard, &mut records, keep).unwrap();
        shard.scan(b"n/").count()
    };
    assert_eq!(apply(0..32), 0);
    assert_eq!(apply(0..32), 0);
    assert_eq!(apply(32..33), 32);
}

#[test]
fn bytes_that_are_no_state_are_named_in_memory_and_past_it() {
    let (_dir, mut shard) = shard();
    shard.put(b"n/key", b"abc").unwrap();
    for past in [0, 1] {
        let mut states = States::<String, u64>::new("n", KEPT_MAX);
        states.past = past;
        let mut records = vec![("key".to_owned(), ())];
        let told = states.apply(&mut shard, &mut records, |_, (), _| panic!("there is no state")).unwrap_err();
        assert!(matches!(&told, Error::State { name, key, .. } if name == "n" && key == b"key"), "{told:?}");
        assert_eq!(shard.get(b"n/key"), Some(&b"abc"[..]));
    }
}
