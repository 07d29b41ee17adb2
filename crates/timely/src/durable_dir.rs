//! Names in directories that are to survive.

use std::fs::OpenOptions;
use std::path::Path;

use crate::error::{Error, Result};

/// Makes the names in a directory durable; see fsync(2).
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let synced = OpenOptions::new().read(true).open(dir).and_then(|file| file.sync_all());
    synced.map_err(Error::io("sync", dir))
}
