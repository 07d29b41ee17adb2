//! The write path of the simulated disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use super::SimFile;
use super::disk::InFlight;
use super::state::{self, Shared};
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait, write};

/// The write path of [`SimStorage`](crate::SimStorage).
///
/// [`submit`](StorageIo::submit) only takes the operation;
/// [`poll`](StorageIo::poll) completes some of those in flight, which ones and
/// in what order the disk's seed decides: at least one with [`Wait::One`],
/// any number, also none, with [`Wait::No`]. A write is seen by readers once
/// it has completed.
///
/// Dropping it completes everything in flight, in an order of the seed, as a
/// kernel would: what was submitted happens, though nobody hears of it.
pub struct SimStorageIo {
    shared: Shared,
    id: u64,
    next_token: u64,
    in_flight: Vec<u64>,
    buffers: BTreeMap<u64, AlignedBuf>,
}

/// Prints how many operations are in flight.
impl fmt::Debug for SimStorageIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStorageIo").field("in_flight", &self.in_flight.len()).finish_non_exhaustive()
    }
}

impl SimStorageIo {
    pub(super) fn new(shared: &Shared) -> Self {
        let id = {
            let mut state = state::lock(shared);
            state.next_io += 1;
            state.next_io
        };
        Self { shared: Shared::clone(shared), id, next_token: 0, in_flight: Vec::new(), buffers: BTreeMap::new() }
    }

    /// Completes one operation that the seed chooses.
    fn complete_one(&mut self) -> Completion {
        assert!(!self.in_flight.is_empty());
        let mut state = state::lock(&self.shared);
        let chosen = state.rng.usize(0..self.in_flight.len());
        let token = self.in_flight.swap_remove(chosen);
        let result = state.complete((self.id, token));
        Completion { token: Token(token), result, buffer: self.buffers.remove(&token) }
    }

    fn flip(&self) -> bool {
        state::lock(&self.shared).rng.bool()
    }
}

impl StorageIo for SimStorageIo {
    type File = SimFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        AlignedBuf::new(capacity)
    }

    fn submit(&mut self, operation: Operation<SimFile>) -> io::Result<Token> {
        let token = self.next_token;
        let mut state = state::lock(&self.shared);
        let flight = match operation {
            Operation::Write { file, offset, buffer, range, data_sync } => {
                write::check(offset, &buffer, &range)?;
                let node = file.on(&self.shared)?;
                file.writable()?;
                let bytes = buffer[range].into();
                self.buffers.insert(token, buffer);
                InFlight::Write { node, offset, bytes, data_sync }
            }
            Operation::Sync { file } => InFlight::Sync { node: file.on(&self.shared)?, upto: state.disk.sequence },
        };
        let old = state.disk.in_flight.insert((self.id, token), flight);
        assert!(old.is_none(), "a token is given once");
        self.in_flight.push(token);
        self.next_token += 1;
        state.step();
        Ok(Token(token))
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut wanted = wait == Wait::One;
        while !self.in_flight.is_empty() && (wanted || self.flip()) {
            completions.push(self.complete_one());
            wanted = false;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl Drop for SimStorageIo {
    fn drop(&mut self) {
        while !self.in_flight.is_empty() {
            drop(self.complete_one());
        }
        debug_assert!(self.buffers.is_empty());
    }
}
