//! Planted bugs: known faults that a test switches on to see that the tests
//! find them. Without the feature `planted-bugs` nobody can name one, and every
//! question for one is a constant `false`.
//!
//! To add one: a variant here, the fault at the place where a program could
//! have it, and a line in `tests/canary/main.rs` that says what finds it.

#[cfg(feature = "planted-bugs")]
use std::sync::LazyLock;

macro_rules! bugs {
    ($($(#[$doc:meta])+ $bug:ident,)+) => {
        /// A fault that a test can plant in the engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[cfg_attr(
            not(feature = "planted-bugs"),
            allow(unreachable_pub, dead_code, reason = "named outside with the feature alone")
        )]
        pub enum PlantedBug {
            $($(#[$doc])+ $bug,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl PlantedBug {
            /// Every fault that can be planted.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];
        }
    };
}

bugs! {
    // Writing.
    /// The durable position moves when a sync is submitted instead of when it
    /// completes.
    SyncAcknowledgedEarly,
    /// A sync is taken to cover what was written while it was under way.
    SyncCoversLaterWrites,
    /// A sync that failed is tried again, and believed.
    SyncRetriedAfterFailure,
    /// The result of a completed write is not looked at.
    WriteResultIgnored,
    /// The result of a completed sync is not looked at.
    SyncResultIgnored,
    /// A short write is taken for a whole one.
    ShortWriteIgnored,
    /// Two operations in flight can have the same token.
    TokenCollision,
    /// After a failure the writer goes on.
    LatchIgnored,
    /// Waits for a commit end once it is written.
    TicketsGrantedEarly,
    /// What is left in a buffer of its earlier use goes to the medium behind a
    /// frame.
    PaddingNotZeroed,
    /// The checksums of frames do not depend on their length. (Planted in the
    /// format, by the environment alone.)
    ChecksumWithoutLength,
    /// The checksums of frames do not depend on the segment.
    ChecksumWithoutIdentity,
    /// Timestamps go back with the clock, and recovery takes the newest for the
    /// last.
    OrderByClock,

    // Segments.
    /// A segment is sealed before the next one is there.
    SealBeforeSuccessor,
    /// The header of the next segment is not synced.
    SuccessorHeaderNotSynced,
    /// The name of the next segment is not synced.
    SuccessorNameNotSynced,
    /// A released file gets its new name before its new header.
    RecycledNamedBeforeHeader,
    /// A released file is written to while its old name may come back.
    SpareNameNotSynced,
    /// Segments go before the record of their release is durable.
    ReleasedBeforeRecord,
    /// No directory is ever synced.
    DirectorySyncSkipped,

    // Opening.
    /// Who has the store open keeps nobody out.
    LockNotTaken,
    /// Recovery trusts what it reads at a log's end, though it may stand in the
    /// cache alone.
    TailNotSettled,
    /// Recovery builds on a manifest that may stand in the cache alone.
    ManifestNotSettled,
    /// What lies behind the end of a log stays there.
    TornTailNotCut,
    /// The log goes on behind the remains of a torn write.
    AppendedBehindTornTail,
    /// An opening has the number of the one before it, and leaves what that one
    /// left.
    OpeningNumberNotRaised,
    /// A zeroed block is taken for a frame without records.
    ZeroFrameAccepted,
    /// Damage is taken for a torn write, whatever frames say was durable.
    ProofsIgnored,
    /// What logs say of each other is not looked at.
    ClaimsIgnored,
    /// The newest epoch of any core is taken for complete.
    EpochOfTheFastestCore,
    /// The end of an epoch is reported before it is durable.
    EpochReportedEarly,
    /// One core's log is not replayed.
    OneLogDropped,
    /// Records count without the commit behind them.
    CommitsIgnored,
    /// No record says what an opening took back.
    RollbackNotWritten,
    /// What an opening took back is written over.
    LsnReused,
    /// The records that an opening took back have never had their sequences.
    SequenceReused,

    // Checkpoints.
    /// Runs are removed before the manifest that no longer names them is
    /// durable.
    RunsRemovedEarly,
    /// A log's segments are released before the manifest with the checkpoint
    /// that covers them is durable.
    ReleasedBeforeManifest,
    /// A run's content is not synced before the manifest names it.
    RunNotSynced,
    /// The short part of a run's short write is not written.
    RunShortWriteIgnored,
    /// The manifest is renamed before its content is durable.
    ManifestNotSynced,
    /// The name of a new manifest is not synced.
    ManifestRenameNotSynced,
    /// A run is not held against what the manifest says of it.
    RunNotHeldAgainstManifest,
    /// A checkpoint holds what came after its epoch.
    CheckpointBeyondItsEpoch,
    /// A checkpoint holds what a rollback took back.
    CheckpointOfDeadRecords,
    /// Merging changes forgets what was removed.
    RemovalsForgotten,

    // Another number of cores.
    /// Where the number of cores changes, the old logs and runs are removed
    /// before the manifest that no longer names them is durable.
    OldLogsRemovedEarly,
    /// Where the number of cores changes, one core's offsets are lost.
    OneCoresOffsetsLost,
    /// Where the number of cores changes, keys go to other cores than those
    /// that will look for them.
    RoutedOtherwise,
    /// Where the number of cores changes, the positions of the logs begin again.
    PositionsBeginAgain,
}

/// Which fault is planted, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

#[cfg(feature = "planted-bugs")]
impl Planted {
    /// What a test plants in this process: the name of a bug in `COREWAL_PLANT`.
    pub(crate) fn by_environment() -> Self {
        static PLANTED: LazyLock<Option<PlantedBug>> = LazyLock::new(|| {
            let name = std::env::var("COREWAL_PLANT").ok()?;
            let named = PlantedBug::ALL.iter().find(|bug| format!("{bug:?}") == name);
            Some(*named.unwrap_or_else(|| panic!("no bug is called {name}")))
        });
        Self { bug: *PLANTED }
    }

    pub(crate) fn with(bug: PlantedBug) -> Self {
        Self { bug: Some(bug) }
    }

    pub(crate) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }
}

#[cfg(not(feature = "planted-bugs"))]
impl Planted {
    pub(crate) const fn by_environment() -> Self {
        Self {}
    }

    pub(crate) const fn has(self, _: PlantedBug) -> bool {
        false
    }
}
