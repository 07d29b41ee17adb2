//! What is written: operation `n` follows from the seed, from `n` and from who
//! wrote it, so the guest that writes and the host that checks need not talk.

use std::collections::BTreeMap;

use corewal::io::{Backend, FileStorage};
use corewal::{Checkpoints, Commit, Options};
use serde::{Deserialize, Serialize};

/// The name of the source whose offset says how many operations were done.
pub(crate) const SOURCE: &str = "power";

/// How the store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Way {
    /// By io_uring, past the page cache.
    Uring,
    /// By io_uring, through the page cache.
    UringBuffered,
    /// By blocking calls, past the page cache.
    Blocking,
    /// By blocking calls, through the page cache.
    Buffered,
}

impl Way {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Uring, Self::UringBuffered, Self::Blocking, Self::Buffered];

    /// The backend.
    pub(crate) fn storage(self) -> FileStorage {
        let storage = FileStorage::new();
        match self {
            Self::Uring => storage.backend(Backend::Uring),
            Self::UringBuffered => storage.backend(Backend::Uring).direct(false),
            Self::Blocking => storage.backend(Backend::Blocking),
            Self::Buffered => storage.backend(Backend::Blocking).direct(false),
        }
    }
}

/// One operation: the key gets a value, or is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The key.
    pub(crate) key: Vec<u8>,
    /// Its value, unless it is removed.
    pub(crate) value: Option<Vec<u8>>,
}

/// Keys and their values.
pub(crate) type Values = BTreeMap<Vec<u8>, Vec<u8>>;

#[cfg(test)]
impl Operation {
    /// Does it to a model.
    pub(crate) fn apply(self, values: &mut Values) {
        match self.value {
            Some(value) => values.insert(self.key, value),
            None => values.remove(&self.key),
        };
    }
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Workload {
    /// The seed.
    pub(crate) seed: u64,
}

impl Workload {
    /// Different keys.
    pub(crate) const KEYS: usize = 300;

    /// Operations an epoch.
    pub(crate) fn epoch_length(self) -> u64 {
        8 + self.random(u64::MAX).u64(0..40)
    }

    /// Whether `done` operations are whole epochs.
    pub(crate) fn ends_epoch(self, done: u64) -> bool {
        done.is_multiple_of(self.epoch_length())
    }

    /// Whether every core commits when `done` operations are done.
    pub(crate) fn commits(self, done: u64) -> bool {
        self.ends_epoch(done) || self.random(!done).u8(0..8) == 0
    }

    /// What it commits.
    pub(crate) fn commit(self, done: u64) -> Commit {
        Commit::new().offset_u64(SOURCE, done).watermark(self.watermark(done))
    }

    /// The watermark after `done` operations.
    pub(crate) fn watermark(self, done: u64) -> i64 {
        i64::try_from(5 * done + self.seed % 5).expect("nobody does so many operations")
    }

    /// The operation number `n`, from 0, as the life numbered `life` does it:
    /// which key follows from `n` alone, the value tells them apart.
    pub(crate) fn operation(self, n: u64, life: u64) -> Operation {
        let mut random = self.random(n);
        let key = format!("key-{:04}", random.usize(0..Self::KEYS)).into_bytes();
        if random.u8(0..12) == 0 {
            return Operation { key, value: None };
        }
        // Mostly short; now and then longer than a buffer.
        let length = match random.u16(0..2000) {
            0..=2 => random.usize(0..30_000),
            3..=100 => random.usize(0..3000),
            _ => random.usize(0..200),
        };
        let mut value = format!("{life}.{n}:").into_bytes();
        value.resize(value.len() + length, random.u8(..));
        Operation { key, value: Some(value) }
    }

    fn random(self, n: u64) -> fastrand::Rng {
        let mut outer = fastrand::Rng::with_seed(self.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        outer.fork()
    }
}

/// How the store is opened: small segments and buffers, so that their ends are
/// met often, and many checkpoints.
pub(crate) fn options(cores: u16) -> Options {
    let checkpoints = Checkpoints::default().bytes(256 << 10).keep(2);
    Options::new().cores(cores).segment_bytes(128 << 10).buffer_bytes(16 << 10).checkpoints(checkpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_the_same_each_time_and_tells_who_did_it() {
        let workload = Workload { seed: 5 };
        let mut removed = 0;
        for n in 0..3000 {
            let operation = workload.operation(n, 1);
            assert_eq!(operation, workload.operation(n, 1));
            let other = workload.operation(n, 2);
            assert_eq!(operation.key, other.key);
            removed += u32::from(operation.value.is_none());
            assert!(operation.value.is_none() || operation.value != other.value);
        }
        assert!((100..500).contains(&removed), "{removed}");
        let committed = (1..3000).filter(|done| workload.commits(*done)).count();
        assert!((300..800).contains(&committed), "{committed}");
    }
}
