//! How long and how much.

use std::time::Duration;

/// The sizes of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// A cell that goes by time.
    pub(super) cell: Duration,
    /// A limit that goes by time.
    pub(super) limit: Duration,
    /// Bytes of the files that are written over, at least.
    pub(super) span: u64,
    /// Records of a log that is read or opened.
    pub(super) records: u64,
    /// Keys, where there are few.
    pub(super) keys: u64,
    /// Whether logs are brought to a steady state first.
    pub(super) warm: bool,
}

impl Sizes {
    /// Long enough to be quoted.
    pub(super) fn full() -> Self {
        Self {
            cell: Duration::from_millis(500),
            limit: Duration::from_millis(200),
            span: 64 << 20,
            records: 2_000_000,
            keys: 100_000,
            warm: true,
        }
    }

    /// To see that everything works.
    pub(super) fn quick() -> Self {
        Self {
            cell: Duration::from_millis(60),
            limit: Duration::from_millis(40),
            span: 8 << 20,
            records: 50_000,
            keys: 2_000,
            warm: false,
        }
    }
}
