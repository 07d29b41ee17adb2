//! Bugs that are planted in corewal.

use clap::ValueEnum;
use corewal::{Options, PlantedBug};

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// The durable position moves when a sync is submitted
    Early,
    /// What the cache shows of a log's tail is believed
    Tail,
}

impl Plant {
    /// What it is called on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Tail => "tail",
        }
    }
}

/// The options with the bug planted, if there is one.
pub(super) fn planted(options: Options, plant: Option<Plant>) -> Options {
    match plant {
        None => options,
        Some(Plant::Early) => options.plant(PlantedBug::SyncAcknowledgedEarly),
        Some(Plant::Tail) => options.plant(PlantedBug::TailNotSettled),
    }
}
