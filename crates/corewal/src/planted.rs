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
    /// Recovery trusts what it reads at a log's end, though it may stand in the
    /// cache alone.
    TailNotSettled,
    /// A segment is sealed before the next one is there.
    SealBeforeSuccessor,
    /// The newest epoch of any core is taken for complete.
    EpochOfTheFastestCore,
    /// Runs are removed before the manifest that no longer names them is
    /// durable.
    RunsRemovedEarly,
    /// A log's segments are released before the manifest with the checkpoint
    /// that covers them is durable.
    ReleasedBeforeManifest,
    /// A run's content is not synced before the manifest names it.
    RunNotSynced,
    /// Where the number of cores changes, the old logs and runs are removed
    /// before the manifest that no longer names them is durable.
    OldLogsRemovedEarly,
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

    pub(crate) fn tail_not_settled(self) -> bool {
        self.bug == Some(PlantedBug::TailNotSettled)
    }

    pub(crate) fn seal_before_successor(self) -> bool {
        self.bug == Some(PlantedBug::SealBeforeSuccessor)
    }

    pub(crate) fn epoch_of_the_fastest_core(self) -> bool {
        self.bug == Some(PlantedBug::EpochOfTheFastestCore)
    }

    pub(crate) fn runs_removed_early(self) -> bool {
        self.bug == Some(PlantedBug::RunsRemovedEarly)
    }

    pub(crate) fn released_before_manifest(self) -> bool {
        self.bug == Some(PlantedBug::ReleasedBeforeManifest)
    }

    pub(crate) fn run_not_synced(self) -> bool {
        self.bug == Some(PlantedBug::RunNotSynced)
    }

    pub(crate) fn old_logs_removed_early(self) -> bool {
        self.bug == Some(PlantedBug::OldLogsRemovedEarly)
    }
}

#[cfg(not(feature = "planted-bugs"))]
impl Planted {
    pub(crate) const fn sync_acknowledged_early(self) -> bool {
        false
    }

    pub(crate) const fn tail_not_settled(self) -> bool {
        false
    }

    pub(crate) const fn seal_before_successor(self) -> bool {
        false
    }

    pub(crate) const fn epoch_of_the_fastest_core(self) -> bool {
        false
    }

    pub(crate) const fn runs_removed_early(self) -> bool {
        false
    }

    pub(crate) const fn released_before_manifest(self) -> bool {
        false
    }

    pub(crate) const fn run_not_synced(self) -> bool {
        false
    }

    pub(crate) const fn old_logs_removed_early(self) -> bool {
        false
    }
}
