//! The ways of writing.

use clap::ValueEnum;
use corewal::io::{Backend, FileStorage};

/// A way of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Io {
    /// Blocking calls, through the page cache
    Buffered,
    /// Blocking calls, past the page cache
    Blocking,
    /// io_uring, past the page cache
    Uring,
}

impl Io {
    pub(crate) const ALL: [Self; 3] = [Self::Buffered, Self::Blocking, Self::Uring];

    /// The backend.
    pub(crate) fn storage(self) -> FileStorage {
        match self {
            Self::Buffered => FileStorage::new().backend(Backend::Blocking).direct(false),
            Self::Blocking => FileStorage::new().backend(Backend::Blocking),
            Self::Uring => FileStorage::new().backend(Backend::Uring),
        }
    }

    /// What it is called, here and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Blocking => "blocking",
            Self::Uring => "uring",
        }
    }
}
