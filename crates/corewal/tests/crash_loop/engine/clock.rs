//! The clock of a life: it stands where it is set, or goes on by leaps while it is
//! looked at, so that what takes time in the engine takes some here.

use std::sync::atomic::{AtomicU64, Ordering};

use corewal::{Clock, TimestampNs};

/// Every so many looks it leaps, if it does: fewer than there are at the filling of
/// a segment, more than at the making of one.
const LOOKS: u64 = 7;
const LEAP: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct LifeClock {
    now: AtomicU64,
    /// How often it has been looked at; it stands if there is none.
    looks: Option<AtomicU64>,
}

impl LifeClock {
    pub(crate) fn new(leaps: bool) -> Self {
        Self { now: AtomicU64::new(1_000_000), looks: leaps.then(AtomicU64::default) }
    }

    pub(crate) fn set(&self, now: TimestampNs) {
        self.now.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for LifeClock {
    fn now(&self) -> TimestampNs {
        let looks = self.looks.as_ref().map_or(1, |looks| looks.fetch_add(1, Ordering::Relaxed));
        let leap = if looks.is_multiple_of(LOOKS) { LEAP } else { 0 };
        TimestampNs(self.now.fetch_add(leap, Ordering::Relaxed) + leap)
    }
}
