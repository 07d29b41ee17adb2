//! The making of segments, ahead of need: files whose blocks were all written
//! before, so that no commit grows a file, converts an extent or touches a
//! directory.
//!
//! A new file is filled with zeros; one whose segment was released is taken
//! again as it is. Either carries a name that is no segment's until its header
//! is durable, and gets its own by a rename, so a segment's name never stands
//! on an unfinished file.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use corewal_format::{BLOCK_LEN, CoreId, Lsn, SegmentHeader, SegmentId, SegmentIdentity};
use corewal_io::{AlignedBuf, OpenMode, Storage};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::planted::Planted;
use crate::scan::LogIdentity;
use crate::writer::OpenSegment;

/// Released files that a core keeps to be taken again.
const SPARES_MAX: usize = 4;

/// Bytes written between two looks at whether the work is still wanted.
const STEP: u64 = 1 << 20;

/// A segment that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) segment: SegmentId,
    pub(crate) base_lsn: Lsn,
    /// At least so many bytes, header included.
    pub(crate) capacity: u64,
}

/// Makes the segments of one core.
#[derive(Debug)]
pub(crate) struct Workshop<S: Storage> {
    layout: Layout<S>,
    log: LogIdentity,
    spares: Mutex<Vec<SegmentId>>,
    planted: Planted,
}

impl<S: Storage> Workshop<S> {
    pub(crate) fn new(layout: Layout<S>, log: LogIdentity, planted: Planted) -> Self {
        Self { layout, log, spares: Mutex::default(), planted }
    }

    /// The store's directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.layout.dir
    }

    fn core(&self) -> CoreId {
        self.log.core
    }

    fn spares(&self) -> std::sync::MutexGuard<'_, Vec<SegmentId>> {
        self.spares.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes a segment, durably: header, content, name. An existing one of this
    /// number that nothing was written to is replaced. After an error there is
    /// a spare file more at the most, which the next try takes or replaces. A
    /// spare that could not be opened is not tried again: it would stand in the
    /// way; the next opening removes it.
    pub(crate) fn make(&self, want: Want, stop: &AtomicBool) -> Result<OpenSegment<S::File>> {
        let (number, file, old_len) = self.take_spare(want)?;
        let made = self.fill(want, number, file, old_len, stop);
        if made.is_err() && old_len > 0 {
            self.spares().push(number);
        }
        made
    }

    fn fill(
        &self,
        want: Want,
        number: SegmentId,
        file: S::File,
        old_len: u64,
        stop: &AtomicBool,
    ) -> Result<OpenSegment<S::File>> {
        let spare = self.layout.spare(self.core(), number);
        let failed = |error| Error::io("prepare", &spare, error);
        let storage = &self.layout.storage;
        let capacity = old_len.max(want.capacity);
        let mut filled = old_len;
        while filled < capacity {
            if stop.load(Ordering::Relaxed) {
                return Err(failed(std::io::ErrorKind::Interrupted.into()));
            }
            let len = (capacity - filled).min(STEP);
            storage.zero(&file, filled, len).map_err(failed)?;
            filled += len;
        }
        let identity = SegmentIdentity {
            log_id: self.log.log_id,
            core: self.core(),
            segment: want.segment,
            base_lsn: want.base_lsn,
        };
        let mut block = AlignedBuf::new(BLOCK_LEN);
        SegmentHeader { identity, cores: self.log.cores, recycled: old_len > 0, run: false }
            .encode(block.as_mut_slice());
        storage.write_at(&file, 0, &block, 0..BLOCK_LEN).map_err(failed)?;
        if !self.planted.seal_before_successor() {
            storage.settle(&file, 0).map_err(failed)?;
        }
        self.layout.rename(&spare, &self.layout.segment(self.core(), want.segment))?;
        if !self.planted.seal_before_successor() {
            self.layout.sync_dir(&self.layout.core_dir(self.core()))?;
        }
        Ok(OpenSegment { identity, file, capacity })
    }

    /// A file to make a segment of, and how many of its bytes were written
    /// before: a spare one, or a new one.
    fn take_spare(&self, want: Want) -> Result<(SegmentId, S::File, u64)> {
        loop {
            let Some(number) = self.spares().pop() else { break };
            let spare = self.layout.spare(self.core(), number);
            let file = match self.layout.storage.open(&spare, OpenMode::ReadWrite) {
                Ok(file) => file,
                // A try that failed behind its rename.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("open", &spare, error)),
            };
            // A file that was cut short by hand is written to its end.
            let len = self.layout.len(&file, &spare)? / BLOCK_LEN as u64 * BLOCK_LEN as u64;
            if len >= 2 * BLOCK_LEN as u64 {
                return Ok((number, file, len));
            }
            self.layout.remove_if_there(&spare)?;
        }
        let spare = self.layout.spare(self.core(), want.segment);
        self.layout.remove_if_there(&spare)?;
        let file = self.layout.open(&spare, OpenMode::CreateNew)?;
        Ok((want.segment, file, 0))
    }

    /// Takes the files of released segments back, durably: as spares, or away
    /// if there are enough. After an error some still carry the name of a
    /// segment, and others are spares that are not used, their new names being
    /// in doubt; the next opening takes care of both.
    pub(crate) fn take_back(&self, released: &[SegmentId]) -> Result<()> {
        let mut kept = Vec::new();
        // The newest are the largest.
        for &segment in released.iter().rev() {
            let path = self.layout.segment(self.core(), segment);
            if kept.len() < SPARES_MAX {
                self.layout.rename(&path, &self.layout.spare(self.core(), segment))?;
                kept.insert(0, segment);
            } else {
                self.layout.remove_if_there(&path)?;
            }
        }
        // Before anything is written to them: under its old name a file with
        // another header would be a foreign segment.
        self.layout.sync_dir(&self.layout.core_dir(self.core()))?;
        let outgrown = {
            let mut spares = self.spares();
            spares.extend(kept);
            let surplus = spares.len().saturating_sub(SPARES_MAX);
            spares.drain(..surplus).collect::<Vec<_>>()
        };
        for number in outgrown {
            self.layout.remove_if_there(&self.layout.spare(self.core(), number))?;
        }
        Ok(())
    }
}

/// Removes the spare files that an earlier process left. They are not used: a
/// crash in the middle of a rename can leave a file under both its names
/// (rename(2)), so one of them may be a segment of the log.
pub(crate) fn remove_spares<S: Storage>(layout: &Layout<S>, core: CoreId) -> Result<()> {
    for number in layout.list_spares(core)? {
        layout.remove_if_there(&layout.spare(core, number))?;
    }
    Ok(())
}

/// Makes a segment outside a writer's life.
pub(crate) fn create_segment<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    want: Want,
) -> Result<OpenSegment<S::File>> {
    Workshop::new(layout.clone(), log, Planted::default()).make(want, &AtomicBool::new(false))
}
