//! Driving: finished frames go to the backend, completions come back, the
//! written and the durable position move.

use corewal_format::{BLOCK_LEN, Lsn, block_align};
use corewal_io::{AlignedBuf, Completion, Operation, Storage, StorageIo, Token, Wait};

use super::building::Finished;
use super::group::Look;
use super::ledger::Role;
use super::{Destination, Writer};
use crate::error::Result;
use crate::planted::PlantedBug;

/// When a write begins.
#[derive(Clone, Copy, Debug)]
enum Begin {
    /// Before the call returns.
    Now,
    /// With the next call into the system, if the backend gains by that.
    WithNext,
}

impl<S: Storage> Writer<S> {
    /// Hands everything appended to the backend and returns without waiting
    /// for it to become durable. (A blocking backend has written it by then.)
    ///
    /// # Errors
    /// [`Error::Latched`](crate::Error::Latched), now and from now on, if a
    /// write or a sync failed.
    pub fn submit(&mut self) -> Result<()> {
        self.check_latch()?;
        self.finish();
        self.submit_finished(false, Begin::Now)?;
        self.io.begin().map_err(|error| self.latch("submit a write", &error))
    }

    /// Hands the frames that are full to the backend; the one at hand goes on.
    /// Costs next to nothing where there are none, so a program that streams
    /// calls it after each append: the disk works while the next frame fills.
    /// (Short frames, and all frames of a backend whose calls block, wait for the
    /// next poll, wait or submit, and are written together: so a program polls
    /// before it sleeps.)
    ///
    /// # Errors
    /// As [`Writer::submit`].
    #[inline]
    pub fn submit_full(&mut self) -> Result<()> {
        if self.finished.is_empty() { Ok(()) } else { self.submit_queued() }
    }

    #[cold]
    fn submit_queued(&mut self) -> Result<()> {
        self.check_latch()?;
        self.submit_finished(false, Begin::WithNext)
    }

    fn submit_finished(&mut self, data_sync: bool, begin: Begin) -> Result<()> {
        while let Some(frame) = self.finished.pop_front() {
            self.submit_frame(frame, data_sync || self.direct, begin)?;
        }
        self.supply.flush();
        Ok(())
    }

    fn submit_frame(&mut self, frame: Finished, data_sync: bool, begin: Begin) -> Result<()> {
        let (operation, destination) = self.write_of(frame, data_sync);
        let submitted = match begin {
            Begin::Now => self.io.submit(operation),
            Begin::WithNext => self.io.queue(operation),
        };
        match submitted {
            Ok(token) => self.note_submitted(self.planted_token(token), destination),
            Err(error) => return Err(self.latch("submit a write", &error)),
        }
        Ok(())
    }

    fn write_of(&self, frame: Finished, data_sync: bool) -> (Operation<S::File>, Destination<S::File>) {
        let Finished { buffer, len, lsn } = frame;
        let segment = self.files.holding(lsn);
        let offset = lsn.0 - segment.identity.base_lsn.0;
        assert!(offset >= BLOCK_LEN as u64 && len == block_align(len));
        let file = segment.file.clone();
        let destination = Destination { token: Token(0), file: file.clone(), lsn, offset, written: 0, len, data_sync };
        (Operation::Write { file, offset, buffer, range: 0..len, data_sync }, destination)
    }

    fn note_submitted(&mut self, token: Token, destination: Destination<S::File>) {
        let Destination { lsn, len, data_sync, .. } = destination;
        self.ledger.write_submitted(token, lsn, lsn.plus(len as u64), data_sync);
        self.destinations.push(Destination { token, ..destination });
    }

    /// Writes the one frame there is, durably, with nothing else in flight: the
    /// caller would wait for it anyway.
    fn write_alone(&mut self) -> Result<()> {
        let frame = self.finished.pop_front().expect("the caller has looked");
        let (operation, destination) = self.write_of(frame, true);
        match self.io.perform(operation) {
            Ok(completion) => {
                self.note_submitted(self.planted_token(completion.token), destination);
                self.take(completion)
            }
            Err(error) => Err(self.latch("submit a write", &error)),
        }
    }

