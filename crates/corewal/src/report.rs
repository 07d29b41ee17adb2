//! What opening found and did.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use corewal_format::{CoreId, Epoch, Lsn, SegmentId};
use corewal_io::WritePath;

/// As many names are shown that are not the store's.
const STRANGERS_SHOWN: usize = 5;

/// Bytes of an unfinished write that opening cut off a log's end. They were
/// never durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: SegmentId,
    /// Position in the segment's file, in bytes, from which on it was cut.
    pub offset: u64,
    /// Bytes cut, later segments included.
    pub bytes: u64,
    /// Why the log ends there.
    pub why: String,
}

/// What lies after the epoch (or the last commit) that opening went back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// First position that no longer counts.
    pub from: Lsn,
    /// Records that no longer count.
    pub records: u64,
}

/// What opening found in one core's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreReport {
    /// The core.
    pub core: CoreId,
    /// Segments scanned.
    pub segments: u64,
    /// Records scanned.
    pub records: u64,
    /// Bytes of frames scanned.
    pub bytes: u64,
    /// Puts, deletes, payloads and commits that count.
    pub applied: u64,
    /// What was cut off the end, if anything.
    pub cut: Option<Cut>,
    /// What was rolled back, if anything.
    pub rolled_back: Option<RolledBack>,
    /// The newest epoch that this core had ended.
    pub epoch: Epoch,
    /// Time taken for this core.
    pub duration: Duration,
}

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The store did not exist, or its creation had been cut short.
    pub created: bool,
    /// The newest complete epoch; 0 if none.
    pub complete_epoch: Epoch,
    /// How writes will reach the medium.
    pub write_path: WritePath,
    /// Epoch of the checkpoint that opening began from, if it did.
    pub checkpoint: Option<Epoch>,
    /// What was found damaged and made good by something older.
    pub notes: Vec<String>,
    /// Names inside the store's directory that are not the store's. They were
    /// left alone.
    pub strangers: Vec<PathBuf>,
    /// By core.
    pub cores: Vec<CoreReport>,
    /// Time taken in all.
    pub duration: Duration,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            return write!(f, "created a store of {} core(s); writes: {}", self.cores.len(), self.write_path);
        }
        let records: u64 = self.cores.iter().map(|core| core.records).sum();
        write!(
            f,
            "recovered epoch {} over {} core(s): {records} records scanned in {:.3} s; writes: {}",
            self.complete_epoch,
            self.cores.len(),
            self.duration.as_secs_f64(),
            self.write_path
        )?;
        if let Some(epoch) = self.checkpoint {
            write!(f, "\n  from the checkpoint of epoch {epoch}")?;
        }
        for note in &self.notes {
            write!(f, "\n  {note}")?;
        }
        for stranger in self.strangers.iter().take(STRANGERS_SHOWN) {
            write!(f, "\n  {} is not part of the store", stranger.display())?;
        }
        if let Some(more @ 1..) = self.strangers.len().checked_sub(STRANGERS_SHOWN) {
            write!(f, "\n  nor are {more} more names")?;
        }
        for core in &self.cores {
            if let Some(cut) = &core.cut {
                write!(
                    f,
                    "\n  core {}: cut {} bytes of an unfinished write at segment {}, offset {}: {}",
                    core.core, cut.bytes, cut.segment, cut.offset, cut.why
                )?;
            }
            if let Some(rolled) = &core.rolled_back {
                write!(f, "\n  core {}: rolled back {} record(s) from LSN {}", core.core, rolled.records, rolled.from)?;
            }
        }
        Ok(())
    }
}
