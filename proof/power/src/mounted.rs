//! File systems in image files: made, mounted, and taken off again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A store that was dropped lets go of its files in less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
    /// btrfs
    Btrfs,
}

impl Kind {
    /// Its name, as of the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Bytes of an image: not much above what its tools take.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::Btrfs => 128 << 20,
            Self::Xfs => 300 << 20,
        }
    }

    /// Makes one.
    pub(crate) fn make(self, image: &Path) -> Result<()> {
        std::fs::File::create(image)?.set_len(self.bytes())?;
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        command.arg("-q");
        if self == Self::Ext4 {
            // The kernel would do the rest later, in the middle of the record.
            command.args(["-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        }
        run(command.arg(image))?;
        // Zeros need not be copied with each image.
        run(Command::new("fallocate").arg("-d").arg(image))
    }
}

/// A mounted image.
#[derive(Debug)]
pub(crate) struct Mounted {
    place: PathBuf,
}

impl Mounted {
    /// Mounts an image; the file system replays its journal.
    pub(crate) fn new(image: &Path, place: &Path) -> Result<Self> {
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(place))?;
        Ok(Self { place: place.to_owned() })
    }

    /// Takes it off. A ring that was closed lets go of its files a moment later,
    /// and a child that another thread starts has them until it runs its program.
    pub(crate) fn unmount(self) -> Result<()> {
        let began = Instant::now();
        let mut unmounted = run(Command::new("umount").arg(&self.place));
        while unmounted.as_ref().is_err_and(|error| error.to_string().contains("busy")) && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
            unmounted = run(Command::new("umount").arg(&self.place));
        }
        if unmounted.is_ok() {
            std::mem::forget(self);
        }
        unmounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.place));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("can't run {name}"))?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
