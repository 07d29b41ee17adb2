//! What is written: operation `n` follows from the seed and `n` alone, so the
//! process that writes and the oracle that checks need not talk.

use corewal::Commit;

/// The name of the source whose offset says how many operations were done.
pub(super) const SOURCE: &str = "torture";

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation<'b> {
    /// The key gets this value.
    Put(&'b [u8], &'b [u8]),
    /// The key is removed.
    Delete(&'b [u8]),
}

impl Operation<'_> {
    /// The key.
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// Room for one operation.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    /// The seed.
    pub(super) seed: u64,
    /// How many keys there are.
    pub(super) keys: u64,
    /// The longest value.
    pub(super) value_bytes: usize,
}

impl Workload {
    pub(super) fn new(seed: u64, keys: u64, value_bytes: u32) -> Self {
        Self { seed, keys, value_bytes: value_bytes as usize }
    }

    /// Operations an epoch. Another number for another seed, to meet frames
    /// and segments at other places.
    pub(super) fn epoch_length(self) -> u64 {
        1 + mix(self.seed, u64::MAX) % 200
    }

    /// The operation number `n`, from 0.
    pub(super) fn operation(self, n: u64, scratch: &mut Scratch) -> Operation<'_> {
        let mut random = fastrand::Rng::with_seed(mix(self.seed, n));
        let Scratch { key, value } = scratch;
        key.clear();
        key.extend_from_slice(format!("key-{:06}", random.u64(0..self.keys)).as_bytes());
        if random.u8(0..10) == 0 {
            return Operation::Delete(key);
        }
        // Mostly short; now and then longer than a buffer.
        let length = match random.u16(0..1000) {
            0 => random.usize(0..self.value_bytes),
            1..=50 => random.usize(0..self.value_bytes / 10),
            _ => random.usize(0..self.value_bytes / 400),
        };
        value.clear();
        value.extend_from_slice(format!("{n}:").as_bytes());
        value.resize((value.len() + length).min(self.value_bytes), random.u8(..));
        Operation::Put(key, value)
    }

    /// What is committed after `n` operations.
    pub(super) fn commit(self, n: u64) -> Commit {
        Commit::new().offset_u64(SOURCE, n).watermark(self.watermark(n))
    }

    /// The watermark after `n` operations.
    pub(super) fn watermark(self, n: u64) -> i64 {
        i64::try_from(3 * n + self.seed % 3).expect("nobody does so many operations")
    }
}

/// SplitMix64's finalizer over both: neighbours have nothing in common.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_follows_from_seed_and_number_alone() {
        let workload = Workload { seed: 7, keys: 100, value_bytes: 40_000 };
        let (mut one, mut other) = (Scratch::default(), Scratch::default());
        let (mut deletes, mut large) = (0, 0);
        for n in 0..5000 {
            let operation = workload.operation(n, &mut one);
            other.value.resize(99, 1);
            assert_eq!(operation, workload.operation(n, &mut other));
            match operation {
                Operation::Delete(_) => deletes += 1,
                Operation::Put(_, value) => large += u32::from(value.len() > 1000),
            }
        }
        assert!((300..700).contains(&deletes) && large > 50, "{deletes} {large}");
        let first = |seed| {
            Workload { seed, keys: 100, value_bytes: 40_000 }.operation(0, &mut Scratch::default()).key().to_vec()
        };
        assert!((0..20).any(|seed| first(seed) != first(seed + 1)));
    }
}
