//! The kinds of faults that are made.

use std::fmt;

use clap::ValueEnum;

/// What is done to the store or to those who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL at a random moment
    Kill,
    /// SIGKILL while it opens
    Opening,
    /// SIGSTOP, others come by, SIGCONT, SIGKILL
    Stop,
    /// Files may not grow any more
    Limit,
    /// Too little space for the log
    Budget,
    /// `checkpoint` killed
    Checkpoint,
    /// `reshard` killed
    Reshard,
    /// A copy damaged
    Damage,
    /// A copy damaged, and `repair` killed
    Repair,
    /// `archive push` beside the writer, and restored
    Archive,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Kill,
        Self::Opening,
        Self::Stop,
        Self::Limit,
        Self::Budget,
        Self::Checkpoint,
        Self::Reshard,
        Self::Damage,
        Self::Repair,
        Self::Archive,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Opening => "opening",
            Self::Stop => "stop",
            Self::Limit => "limit",
            Self::Budget => "budget",
            Self::Checkpoint => "checkpoint",
            Self::Reshard => "reshard",
            Self::Damage => "damage",
            Self::Repair => "repair",
            Self::Archive => "archive",
        }
    }

    /// Whether a write may fail under it, so that the process ends by itself.
    pub(super) fn may_end_the_writer(self) -> bool {
        matches!(self, Self::Limit | Self::Budget)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_as_it_is_asked_for() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_str(fault.name(), false), Ok(fault));
        }
        assert_eq!(Fault::ALL.len(), Fault::value_variants().len());
    }
}
