//! `--io`: how the logs are written.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use corewal::io::{Backend, FileStorage, OpenMode, Storage as _, WritePath};
use serde_json::{Value, json};

/// The choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Io {
    /// The best that the machine has
    Auto,
    /// io_uring, past the page cache
    Uring,
    /// Blocking calls, past the page cache
    Blocking,
    /// Blocking calls, through the page cache
    Buffered,
}

impl Io {
    /// The backend.
    pub(crate) fn storage(self) -> FileStorage {
        let storage = FileStorage::new();
        match self {
            Self::Auto => storage,
            Self::Uring => storage.backend(Backend::Uring),
            Self::Blocking => storage.backend(Backend::Blocking),
            Self::Buffered => storage.backend(Backend::Blocking).direct(false),
        }
    }

    /// The backend, if files in `dir` can be written this way and no other;
    /// otherwise the reason.
    pub(crate) fn exactly(self, dir: &Path) -> Result<(FileStorage, WritePath), String> {
        let storage = self.storage();
        let path = dir.join("probe");
        let file = storage.open(&path, OpenMode::CreateNew).map_err(|error| error.to_string())?;
        let found = storage.write_path(&file);
        storage.remove(&path).map_err(|error| error.to_string())?;
        let as_asked = match self {
            Self::Auto => true,
            Self::Uring => found.backend == "io_uring" && found.direct,
            Self::Blocking => found.backend == "blocking" && found.direct,
            Self::Buffered => found.backend == "blocking" && !found.direct,
        };
        if as_asked { Ok((storage, found)) } else { Err(found.instead.clone().unwrap_or_else(|| found.to_string())) }
    }
}

/// A write path for programs.
pub(crate) fn json(path: &WritePath) -> Value {
    json!({ "backend": path.backend, "direct": path.direct, "instead": path.instead })
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Blocking => "blocking",
            Self::Buffered => "buffered",
        })
    }
}
