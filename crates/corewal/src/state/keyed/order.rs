//! Putting keys in order.

/// The first eight bytes of a key, as a number that orders as they do.
pub(crate) fn key_prefix(key: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    let len = key.len().min(8);
    prefix[..len].copy_from_slice(&key[..len]);
    prefix.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// What of a key decides most comparisons, and whose it is.
#[derive(Clone, Copy)]
struct Item {
    prefix: u64,
    len: u32,
    slot: u32,
}

/// Puts slots in the order of their keys, which differ. `step` is told of each
/// comparison, and of each key that is looked at.
///
/// Compared are the first bytes that differ between any keys: those of one kind
/// begin alike, and then each comparison would go to memory.
pub(super) fn sort<'k>(slots: &mut [u32], key: impl Fn(u32) -> &'k [u8], mut step: impl FnMut()) {
    let Some(first) = slots.first().map(|&slot| key(slot)) else { return };
    let mut common = first.len();
    for &slot in slots.iter() {
        step();
        let key = key(slot);
        if !key.starts_with(&first[..common]) {
            common = first.iter().zip(key).take_while(|(a, b)| a == b).count();
        }
    }
    let item = |&slot: &u32| {
        step();
        let key = key(slot);
        Item { prefix: key_prefix(&key[common..]), len: u32::try_from(key.len()).expect("keys are short"), slot }
    };
    let mut items: Vec<_> = slots.iter().map(item).collect();
    // Up to this length a key is told by its prefix and its length.
    let told = u32::try_from(common + size_of::<u64>()).expect("keys are short");
    items.sort_unstable_by(|a, b| {
        step();
        a.prefix.cmp(&b.prefix).then_with(|| match a.len.max(b.len) <= told {
            true => a.len.cmp(&b.len),
            false => key(a.slot).cmp(key(b.slot)),
        })
    });
    for (slot, item) in slots.iter_mut().zip(items) {
        *slot = item.slot;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys that begin alike, are one another's beginning, and reach both
        /// ends of what a prefix can say.
        #[test]
        fn keys_are_put_in_byte_order(
            common in proptest::collection::vec(0_u8..2, 0..12),
            ends in proptest::collection::hash_set(
                proptest::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(0xFF)], 0..11),
                0..60,
            ),
        ) {
            let keys: Vec<_> = ends.into_iter().map(|end| [&common[..], &end].concat()).collect();
            let mut slots: Vec<_> = (0..u32::try_from(keys.len()).unwrap()).collect();
            sort(&mut slots, |slot| &keys[slot as usize], || {});
            let sorted: Vec<_> = slots.iter().map(|&slot| keys[slot as usize].clone()).collect();
            let mut expected = keys;
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }
}
