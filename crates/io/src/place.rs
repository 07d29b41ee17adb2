//! Places in a backend's table of registered memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which of the 64 places of one table are free, a bit each.
///
/// Memory may be freed on any thread, so giving back is atomic. The kernel
/// keeps what stood in the place until the next taker replaces it; nobody
/// names the place meanwhile.
#[derive(Debug)]
pub(crate) struct Places {
    free: AtomicU64,
}

/// One place, taken. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    index: u16,
    of: Arc<Places>,
}

impl Places {
    /// How many there are.
    pub(crate) const COUNT: u32 = u64::BITS;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { free: AtomicU64::new(u64::MAX) })
    }

    /// Takes a free place, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| {
            // Clears the lowest bit that is set; none set, none taken.
            (free != 0).then(|| free & (free - 1))
        });
        let index = taken.ok()?.trailing_zeros();
        Some(Place { index: u16::try_from(index).expect("64 places"), of: Arc::clone(self) })
    }
}

impl Place {
    /// Its number, if it is a place of that table.
    pub(crate) fn index_in(&self, places: &Arc<Places>) -> Option<u16> {
        Arc::ptr_eq(&self.of, places).then_some(self.index)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let bit = 1 << self.index;
        let before = self.of.free.fetch_or(bit, Ordering::AcqRel);
        assert_eq!(before & bit, 0, "a place is given back once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_once_and_come_back() {
        let places = Places::new();
        let mut taken: Vec<_> = (0..Places::COUNT).map(|_| places.take().unwrap()).collect();
        let mut numbers: Vec<_> = taken.iter().map(|place| place.index_in(&places).unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Places::COUNT as usize);
        assert!(places.take().is_none(), "none is left");
        let back = taken.swap_remove(17).index_in(&places);
        assert_eq!(places.take().unwrap().index_in(&places), back);
        assert_eq!(taken[0].index_in(&Places::new()), None, "another table's");
    }
}
