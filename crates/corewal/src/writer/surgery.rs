//! Cutting a log: its tail (`truncate_to`), its head (`release_below`), all of
//! it (`reset`). Each is a durable record before it is anything else, and none
//! gives an LSN or a sequence to other bytes.

use corewal_format::{BLOCK_LEN, Epoch, Lsn, Record, block_align};
use corewal_io::Storage;

use super::Writer;
use crate::error::{Error, Result};
use crate::planted::PlantedBug;
use crate::scan::{Cursor, Step, survey};

/// A release that stands in the log and is not durable yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Releasing {
    to: Lsn,
    count: usize,
    end: Lsn,
}

impl<S: Storage> Writer<S> {
    /// Takes back everything from `lsn` on, durably: the records stay where
    /// they are, a rollback record says that they no longer count. What lies
    /// between the last commit before `lsn` and `lsn` is taken back too, as is
    /// an open batch. Returns the position after the last record that counts.
    ///
    /// Waits for everything in flight first.
    ///
    /// # Errors
    /// [`Error::BadLsn`] if `lsn` is neither the beginning of a frame nor the
    /// end of a segment or of the log; [`Error::Io`] if the log cannot be read, or
    /// needs another segment and it cannot be made: nothing is changed.
    /// Otherwise as [`Writer::sync`].
    pub fn truncate_to(&mut self, lsn: Lsn) -> Result<Lsn> {
        self.sync()?;
        let bad = |detail: String| Err(Error::BadLsn { asked: lsn, detail });
        if lsn < self.start || lsn > self.next.lsn {
            return bad(format!("the log goes from {} to {}", self.start, self.next.lsn));
        }
        if let Some(nearest) = self.frame_before(lsn)? {
            return bad(format!("no frame begins there; the nearest before it begins at {nearest}"));
        }
        let before = survey(&self.layout, self.log, lsn)?;
        // A log with nothing before `lsn` has its boundary at its first frame.
        let to = before.boundary.min(lsn);
        self.push_waiting(&Record::Rollback { to, epoch: Epoch(before.epoch.0 - 1) })?;
        self.batch_open = false;
        self.sync()?;
        Ok(to)
    }

    /// The beginning of the frame that `lsn` lies within; `None` if one begins
    /// or ends there.
    fn frame_before(&self, lsn: Lsn) -> Result<Option<Lsn>> {
        if lsn == self.next.lsn || lsn == self.finished_end {
            return Ok(None);
        }
        let spans = self.files.spans();
        let held = spans.iter().rev().find(|span| span.base_lsn <= lsn).unwrap_or(&spans[0]);
        if lsn == held.base_lsn {
            return Ok(None); // the end of the segment before
        }
        let (mut last, mut end) = (held.base_lsn, held.base_lsn);
        let Ok(mut cursor) = Cursor::new(&self.layout, self.log, held.id, Lsn(u64::MAX))? else {
            return Ok(Some(last));
        };
        while let Step::Frame(frame, place) = cursor.step()? {
            if place.lsn() >= lsn {
                // Behind the last frame of a segment there may be a rest: the
                // next segment does not begin where this one ends.
                return Ok((place.lsn() > lsn && end != lsn).then_some(last));
            }
            last = place.lsn();
            end = last.plus(block_align(frame.header.len) as u64);
        }
        Ok(Some(last))
    }

    /// Gives the segments that lie wholly below `lsn` free, durably. What is
    /// left begins with a whole segment, so it may begin below `lsn`, and
    /// within a batch whose first half is gone: call it with the position of
    /// a checkpoint that covers everything below. Returns the first position
    /// of the log.
    ///
    /// # Errors
    /// [`Error::BadLsn`] if `lsn` is past the durable position; [`Error::Io`]
    /// if the log needs another segment and it cannot be made: nothing is
    /// released. Otherwise as [`Writer::sync`]. The files are taken back in the
    /// background, to be used again; what went wrong with those of an earlier
    /// release is said here as [`Error::Io`], with nothing released: that
    /// release counts, the next open removes its files, and calling again goes
    /// on.
    pub fn release_below(&mut self, lsn: Lsn) -> Result<Lsn> {
        if lsn > self.durable_lsn() {
            let detail = format!("only what is durable (up to {}) can be released", self.durable_lsn());
            return Err(Error::BadLsn { asked: lsn, detail });
        }
        let count = self.files.wholly_below(lsn);
        if count == 0 {
            return Ok(self.start);
        }
        self.supply.complaint()?;
        let to = self.files.spans()[count].base_lsn;
        self.release_to(to, count)?;
        Ok(to)
    }

