//! The keyed state against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::arena::CHUNK_LEN;
use super::*;

#[derive(Clone, Debug)]
enum Action {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Payload,
    Scan(Vec<u8>),
    /// Goes on with a copy.
    Clone,
}

fn action() -> impl Strategy<Value = Action> {
    let key = || proptest::collection::vec(0_u8..4, 0..4);
    let value = prop_oneof![
        20 => proptest::collection::vec(any::<u8>(), 0..20),
        5 => proptest::collection::vec(any::<u8>(), 0..CHUNK_LEN / 4),
        1 => proptest::collection::vec(any::<u8>(), 0..CHUNK_LEN * 2),
    ];
    prop_oneof![
        12 => (key(), value).prop_map(|(k, v)| Action::Put(k, v)),
        6 => key().prop_map(Action::Delete),
        1 => Just(Action::Payload),
        2 => key().prop_map(Action::Scan),
        1 => Just(Action::Clone),
    ]
}

impl Action {
    fn change(&self) -> Option<Change<'_>> {
        match self {
            Self::Put(key, value) => Some(Change::Put { key, value }),
            Self::Delete(key) => Some(Change::Delete { key }),
            Self::Payload => Some(Change::Payload(b"of no concern")),
            Self::Scan(_) | Self::Clone => None,
        }
    }
}

/// Runs the actions on a state and on a model. `together` are applied at once,
/// if that many changes follow each other.
fn run(actions: &[Action], together: usize) -> std::result::Result<(), TestCaseError> {
    let mut keyed = Keyed::default();
    let mut model = BTreeMap::new();
    let mut rest = actions;
    while let Some(first) = rest.first() {
        let changes: Vec<_> = rest.iter().map_while(Action::change).take(together).collect();
        rest = &rest[changes.len().max(1)..];
        match &changes[..] {
            [change] => keyed.apply(*change),
            changes => keyed.apply_all(changes),
        }
        for change in changes {
            match change {
                Change::Put { key, value } => drop(model.insert(key.to_vec(), value.to_vec())),
                Change::Delete { key } => drop(model.remove(key)),
                Change::Payload(_) => {}
            }
        }
        match first {
            Action::Scan(prefix) => {
                let found: Vec<_> = keyed.scan(prefix).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                let expected = model.iter().filter(|(key, _)| key.starts_with(prefix));
                let expected: Vec<_> = expected.map(|(k, v)| (k.clone(), v.clone())).collect();
                prop_assert_eq!(found, expected);
            }
            Action::Clone => keyed = keyed.clone(),
            _ => {}
        }
        prop_assert_eq!(keyed.len(), model.len());
    }
    for (key, value) in &model {
        prop_assert_eq!(keyed.get(key), Some(value.as_slice()));
    }
    let listed: BTreeMap<_, _> = keyed.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    prop_assert_eq!(listed, model);
    Ok(())
}

proptest! {
    #[test]
    fn behaves_like_an_ordered_map(actions in proptest::collection::vec(action(), 0..300)) {
        run(&actions, 1)?;
    }

    #[test]
    fn changes_applied_together_are_those_applied_one_by_one(
        actions in proptest::collection::vec(action(), 0..300),
        together in 2..GROUP * 3,
    ) {
        run(&actions, together)?;
    }
}

proptest! {
    #[test]
    fn new_keys_put_together_are_those_put_one_by_one(
        before in proptest::collection::vec(action(), 0..30),
        keys in proptest::collection::vec(proptest::collection::vec(0_u8..6, 0..5), 0..300),
        after in proptest::collection::vec(action(), 0..100),
    ) {
        let mut one_by_one = Keyed::default();
        before.iter().filter_map(Action::change).for_each(|change| one_by_one.apply(change));
        let mut together = one_by_one.clone();
        let new: BTreeMap<_, _> = keys.iter().filter(|key| together.get(key).is_none()).zip(0_u64..).collect();
        let values: Vec<_> = new.values().map(|value| value.to_le_bytes()).collect();
        let pairs: Vec<Pair<'_>> = new.keys().zip(&values).map(|(key, value)| (key.as_slice(), &value[..])).collect();
        together.put_new(&pairs);
        pairs.iter().for_each(|&(key, value)| one_by_one.apply(Change::Put { key, value }));
        for change in after.iter().filter_map(Action::change) {
            together.apply(change);
            one_by_one.apply(change);
        }
        prop_assert_eq!(together.len(), one_by_one.len());
        prop_assert!(together.scan(b"").eq(one_by_one.scan(b"")));
        for (key, _) in pairs {
            prop_assert_eq!(together.get(key), one_by_one.get(key));
        }
    }

    #[test]
    fn changes_are_the_last_of_each_key_in_order(
        actions in proptest::collection::vec(action(), 0..300),
        together in 1..GROUP * 3,
    ) {
        let changes: Vec<_> = actions.iter().filter_map(Action::change).collect();
        let (mut keyed, mut model) = (Keyed::of_changes(), BTreeMap::new());
        for some in changes.chunks(together) {
            keyed.apply_all(some);
        }
        for change in changes {
            match change {
                Change::Put { key, value } => drop(model.insert(key.to_vec(), Some(value.to_vec()))),
                Change::Delete { key } => drop(model.insert(key.to_vec(), None)),
                Change::Payload(_) => {}
            }
        }
        prop_assert_eq!(keyed.is_unchanged(), model.is_empty());
        let mut found = Vec::new();
        let visit = |key: &[u8], value: Option<&[u8]>| {
            found.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            Ok::<_, ()>(())
        };
        keyed.for_each_change(|| {}, visit).unwrap();
        prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn removed_keys_give_their_room_back() {
    let mut keyed = Keyed::default();
    for key in 0..10_000_u32 {
        keyed.apply(Change::Put { key: &key.to_le_bytes(), value: b"v" });
    }
    for key in 0..9_000_u32 {
        keyed.apply(Change::Delete { key: &key.to_le_bytes() });
    }
    assert_eq!(keyed.len(), 1_000);
    assert!(keyed.slots.len() < 3_000, "{}", keyed.slots.len());
    assert!(keyed.entries.len() < 3_000 * 16 * 2 + 2 * CHUNK_LEN, "{}", keyed.entries.len());
    assert_eq!(keyed.scan(b"").count(), 1_000);
    assert_eq!(keyed.get(&9_500_u32.to_le_bytes()), Some(&b"v"[..]));
}

#[test]
fn values_that_grow_and_shrink_leave_no_more_garbage_than_there_are_entries() {
    let mut keyed = Keyed::default();
    let keys = 100_u32;
    for round in 0..300_usize {
        // Up to the size of a large entry and beyond, and down again.
        let len = if round < 150 { round * 2 } else { (300 - round) * 2 };
        for key in 0..keys {
            keyed.apply(Change::Put { key: &key.to_le_bytes(), value: &vec![round as u8; len] });
        }
        // An entry has a header and rounds up; a value keeps at most four times
        // its room, and a bit.
        let most = keys as usize * (8 + 8 + 4 * (4 + len) + 128);
        assert!(keyed.entries.len() <= 2 * most + 2 * CHUNK_LEN, "{round}: {}", keyed.entries.len());
    }
    for key in 0..keys {
        assert_eq!(keyed.get(&key.to_le_bytes()), Some(&[43_u8; 2][..]));
    }
}
