//! A disk that is mounted.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fuser::{BackgroundSession, Config, MountOption};

use crate::disk::{Disk, Survive};
use crate::serve::{Serve, Shared, lock};

/// Requests are served by so many threads, so that they overtake each other.
const THREADS: usize = 4;
/// Whoever was killed lets go of the mount a moment later.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mount and the disk behind it. Dropped, it is unmounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
    disk: Shared,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts a disk.
    pub(crate) fn new(at: &Path, disk: Disk) -> Result<Self> {
        let mut mounted = Self { at: at.to_owned(), disk: Arc::new(Mutex::new(disk)), session: None };
        mounted.mount()?;
        Ok(mounted)
    }

    /// Where.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// The disk, to be commanded.
    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn mount(&mut self) -> Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("forgetful".into()), MountOption::Subtype("forgetful".into())];
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(Serve(Arc::clone(&self.disk)), &self.at, &config);
        self.session = Some(session.with_context(|| format!("can't mount at {}", self.at.display()))?);
        Ok(())
    }

    /// Loses power, if it has not yet, and comes back with what survives. All
    /// who had files open must be gone.
    pub(crate) fn cut(&mut self, survive: Survive, seed: u64) -> Result<()> {
        self.disk().cut_power();
        self.unmount()?;
        let after = self.disk().crashed(survive, seed);
        self.disk = Arc::new(Mutex::new(after));
        self.mount()
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        // fuser takes its mount only once, so it is unmounted here, and fuser
        // finds that it is.
        loop {
            let output = std::process::Command::new("umount").arg(&self.at).output().context("can't run umount")?;
            if output.status.success() {
                break;
            }
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if Instant::now() > deadline {
                bail!("can't unmount: {said}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        session.join().context("the session ended badly")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{error:#}");
        }
    }
}