    /// Asks for everything appended so far to become durable, without waiting:
    /// [`Writer::poll`] drives it on. The writes begin at once.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub fn request_sync(&mut self) -> Result<()> {
        self.request(Begin::Now)
    }

    /// As [`Writer::request_sync`], for one of several commits that come together
    /// and are to be durable each on its own: a short write may begin only with
    /// the next [`Writer::poll`] or [`Writer::wait`], and then all of them begin
    /// for one call into the system, those that stand side by side in the log in
    /// one write. So **poll before the thread sleeps** or does something long.
    /// (What it gains stands in docs/PERFORMANCE.md. Where commits may become
    /// durable together, one sync for all of them is better still: they share a
    /// frame, and take less room.)
    ///
    /// ```
    /// use corewal::io::FileStorage;
    /// use corewal::{Commit, Options};
    ///
    /// # fn main() -> corewal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let (mut writers, _) = Options::new().cores(1).open_writers(FileStorage::new(), dir.path())?;
    /// let log = &mut writers[0];
    /// let mut orders = std::collections::VecDeque::new();
    /// // A turn of the loop: eight orders have come.
    /// for order in 0..8_u64 {
    ///     log.put(&order.to_le_bytes(), b"green")?;
    ///     orders.push_back((order, log.commit(&Commit::new())?));
    ///     log.queue_sync()?;
    /// }
    /// // Now they begin, and each is accepted as soon as it is durable.
    /// while !orders.is_empty() {
    ///     let durable = log.wait()?;
    ///     while orders.pop_front_if(|(_, end)| *end <= durable).is_some() {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub fn queue_sync(&mut self) -> Result<()> {
        self.request(Begin::WithNext)
    }

    fn request(&mut self, begin: Begin) -> Result<()> {
        self.check_latch()?;
        self.finish();
        // A single frame behind a durable log can carry its own sync.
        let alone = self.is_alone();
        self.submit_finished(alone, begin)?;
        self.ledger.want_durable(self.ledger.submitted());
        self.start_sync()?;
        Ok(())
    }

    /// Takes in what has completed, without blocking, and starts the sync that
    /// is due, by wish or by [`GroupCommit`](crate::GroupCommit). Returns the
    /// durable position.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub fn poll(&mut self) -> Result<Lsn> {
        self.drive(Wait::No)?;
        self.group_commit(Look::AtTheClock)
    }

    /// As [`Writer::poll`], but blocks until something in flight has completed;
    /// or, with nothing in flight, until the next segment is there, if
    /// appending said [`Error::Full`](crate::Error::Full) for want of it.
    ///
    /// # Errors
    /// As [`Writer::submit`]. That the segment cannot be made is said by the
    /// next append.
    pub fn wait(&mut self) -> Result<Lsn> {
        if self.io.in_flight() == 0 && self.supply.is_missed() {
            self.supply.wait();
        }
        self.drive(Wait::One)?;
        self.group_commit(Look::AtTheClock)
    }

    /// Whether there is one frame to write behind a log that is durable.
    fn is_alone(&self) -> bool {
        self.finished.len() == 1 && self.ledger.settled()
    }

    /// Makes everything appended so far durable and waits for it. Returns the
    /// durable position.
    ///
    /// # Errors
    /// As [`Writer::submit`]. What was durable before stays so; whether the rest is, only reopening can tell.
    pub fn sync(&mut self) -> Result<Lsn> {
        self.check_latch()?;
        self.finish();
        if self.is_alone() && self.io.in_flight() == 0 {
            self.write_alone()?;
        }
        self.request_sync()?;
        let target = self.ledger.submitted();
        while self.ledger.durable() < target {
            assert!(self.io.in_flight() > 0, "what is waited for is in flight");
            self.drive(Wait::One)?;
        }
        Ok(self.ledger.durable())
    }

    pub(super) fn drive(&mut self, mut wait: Wait) -> Result<Lsn> {
        loop {
            self.take_completions(wait)?;
            if !self.start_sync()? {
                self.supply.flush();
                return Ok(self.ledger.durable());
            }
            // A blocking backend has the sync that was just started done.
            wait = Wait::No;
        }
    }

    fn take_completions(&mut self, wait: Wait) -> Result<()> {
        self.check_latch()?;
        let mut completions = std::mem::take(&mut self.completions);
        let polled = self.io.poll(wait, &mut completions);
        let mut outcome = polled.map_err(|error| self.latch("poll for completions", &error));
        // Every completion is looked at, even behind a failed one: buffers come
        // back and nothing is taken for durable by mistake.
        for completion in completions.drain(..) {
            let taken = self.take(completion);
            outcome = outcome.and(taken);
        }
        self.completions = completions;
        outcome
    }

    fn take(&mut self, completion: Completion) -> Result<()> {
        let Completion { token, result, buffer } = completion;
        let token = self.planted_token(token);
        // A write gives a buffer back and a sync has none: a backend that took
        // one for the other shows by that.
        let mixed_up = |what| Err(std::io::Error::other(format!("a completion for {token:?}, {what}")));
        let role = match self.ledger.role(token) {
            Role::Unknown => mixed_up("which is not in flight"),
            Role::Sync if buffer.is_some() => mixed_up("a sync, with a write's buffer"),
            Role::Write if buffer.is_none() && result.is_ok() => mixed_up("a write, without its buffer"),
            role => Ok(role),
        };
        match role.map_err(|error| self.latch("match a completion", &error))? {
            Role::Unknown => unreachable!("mixed up"),
            Role::Write => self.take_write(token, result, buffer),
            Role::Sync => match result.or_else(|error| self.planted_sync_again(error)) {
                Err(error) if !self.layout.planted.has(PlantedBug::SyncResultIgnored) => {
                    Err(self.latch("sync", &error))
                }
                _ => {
                    if self.latched.is_none() && self.ledger.sync_completed(token).is_some() {
                        self.planted_early(PlantedBug::SyncCoversLaterWrites);
                        self.durable_moved();
                    }
                    Ok(())
                }
            },
        }
    }

    fn take_write(&mut self, token: Token, result: std::io::Result<usize>, buffer: Option<AlignedBuf>) -> Result<()> {
        let at = self.destinations.iter().position(|destination| destination.token == token);
        let mut destination = self.destinations.swap_remove(at.expect("every write in flight has a destination"));
        let written = match result {
            Ok(_) if self.layout.planted.has(PlantedBug::ShortWriteIgnored) => destination.len - destination.written,
            Ok(written) => written,
            Err(_) if self.layout.planted.has(PlantedBug::WriteResultIgnored) => destination.len - destination.written,
            Err(error) => return Err(self.latch("write", &error)),
        };
        // Only whole blocks count: the rest of a short write starts aligned.
        destination.written += written - written % BLOCK_LEN;
        if destination.written > destination.len || (written < BLOCK_LEN && destination.written < destination.len) {
            let error = std::io::Error::new(std::io::ErrorKind::WriteZero, format!("wrote {written} bytes"));
            return Err(self.latch("write", &error));
        }
        let buffer = buffer.expect("a write gives its buffer back");
        if destination.written < destination.len {
            return self.write_rest(destination, buffer);
        }
        let io = &mut self.io;
        self.pool.put(buffer, |capacity| io.buffer(capacity));
        let before = self.ledger.durable();
        self.ledger.write_completed(token);
        if self.ledger.durable() > before {
            self.durable_moved();
        }
        if self.layout.planted.has(PlantedBug::TicketsGrantedEarly) {
            self.publisher.advance(self.ledger.written());
        }
        Ok(())
    }

    fn write_rest(&mut self, mut destination: Destination<S::File>, buffer: AlignedBuf) -> Result<()> {
        let operation = Operation::Write {
            file: destination.file.clone(),
            offset: destination.offset + destination.written as u64,
            buffer,
            range: destination.written..destination.len,
            data_sync: destination.data_sync,
        };
        let token = self.io.submit(operation).map_err(|error| self.latch("submit the rest of a write", &error))?;
        let token = self.planted_token(token);
        self.ledger.write_resubmitted(destination.token, token);
        destination.token = token;
        self.destinations.push(destination);
        Ok(())
    }

    fn durable_moved(&mut self) {
        let durable = self.ledger.durable();
        while let Some((_, records)) = self.records_durable.pop_front_if(|(end, _)| *end <= durable) {
            self.records_synced = records;
        }
        self.files.retire(durable);
        self.publisher.advance(durable);
        self.last_sync = Some(self.clock.now());
    }

    /// Starts the sync that is due; `false` if none is.
    fn start_sync(&mut self) -> Result<bool> {
        let Some((from, to)) = self.ledger.sync_due() else {
            return Ok(false);
        };
        let files: Vec<_> = self.files.touched(from, to).cloned().collect();
        let mut tokens = Vec::with_capacity(files.len());
        for file in files {
            match self.io.submit(Operation::Sync { file }) {
                Ok(token) => tokens.push(self.planted_token(token)),
                Err(error) => return Err(self.latch("submit a sync", &error)),
            }
        }
        self.ledger.sync_submitted(tokens);
        if self.planted_early(PlantedBug::SyncAcknowledgedEarly) {
            self.durable_moved();
        }
        Ok(true)
    }

    /// Takes all that is written for durable, if that is the planted bug.
    fn planted_early(&mut self, bug: PlantedBug) -> bool {
        let planted = self.layout.planted.has(bug);
        if planted {
            self.ledger.planted_all_durable();
        }
        planted
    }

    /// Tries a sync again that failed, if that is the planted bug.
    fn planted_sync_again(&self, error: std::io::Error) -> std::io::Result<usize> {
        if !self.layout.planted.has(PlantedBug::SyncRetriedAfterFailure) {
            return Err(error);
        }
        let (from, to) = (self.ledger.durable(), self.ledger.written());
        self.files.touched(from, to).try_for_each(|file| self.layout.storage.settle(file, 0))?;
        Ok(0)
    }

    /// What an operation in flight is known by: its token.
    fn planted_token(&self, token: Token) -> Token {
        if self.layout.planted.has(PlantedBug::TokenCollision) { Token(token.0 / 2) } else { token }
    }
}
