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

use corewal_format::{BLOCK_LEN, CoreId, Lsn, MAX_BASE_LSN, SegmentHeader, SegmentId, SegmentIdentity};
use corewal_io::{AlignedBuf, OpenMode, Storage};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::planted::PlantedBug;
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
    /// So many bytes, header included.
    pub(crate) capacity: u64,
    /// Or fewer, down to so many, where space is scarce.
    pub(crate) least: u64,
    /// Whether to make it also where it passes the budget.
    pub(crate) must: bool,
    /// The writer waits for it, or is so fast that zeros would take too much of the
    /// medium.
    pub(crate) hurried: bool,
}

impl Want {
    /// Makes it large enough for `bytes`, header included.
    pub(crate) fn hold(&mut self, bytes: u64) {
        self.least = self.least.max(bytes);
        self.capacity = self.capacity.max(self.least);
    }

    /// A segment of this size and no other.
    pub(crate) fn exactly(segment: SegmentId, base_lsn: Lsn, capacity: u64) -> Self {
        Self { segment, base_lsn, capacity, least: capacity, must: true, hurried: false }
    }
}

/// Makes the segments of one core.
#[derive(Debug)]
pub(crate) struct Workshop<S: Storage> {
    layout: Layout<S>,
    log: LogIdentity,
    spares: Mutex<Vec<SegmentId>>,
}

