//! Planted bugs: known faults that a test switches on to see that the crash
//! loop finds them. Without the feature `planted-bugs` there is nothing here
//! but constants.

/// A fault that a test can plant in the engine.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlantedBug {
    /// The durable position moves when a sync is submitted instead of when it
    /// completes.
    SyncAcknowledgedEarly,
    /// Recovery appends behind a torn tail without cutting it.
    TornTailKept,
    /// The newest epoch of any core is taken for complete.
    EpochOfTheFastestCore,
}

/// Which fault is planted, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) bug: Option<PlantedBug>,
}

#[cfg(feature = "planted-bugs")]
impl Planted {
    pub(crate) fn sync_acknowledged_early(self) -> bool {
        self.bug == Some(PlantedBug::SyncAcknowledgedEarly)
    }

    pub(crate) fn torn_tail_kept(self) -> bool {
        self.bug == Some(PlantedBug::TornTailKept)
    }

    pub(crate) fn epoch_of_the_fastest_core(self) -> bool {
        self.bug == Some(PlantedBug::EpochOfTheFastestCore)
    }
}

#[cfg(not(feature = "planted-bugs"))]
impl Planted {
    pub(crate) const fn sync_acknowledged_early(self) -> bool {
        false
    }

    pub(crate) const fn torn_tail_kept(self) -> bool {
        false
    }

    pub(crate) const fn epoch_of_the_fastest_core(self) -> bool {
        false
    }
}
