//! A simulated disk as it was at one step.

use std::fmt;

use fastrand::Rng;

use super::crash::{self, CrashKind};
use super::disk::Disk;
use super::{SimOptions, SimStorage};

/// A [`SimStorage`] as it was after one of its steps, with what was in flight.
/// Cheap to make, to clone and to keep: it shares all unchanged blocks with
/// the disk and with the other snapshots.
#[derive(Clone)]
pub struct SimSnapshot {
    /// The number of steps the disk had made ([`SimStorage::step`]).
    pub step: u64,
    pub(super) disk: Disk,
    pub(super) options: SimOptions,
}

impl SimSnapshot {
    /// A new disk, independent of the old, as it is found after a crash at
    /// this step. The same `kind` and `seed` always give the same disk; other
    /// seeds give the other things that could have happened.
    ///
    /// The new disk has the options of the old, but for the seed, which is
    /// derived from `seed`; no planted faults, no locks, and its steps count
    /// from 0.
    #[must_use]
    pub fn crash(&self, kind: CrashKind, seed: u64) -> SimStorage {
        let mut rng = Rng::with_seed(seed);
        let lies = self.options.sync_lies;
        let mut disk = match kind {
            CrashKind::Process => crash::process(&self.disk, lies, &mut rng),
            CrashKind::Power => crash::power(&self.disk, lies, &mut rng),
        };
        assert!(disk.in_flight.is_empty());
        disk.step = 0;
        let options = SimOptions { seed: rng.u64(..), ..self.options.clone() };
        SimStorage::with_disk(options, disk)
    }
}

/// Prints the step, and not the content of the disk.
impl fmt::Debug for SimSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSnapshot").field("step", &self.step).finish_non_exhaustive()
    }
}
