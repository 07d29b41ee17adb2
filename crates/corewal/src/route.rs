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

    /// Routes to so many cores, as a store of as many does.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(cores: u16) -> Self {
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
        self.core(XxHash3_64::oneshot(key))
    }

    /// The store and its core that own `key`, where the keys are spread over
    /// `stores` stores of as many cores each: the core is that of
    /// [`Router::route`], the store comes from the low half of the same hash in
    /// the same way.
    ///
    /// ```
    /// let router = corewal::Router::new(4);
    /// let (store, core) = router.route_among(3, b"LAX");
    /// assert!(store < 3);
    /// assert_eq!(core, router.route(b"LAX"));
    /// ```
    ///
    /// # Panics
    /// If there are no stores.
    #[must_use]
    #[inline]
    pub fn route_among(&self, stores: u16, key: &[u8]) -> (u16, CoreId) {
        assert!(stores > 0, "somebody owns each key");
        let hash = XxHash3_64::oneshot(key);
        let store = ((hash & u64::from(u32::MAX)) * u64::from(stores)) >> 32;
        (u16::try_from(store).expect("below the number of stores"), self.core(hash))
    }

    #[inline]
    fn core(self, hash: u64) -> CoreId {
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
    fn keys_spread_over_stores_and_their_cores() {
        let router = Router::new(3);
        let mut counts = [[0_u32; 3]; 2];
        for key in 0..6000_u32 {
            let key = key.to_le_bytes();
            let (store, core) = router.route_among(2, &key);
            assert_eq!(core, router.route(&key));
            counts[usize::from(store)][core.index()] += 1;
        }
        assert!(counts.iter().flatten().all(|&count| (850..1150).contains(&count)), "{counts:?}");
        assert_eq!(router.route_among(1, b"key").0, 0);
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
