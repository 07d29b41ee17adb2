//! Where the measured stores are made: a fresh directory, removed at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corewal::format::name;
use tempfile::TempDir;

use crate::args::DEFAULT_DIR;
use crate::exit::Failure;

/// The directory. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub(super) struct Ground {
    dir: TempDir,
    made: u64,
}

impl Ground {
    /// Makes one in `dir`, which must not be a store itself; in the current
    /// directory if `dir` is the default.
    pub(super) fn take(dir: &Path) -> Result<Self, Failure> {
        let parent = if dir == Path::new(DEFAULT_DIR) { Path::new(".") } else { dir };
        if [name::MANIFEST, name::MANIFEST_NEW, name::LOCK].iter().any(|name| parent.join(name).exists()) {
            return Err(Failure::usage(format!(
                "{} is a store, which `bench` does not touch: give a directory beside it with --dir",
                parent.display()
            )));
        }
        if !parent.is_dir() {
            return Err(Failure::usage(format!(
                "{} is not a directory: `bench` puts its temporary stores into one that is there, give it with --dir",
                parent.display()
            )));
        }
        let made = tempfile::Builder::new().prefix("corewal-bench-").tempdir_in(parent);
        match made {
            Ok(dir) => Ok(Self { dir, made: 0 }),
            Err(error) => Err(Failure::from(error).context(format!("can't make a directory in {}", parent.display()))),
        }
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a store that is not there yet.
    pub(super) fn fresh(&mut self) -> PathBuf {
        self.made += 1;
        self.dir.path().join(format!("store-{}", self.made))
    }

    /// Removes what a measurement left, durably, so that the file system is
    /// done with it before the next one begins.
    pub(super) fn clear(&self, store: &Path) -> Result<(), Failure> {
        match fs::remove_dir_all(store) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        #[cfg(unix)]
        fs::File::open(self.path())?.sync_all()?;
        Ok(())
    }
}

/// Removes a ground under the feet of those who still work on it.
pub(super) fn abandon(dir: &Path) {
    // Something may be made while it is removed.
    for _ in 0..10 {
        if fs::remove_dir_all(dir).is_ok_and(|()| !dir.exists()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn it_is_fresh_and_goes_away() {
        let outer = tempfile::tempdir().unwrap();
        let mut ground = Ground::take(outer.path()).unwrap();
        let store = ground.fresh();
        assert!(!store.exists() && store != ground.fresh());
        fs::create_dir(&store).unwrap();
        ground.clear(&store).unwrap();
        ground.clear(&store).unwrap();
        drop(ground);
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_store_is_refused_as_is_what_is_not_there() {
        let outer = tempfile::tempdir().unwrap();
        drop(corewal::Options::new().cores(1).open(outer.path()).unwrap());
        for dir in [outer.path(), &outer.path().join("nowhere")] {
            assert_eq!(Ground::take(dir).unwrap_err().exit(), Exit::Usage);
        }
    }
}