impl<S: Storage> Workshop<S> {
    pub(crate) fn new(layout: Layout<S>, log: LogIdentity) -> Self {
        Self { layout, log, spares: Mutex::default() }
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

    /// Waits while checkpoints do not keep up with the cores, unless it is to be made
    /// also so.
    pub(crate) fn hold(&self, want: Want, stop: &AtomicBool) {
        if !want.must {
            self.layout.space.hold(stop);
        }
    }

    /// Makes a segment, durably: header, content, name. An existing one of this
    /// number that nothing was written to is replaced. After an error there is
    /// a spare file more at the most, which the next try takes or replaces. A
    /// spare that could not be opened is not tried again: it would stand in the
    /// way; the next opening removes it.
    ///
    /// Where space is scarce it is smaller than wanted.
    ///
    /// # Errors
    /// [`Error::OutOfSpace`] if not even the least of it fits; [`Error::BadLsn`]
    /// past the last position; [`Error::Io`].
    pub(crate) fn make(&self, want: Want, stop: &AtomicBool) -> Result<OpenSegment<S::File>> {
        // The last number is its own successor: it would take the name of the
        // segment that it is to follow.
        if want.base_lsn > MAX_BASE_LSN || want.segment.next() == want.segment {
            let detail = format!("no segment begins behind {MAX_BASE_LSN}, or has a number from {} on", want.segment);
            return Err(Error::BadLsn { asked: want.base_lsn, detail });
        }
        let space = &self.layout.space;
        // A disk that was full is not written full again at each try.
        let mut want = if space.is_short() { Want { capacity: want.least, ..want } } else { want };
        loop {
            let made = self.make_so(want, stop);
            match &made {
                Ok(_) => space.set_short(false),
                Err(error) if is_full_disk(error) => {
                    space.set_short(true);
                    if want.capacity == want.least {
                        return Err(space.full_disk());
                    }
                    want.capacity = want.least;
                    continue;
                }
                Err(_) => {}
            }
            return made;
        }
    }

    fn make_so(&self, want: Want, stop: &AtomicBool) -> Result<OpenSegment<S::File>> {
        let (number, file, old_len) = self.take_spare(want)?;
        let spare = self.layout.spare(self.core(), number);
        let named_first = old_len > 0 && self.layout.planted.has(PlantedBug::RecycledNamedBeforeHeader);
        if named_first {
            self.give_name(want, &spare)?;
        }
        let claimed = self.claim(want, old_len);
        let filled = claimed.and_then(|capacity| self.fill(want, number, &file, old_len..capacity, stop));
        if filled.is_err() && old_len == 0 {
            // It would keep space that others can use. If it cannot be removed,
            // the next try replaces it.
            let _ = self.layout.remove_if_there(&spare);
        }
        let made = filled.and_then(|capacity| {
            if !named_first {
                self.give_name(want, &spare)?;
            }
            Ok(OpenSegment { identity: self.identity(want), file, capacity })
        });
        if made.is_err() && old_len > 0 {
            self.spares().push(number);
        }
        made
    }

    /// Makes a finished file the segment, durably.
    fn give_name(&self, want: Want, spare: &std::path::Path) -> Result<()> {
        // There may be one that was too small, or whose name was not durable.
        let path = self.layout.segment(self.core(), want.segment);
        let replaced = self.layout.len_if_there(&path)?;
        self.layout.rename(spare, &path)?;
        self.layout.space.log_shrunk(replaced);
        if !self.unsynced(PlantedBug::SuccessorNameNotSynced) {
            self.layout.sync_dir(&self.layout.core_dir(self.core()))?;
        }
        Ok(())
    }

    /// Whether a sync is left out: this one, or all of a segment's.
    fn unsynced(&self, bug: PlantedBug) -> bool {
        self.layout.planted.has(bug) || self.layout.planted.has(PlantedBug::SealBeforeSuccessor)
    }

    fn identity(&self, want: Want) -> SegmentIdentity {
        SegmentIdentity { log_id: self.log.log_id, core: self.core(), segment: want.segment, base_lsn: want.base_lsn }
    }

    /// How large the segment becomes, of whose file `old_len` bytes are there:
    /// as wanted, or half of it, and so on. The space for it is taken.
    fn claim(&self, want: Want, old_len: u64) -> Result<u64> {
        let space = &self.layout.space;
        let mut capacity = want.capacity;
        loop {
            let target = capacity.max(old_len);
            if target == old_len || space.claim(target - old_len) {
                return Ok(target);
            }
            if capacity == want.least {
                break;
            }
            capacity = (capacity / 2 / BLOCK_LEN as u64 * BLOCK_LEN as u64).max(want.least);
        }
        if want.must {
            space.log_grown(want.least - old_len);
            return Ok(want.least);
        }
        Err(space.over_budget())
    }

    /// Brings a file from the length `len.start` to `len.end` and gives it its
    /// header, durably. Returns its length, which is the old one if there is no
    /// space for more and that is enough.
    fn fill(
        &self,
        want: Want,
        number: SegmentId,
        file: &S::File,
        len: std::ops::Range<u64>,
        stop: &AtomicBool,
    ) -> Result<u64> {
        let space = &self.layout.space;
        match self.extend(want, number, file, len.clone(), stop) {
            Ok(()) => {}
            Err(error) => {
                // What it has beyond its old length is the disk's again.
                space.log_shrunk(len.end - len.start);
                if len.start > 0 {
                    let spare = self.layout.spare(self.core(), number);
                    let cut = self.layout.storage.set_len(file, len.start);
                    cut.map_err(|error| Error::io("cut", &spare, error))?;
                }
                if !is_full_disk(&error) || len.start < want.least {
                    return Err(error);
                }
                return self.write_header(want, number, file, len.start..len.start);
            }
        }
        let written = self.write_header(want, number, file, len.clone());
        if written.is_err() && len.start == 0 {
            space.log_shrunk(len.end);
        }
        written
    }

    /// Writes zeros; or, in a hurry, only takes the space for them.
    fn extend(
        &self,
        want: Want,
        number: SegmentId,
        file: &S::File,
        len: std::ops::Range<u64>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let spare = self.layout.spare(self.core(), number);
        let failed = |error| Error::io("prepare", &spare, error);
        let storage = &self.layout.storage;
        let (mut filled, capacity) = (len.start, len.end);
        while filled < capacity {
            if stop.load(Ordering::Relaxed) {
                return Err(failed(std::io::ErrorKind::Interrupted.into()));
            }
            let len = (capacity - filled).min(STEP);
            let extended =
                if want.hurried { storage.extend(file, filled, len) } else { storage.zero(file, filled, len) };
            extended.map_err(failed)?;
            filled += len;
        }
        Ok(())
    }

    fn write_header(&self, want: Want, number: SegmentId, file: &S::File, len: std::ops::Range<u64>) -> Result<u64> {
        let spare = self.layout.spare(self.core(), number);
        let failed = |error| Error::io("prepare", &spare, error);
        let storage = &self.layout.storage;
        let mut block = AlignedBuf::new(BLOCK_LEN);
        let recycled = len.start > 0;
        SegmentHeader { identity: self.identity(want), cores: self.log.cores, recycled, run: false }
            .encode(block.as_mut_slice());
        storage.write_at(file, 0, &block, 0..BLOCK_LEN).map_err(failed)?;
        if !self.unsynced(PlantedBug::SuccessorHeaderNotSynced) {
            storage.settle(file, 0).map_err(failed)?;
        }
        Ok(len.end)
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
            self.layout.discard_segment(&spare)?;
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
        // Where space is scarce, one is enough to go on with.
        let most = if self.layout.space.is_scarce() { 1 } else { SPARES_MAX };
        let mut kept = Vec::new();
        // The newest are the largest.
        for &segment in released.iter().rev() {
            let path = self.layout.segment(self.core(), segment);
            if kept.len() < most {
                self.layout.rename(&path, &self.layout.spare(self.core(), segment))?;
                kept.insert(0, segment);
            } else {
                self.layout.discard_segment(&path)?;
            }
        }
        // Before anything is written to them: under its old name a file with
        // another header would be a foreign segment.
        if !self.layout.planted.has(PlantedBug::SpareNameNotSynced) {
            self.layout.sync_dir(&self.layout.core_dir(self.core()))?;
        }
        let outgrown = {
            let mut spares = self.spares();
            spares.extend(kept);
            let surplus = spares.len().saturating_sub(most);
            spares.drain(..surplus).collect::<Vec<_>>()
        };
        for number in outgrown {
            self.layout.discard_segment(&self.layout.spare(self.core(), number))?;
        }
        Ok(())
    }
}

/// Whether there was no space for it: on the file system, or in the quota.
pub(crate) fn is_full_disk(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
}

/// Removes the spare files that an earlier process left. They are not used: a
/// crash in the middle of a rename can leave a file under both its names
/// (rename(2)), so one of them may be a segment of the log.
pub(crate) fn remove_spares<S: Storage>(layout: &Layout<S>, core: CoreId) -> Result<()> {
    for number in layout.list_spares(core)? {
        layout.discard_segment(&layout.spare(core, number))?;
    }
    Ok(())
}

/// Makes a segment outside a writer's life.
pub(crate) fn create_segment<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    want: Want,
) -> Result<OpenSegment<S::File>> {
    Workshop::new(layout.clone(), log).make(want, &AtomicBool::new(false))
}