    /// Empties the log, durably: nothing that was appended before counts any
    /// more. LSN, sequence and epoch go on.
    ///
    /// # Errors
    /// [`Error::Io`] if the next segment cannot be made: calling again goes on.
    /// Otherwise as [`Writer::sync`]. After one, either all or nothing still
    /// counts.
    pub fn reset(&mut self) -> Result<()> {
        self.sync()?;
        // The rest of the segment is given up: what counts begins with the next.
        self.waiting(|writer| writer.rotate(BLOCK_LEN as u64))?;
        self.batch_open = false;
        self.sync()?;
        let to = self.next.base_lsn;
        assert_eq!(self.next.lsn, to.plus(BLOCK_LEN as u64), "a fresh segment");
        let count = self.files.spans().len() - 1;
        self.release_to(to, count)
    }

    fn release_to(&mut self, to: Lsn, count: usize) -> Result<()> {
        self.waiting(|writer| writer.push_release(to, count))?;
        if !self.layout.planted.has(PlantedBug::ReleasedBeforeRecord) {
            self.sync()?;
        }
        self.give_back(to, count);
        Ok(())
    }

    fn push_release(&mut self, to: Lsn, count: usize) -> Result<()> {
        assert!(self.start < to);
        // What ended in the released part goes into the record that replaces
        // it; what a rollback took back does not.
        let ended = self.files.spans()[count - 1].ended;
        self.push(&Record::Release { to, epoch: ended }).map(drop)
    }

    fn give_back(&mut self, to: Lsn, count: usize) {
        self.start = to;
        self.supply.give_back(self.files.release_oldest(count));
        self.supply.flush();
    }

    /// Releases what lies wholly below `floor`, without waiting: the first call
    /// that finds something says so in the log, and one after that is durable
    /// gives the files back. Nothing happens while the log is full.
    ///
    /// # Errors
    /// As [`Writer::release_below`].
    #[inline]
    pub(crate) fn release_step(&mut self, floor: Lsn) -> Result<()> {
        if floor <= self.start && self.releasing.is_none() {
            return Ok(());
        }
        self.release_on(floor)
    }

    /// Releases what lies wholly below `floor` and waits for it. Whether there
    /// was anything.
    ///
    /// # Errors
    /// As [`Writer::release_below`].
    pub(crate) fn release_now(&mut self, floor: Lsn) -> Result<bool> {
        let before = self.start;
        self.release_step(floor)?;
        if self.releasing.is_some() {
            self.sync()?;
            self.release_step(floor)?;
        }
        Ok(self.start > before)
    }

    fn release_on(&mut self, floor: Lsn) -> Result<()> {
        match self.releasing {
            Some(Releasing { to, count, end }) if end <= self.durable_lsn() => {
                self.releasing = None;
                self.give_back(to, count);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let count = self.files.wholly_below(floor.min(self.durable_lsn()));
                if count == 0 {
                    return Ok(());
                }
                self.supply.complaint()?;
                let to = self.files.spans()[count].base_lsn;
                match self.push_release(to, count) {
                    Ok(()) if self.layout.planted.has(PlantedBug::ReleasedBeforeRecord) => self.give_back(to, count),
                    Ok(()) => self.releasing = Some(Releasing { to, count, end: self.appended_lsn() }),
                    Err(error) if error.is_full() => return Ok(()),
                    Err(error) => return Err(error),
                }
                self.request_sync()
            }
        }
    }
}
