//! A core's log as its shard uses it: appending waits for what it needs, and
//! the ends of epochs are reported once they are durable.

use std::collections::VecDeque;
use std::sync::Arc;

use corewal_format::{Epoch, Lsn};
use corewal_io::Storage;

use crate::checkpoint::Keeper;
use crate::epochs::EpochBoard;
use crate::error::{Error, Result};
use crate::planted::PlantedBug;
use crate::writer::Writer;

/// A log, and what its shard has to do with others.
pub(super) struct Log<S: Storage> {
    pub(super) writer: Writer<S>,
    pub(super) board: Arc<EpochBoard>,
    pub(super) keeper: Option<Arc<Keeper<S>>>,
    /// Ends of epochs that are not durable yet, oldest first.
    pub(super) ending: VecDeque<(Epoch, Lsn)>,
    pub(super) parked: bool,
}

impl<S: Storage> Log<S> {
    pub(super) fn new(writer: Writer<S>, board: Arc<EpochBoard>, keeper: Option<Arc<Keeper<S>>>) -> Self {
        Self { writer, board, keeper, ending: VecDeque::with_capacity(4), parked: false }
    }

    pub(super) fn report_ended(&mut self) {
        let mut durable = self.writer.durable_lsn();
        if self.writer.planted().has(PlantedBug::EpochReportedEarly) {
            durable = self.writer.appended_lsn();
        }
        let mut any = false;
        while let Some((epoch, _)) = self.ending.pop_front_if(|(_, end)| *end <= durable) {
            self.board.ended(self.writer.core(), epoch);
            any = true;
        }
        if let (true, Some(keeper)) = (any, &self.keeper) {
            keeper.ended();
        }
    }

    /// Appends, waiting for a buffer or a segment as often as it takes.
    #[inline]
    pub(super) fn append(&mut self, append: impl Fn(&mut Writer<S>) -> Result<Lsn>) -> Result<Lsn> {
        if self.parked {
            return Err(Error::Parked);
        }
        self.append_parked(append)
    }

    #[inline]
    pub(super) fn append_parked(&mut self, append: impl Fn(&mut Writer<S>) -> Result<Lsn>) -> Result<Lsn> {
        let mut tried = false;
        loop {
            match append(&mut self.writer) {
                Err(error) if error.is_full() => self.make_room()?,
                // Once: what is freed may not be enough, or not be ours. Where
                // nothing is, others may have freed some since it was tried.
                Err(error) if error.is_out_of_space() && !tried => {
                    tried = true;
                    self.free_space()?;
                }
                Ok(lsn) => {
                    // What is full is on its way while the next frame fills. A
                    // failure is the next call's: this record is appended.
                    let _ = self.writer.submit_full();
                    return Ok(lsn);
                }
                other => return other,
            }
        }
    }

    /// Frees what a checkpoint covers, one that is made for it if it can be.
    /// Waits for the disk.
    #[cold]
    fn free_space(&mut self) -> Result<()> {
        // Behind the record that it is parked nothing may follow.
        if self.parked || self.release_now()? {
            return Ok(());
        }
        if let Some(keeper) = &self.keeper {
            keeper.relieve();
            self.release_now()?;
        }
        Ok(())
    }

    /// Whether there was anything to release.
    fn release_now(&mut self) -> Result<bool> {
        let floor = self.board.floor(self.writer.core());
        match self.writer.release_now(floor) {
            // No room for the record of it.
            Err(error) if error.is_out_of_space() => Ok(false),
            other => other,
        }
    }

    #[cold]
    fn make_room(&mut self) -> Result<()> {
        self.writer.submit()?;
        self.writer.wait()?;
        self.report_ended();
        Ok(())
    }
}
