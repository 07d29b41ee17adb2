//! The promises that the oracle checks, by name: a violation says which it
//! breaks.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// What was said to be durable comes back, and is never said of less.
    Durable,
    /// All records of a commit come back or none, with offsets and watermark.
    Atomic,
    /// All cores come back at the end of the newest epoch that all had ended,
    /// and no epoch is lost that was said to be complete.
    Epochs,
    /// A checkpoint that was made stays, and holds nothing incomplete.
    Checkpoints,
    /// What a crash leaves is cut, and never called damage.
    TornIsNoDamage,
    /// What was cut or rolled back does not come back.
    StaleStaysAway,
    /// Positions, sequences and epochs go on where the log ended: none is given
    /// twice.
    NothingTwice,
    /// Opening recovers what is there, and makes nothing anew over it.
    OneDoor,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable means durable",
            Self::Atomic => "commits are atomic",
            Self::Epochs => "across cores the epoch is the order",
            Self::Checkpoints => "a checkpoint that was made counts",
            Self::TornIsNoDamage => "torn is cut, only damage is refused",
            Self::StaleStaysAway => "stale bytes never come back",
            Self::NothingTwice => "no position, sequence or epoch is given twice",
            Self::OneDoor => "opening is the only door",
        })
    }
}

/// As `ensure!`, for a promise.
macro_rules! promised {
    ($promise:ident, $condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!("broken: {}: {}", $crate::engine::Promise::$promise, format!($($message)+)));
        }
    };
}
pub(crate) use promised;
