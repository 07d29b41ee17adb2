//! A simulated disk as it was at one step.

use std::fmt;

use fastrand::Rng;

use super::crash::{self, CrashKind};
use super::disk::Disk;
use super::{CrashImages, ImageLimits, SimOptions, SimStorage};

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

    /// What a crash at this step can leave, one image after the other, as far
    /// as `limits` goes: the disk with nothing of what was undecided first, that
    /// with all of it second. The same snapshot and limits always give the same
    /// images in the same order.
    ///
    /// ```
    /// use std::path::Path;
    /// use corewal_io::{CrashKind, ImageLimits, OpenMode, SimStorage, Storage};
    ///
    /// let disk = SimStorage::default();
    /// disk.open(Path::new("log"), OpenMode::CreateNew).unwrap();
    /// let images = disk.snapshot().images(CrashKind::Power, &ImageLimits::FULL);
    /// let found: Vec<usize> = images.map(|image| image.disk().files().len()).collect();
    /// assert_eq!(found, [0, 1]);
    /// ```
    #[must_use]
    pub fn images(&self, kind: CrashKind, limits: &ImageLimits) -> CrashImages {
        CrashImages::of(&self.disk, &self.options, kind, limits)
    }

    /// Whether a power cut at this step can leave something else than one at
    /// `other`, a step of the same disk: it can't if all that lies between the
    /// two is, say, that a write completed which was in flight.
    #[must_use]
    pub fn differs_after_power(&self, other: &Self) -> bool {
        !self.disk.same_after_power(&other.disk)
    }
}

/// Prints the step, and not the content of the disk.
impl fmt::Debug for SimSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSnapshot").field("step", &self.step).finish_non_exhaustive()
    }
}
