//! The directory that is tortured: only one that is empty or was made for it.
//!
//! ```text
//! DIR/TORTURE    says that all here is torture's own
//! DIR/store      the store
//! DIR/copy       what is damaged in its stead
//! DIR/archive    copies in the form of an archive
//! DIR/restored   a store that was made of them
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::setup::Setup;
use crate::exit::{Exit, Failure};

/// The file that says: all here is torture's own.
const MARK: &str = "TORTURE";
const STORE: &str = "store";
const COPY: &str = "copy";
const ARCHIVE: &str = "archive";
const RESTORED: &str = "restored";
/// Its name after a violation, so that nothing is overwritten that somebody
/// will want to look at.
const KEPT: &str = "TORTURE.violation";

/// The directory, kept from other tortures for as long as this lives.
#[derive(Debug)]
pub(super) struct Ground {
    dir: PathBuf,
    mark: File,
}

impl Ground {
    /// Takes the directory, or makes it.
    pub(super) fn take(dir: &Path) -> Result<Self, Failure> {
        let trouble = |error: io::Error| Failure::from(error).context(format!("can't use {}", dir.display()));
        let path = dir.join(MARK);
        let is_new = match fs::read_dir(dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(dir).map_err(trouble)?;
                true
            }
            Err(error) => return Err(trouble(error)),
        };
        if !is_new && !path.is_file() {
            let dir = dir.display();
            return Err(Failure::usage(if Path::new(&format!("{dir}/{KEPT}")).exists() {
                format!(
                    "{dir} is kept as an earlier torture left it when a promise was broken: use another --dir, or remove it"
                )
            } else {
                format!(
                    "{dir} is not empty and was not made by `torture`, which overwrites what is there: use another --dir"
                )
            }));
        }
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mark = options.create(true).truncate(false).write(true).open(&path).map_err(trouble)?;
        match mark.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Exit::Locked,
                    anyhow::anyhow!("another torture works in {}: use another --dir", dir.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(trouble(error)),
        }
        Ok(Self { dir: dir.to_owned(), mark })
    }

    /// The store.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join(STORE)
    }

    /// What is damaged in its stead.
    pub(super) fn copy(&self) -> PathBuf {
        self.dir.join(COPY)
    }

    /// Where its archive is.
    pub(super) fn archive(&self) -> PathBuf {
        self.dir.join(ARCHIVE)
    }

    /// What is restored of that.
    pub(super) fn restored(&self) -> PathBuf {
        self.dir.join(RESTORED)
    }

    /// Removes what an earlier store has left, and notes what the next one is
    /// for.
    pub(super) fn clear(&mut self, seed: u64, setup: &Setup) -> Result<(), Failure> {
        self.try_clear(seed, setup)
            .map_err(|error| Failure::from(error).context(format!("can't clear {}", self.dir.display())))
    }

    fn try_clear(&mut self, seed: u64, setup: &Setup) -> io::Result<()> {
        for own in [STORE, COPY, ARCHIVE, RESTORED, "restored.partial"] {
            remove(&self.dir.join(own))?;
        }
        self.mark.set_len(0)?;
        io::Seek::rewind(&mut self.mark)?;
        let mark = json!({ "seed": seed, "keys": setup.keys, "value_bytes": setup.value_bytes, "cores": setup.cores });
        self.mark.write_all(format!("{mark}\n").as_bytes())
    }

    /// Keeps everything as it is: no torture takes the directory again.
    pub(super) fn keep(self) -> Result<(), Failure> {
        Ok(fs::rename(self.dir.join(MARK), self.dir.join(KEPT))?)
    }
}

/// Makes a directory that is its owner's alone.
fn make(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_its_own_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        drop(corewal::Options::new().cores(1).open(dir.path()).unwrap());
        let failure = Ground::take(dir.path()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("was not made by `torture`"), "{failure}");
        assert!(dir.path().join("MANIFEST").exists());
    }

    #[test]
    fn its_own_is_cleared_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mut ground = Ground::take(&path).unwrap();
        drop(corewal::Options::new().cores(2).open(ground.store()).unwrap());
        fs::write(path.join("notes"), "mine").unwrap();
        ground.clear(1, &Setup::small(2, 1)).unwrap();
        let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["TORTURE", "notes"]);

        let failure = Ground::take(&path).unwrap_err();
        assert_eq!(failure.exit(), Exit::Locked);
        ground.keep().unwrap();
        let failure = Ground::take(&path).unwrap_err();
        assert!(failure.to_string().contains("kept as an earlier torture left it"), "{failure}");
    }
}
