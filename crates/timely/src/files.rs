//! A sink that makes a file of each batch.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::sink::{Batch, Sink};
use crate::source::BoxError;

/// Writes each batch into a file of its own: `<sink>-<epoch>-<worker>`, a row a
/// line. A file that has its name is whole and stays as it is: it is written
/// under another one, which begins with a dot, and renamed. (A process that is
/// killed may leave one of those.) Given again, a batch makes the same file.
///
/// In the order of their names the files of a worker are in the order of epochs.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Files in `dir`, which is made if it is not there.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn write(&self, batch: Batch<'_>) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let name = format!("{}-{:020}-{:05}", batch.sink, batch.epoch, batch.worker);
        let draft = self.dir.join(format!(".{name}.{}", std::process::id()));
        let mut file = BufWriter::new(File::create(&draft)?);
        for row in batch.rows {
            file.write_all(row)?;
            file.write_all(b"\n")?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
        fs::rename(&draft, self.dir.join(&name))?;
        sync(&self.dir)
    }
}

impl Sink for Files {
    fn publish(&mut self, batch: Batch<'_>) -> Result<(), BoxError> {
        self.write(batch).map_err(|error| format!("{}: {error}", self.dir.display()).into())
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