#[cfg(test)]
mod tests {
    use corewal_format::LogId;
    use corewal_io::{CrashKind, SimStorage};

    use super::*;

    fn log() -> LogIdentity {
        LogIdentity { log_id: LogId([1; 16]), core: CoreId(0), cores: 1, covered: Lsn(0) }
    }

    /// In a hurry no zeros are written. Either way a power cut leaves the whole
    /// segment, or none of this name.
    #[test]
    fn a_segment_made_in_a_hurry_is_as_whole_as_any() {
        let storage = SimStorage::default();
        let layout = Layout::new(storage.clone(), std::path::Path::new("/"));
        let dir = layout.core_dir(log().core);
        storage.create_dir(&dir).unwrap();
        storage.sync_dir(std::path::Path::new("/")).unwrap();
        let path = layout.segment(log().core, SegmentId(3));
        let whole = |bytes: &[u8]| {
            assert_eq!(bytes.len(), 64 << 10);
            assert!(SegmentHeader::decode(&bytes[..BLOCK_LEN]).is_ok());
            assert!(bytes[BLOCK_LEN..].iter().all(|byte| *byte == 0));
        };
        let mut steps = Vec::new();
        for hurried in [false, true] {
            let before = storage.step();
            storage.record_snapshots(true);
            let want = Want { hurried, ..Want::exactly(SegmentId(3), Lsn(40_960), 64 << 10) };
            assert_eq!(create_segment(&layout, log(), want).unwrap().capacity, 64 << 10);
            storage.record_snapshots(false);
            steps.push(storage.step() - before);
            whole(&storage.read_file(&path).unwrap());
            let mut found = 0;
            for snapshot in storage.take_snapshots() {
                for seed in 0..8 {
                    let after = snapshot.crash(CrashKind::Power, seed).read_file(&path);
                    after.into_iter().for_each(|bytes| {
                        whole(&bytes);
                        found += 1;
                    });
                }
            }
            assert!(found > 0);
            storage.remove(&path).unwrap();
            storage.sync_dir(&dir).unwrap();
        }
        // A write is two steps, taking the space is one.
        assert!(steps[1] < steps[0], "{steps:?}");
    }

    /// Only bytes that lie lead here. The segment behind the last number would
    /// have taken that one's name, and with it its file.
    #[test]
    fn behind_the_last_number_and_the_last_position_there_is_no_segment() {
        let layout = Layout::new(SimStorage::default(), std::path::Path::new("/"));
        let log = log();
        let (last, last_base) = (SegmentId(u64::MAX - 1), Lsn(MAX_BASE_LSN.0 / BLOCK_LEN as u64 * BLOCK_LEN as u64));
        layout.storage.create_dir(&layout.core_dir(log.core)).unwrap();
        let make = |segment, base| create_segment(&layout, log, Want::exactly(segment, base, 8192));
        for (segment, base) in [(last.next(), last_base), (last, last_base.plus(BLOCK_LEN as u64))] {
            assert!(matches!(make(segment, base), Err(Error::BadLsn { .. })), "{segment} at {base}");
        }
        assert!(layout.storage.files().is_empty());
        assert_eq!(make(last, last_base).unwrap().identity.segment, last);
    }
}
