//! How long a measurement goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether the user wants to leave.
#[derive(Clone, Debug)]
pub(super) struct Stop(pub(super) Arc<AtomicBool>);

impl Stop {
    pub(super) fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Starts a measurement.
    pub(super) fn timer(&self, length: Duration) -> Timer {
        let began = Instant::now();
        Timer { began, until: began + length, stop: self.clone() }
    }
}

/// A measurement under way.
#[derive(Debug)]
pub(super) struct Timer {
    began: Instant,
    until: Instant,
    stop: Stop,
}

impl Timer {
    /// Whether it goes on.
    pub(super) fn running(&self) -> bool {
        !self.stop.asked() && Instant::now() < self.until
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Seconds since it began.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
