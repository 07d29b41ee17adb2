//! `--report`: one file of HTML that needs no other.

mod page;
mod plots;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::results::Results;
use crate::exit::Failure;

/// The file.
#[derive(Debug)]
pub(super) struct Report {
    path: PathBuf,
    file: File,
}

impl Report {
    /// Creates it, empty; one that is there is replaced.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path)
            .map_err(|error| Failure::from(error).context(format!("can't write {}", path.display())))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes it.
    pub(super) fn write(mut self, results: &Results) -> Result<(), Failure> {
        let page = page::page(results)?;
        self.file
            .write_all(page.as_bytes())
            .map_err(|error| Failure::from(error).context(format!("can't write {}", self.path.display())))
    }
}
