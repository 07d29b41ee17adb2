//! Which core owns a key.

use corewal_format::CoreId;
use twox_hash::XxHash3_64;

/// Routes keys to cores by a stable hash, whose name stands in the manifest:
/// the same key goes to the same core in every process, on every platform and
/// after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    cores: u16,
}

impl Router {
    /// Name of the hash, as the manifest records it.
    pub(crate) const NAME: &'static str = "xxh3-64";

    pub(crate) fn new(cores: u16) -> Self {
        assert!(cores > 0, "a store has at least one core");
        Self { cores }
    }

    /// The number of cores.
    #[must_use]
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// The core that owns `key`: the high part of XXH3-64 of the key, seed 0,
    /// times the number of cores (Lemire, "Fast Random Integer Generation in an
    /// Interval", 2019, section 3, without rejection).
    #[must_use]
    #[inline]
    pub fn route(&self, key: &[u8]) -> CoreId {
        if self.cores == 1 {
            return CoreId(0);
        }
        let hash = XxHash3_64::oneshot(key);
        let core = (u128::from(hash) * u128::from(self.cores)) >> 64;
        CoreId(u16::try_from(core).expect("below the number of cores"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routes_of_these_keys_never_change() {
        let routes = |cores| -> Vec<u16> {
            let router = Router::new(cores);
            ["", "a", "b", "JFK", "LAX", "corewal"].iter().map(|key| router.route(key.as_bytes()).0).collect()
        };
        assert_eq!(routes(1), [0; 6]);
        assert_eq!(routes(2), [0, 1, 0, 0, 1, 1]);
        assert_eq!(routes(1024).len(), 6);
    }

    #[test]
    fn keys_spread_evenly() {
        let router = Router::new(4);
        let mut counts = [0_u32; 4];
        for key in 0..40_000_u32 {
            counts[router.route(&key.to_le_bytes()).index()] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
