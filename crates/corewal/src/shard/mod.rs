//! A shard: one core's keys and the log beneath them.

mod entry;
mod log;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corewal_format::{CoreId, Epoch, Lsn, Offsets};
use corewal_io::{FileStorage, Storage};

pub use self::entry::{Entries, Entry};
use self::log::Log;
use crate::checkpoint::Keeper;
use crate::commit::{Commit, Progress};
use crate::durable::{DurableLsn, Ticket};
use crate::epochs::EpochBoard;
use crate::error::{Error, Result};
use crate::recovery::OpenedCore;
use crate::route::Router;
use crate::state::{Change, Keyed, State};
use crate::writer::{Look, Writer};

/// One core's handle: its keys, its log, its part in the epochs. Owned by one
/// thread at a time.
///
/// Changes show in [`Shard::get`] at once; they survive a crash once a
/// [`Shard::commit`] after them is durable, which [`Shard::sync`] waits for.
/// Dropping a shard loses what is not durable, as a crash does;
/// [`Shard::close`] loses nothing.
///
/// After a failed write or sync every call that would change something says
/// [`Error::Latched`], and the state in memory may be ahead of the medium:
/// open the store again.
pub struct Shard<T: State = Keyed, S: Storage = FileStorage> {
    log: Log<S>,
    state: T,
    progress: Progress,
    router: Router,
    /// What went wrong with a release behind a commit, for the next poll to say.
    unsaid: Option<Error>,
}

impl<T: State, S: Storage> fmt::Debug for Shard<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("core", &self.core())
            .field("epoch", &self.log.writer.epoch())
            .field("durable_lsn", &self.log.writer.durable_lsn())
            .field("parked", &self.log.parked)
            .finish_non_exhaustive()
    }
}

impl<T: State, S: Storage> Shard<T, S> {
    pub(crate) fn new(
        core: OpenedCore<S, T>,
        router: Router,
        board: Arc<EpochBoard>,
        keeper: Option<Arc<Keeper<S>>>,
    ) -> Self {
        let OpenedCore { writer, state, progress, .. } = core;
        Self { log: Log::new(writer, board, keeper), state, progress, router, unsaid: None }
    }

    /// The core.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.log.writer.core()
    }

    /// The log beneath, for its positions and counters.
    #[must_use]
    pub fn log(&self) -> &Writer<S> {
        &self.log.writer
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &T {
        &self.state
    }

    /// The source offsets, as the last commit left them.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.progress.offsets
    }

    /// The offset of a source as a number, if it has one of eight bytes.
    #[must_use]
    pub fn offset_u64(&self, name: &str) -> Option<u64> {
        let value = self.progress.offsets.get(name)?;
        Some(u64::from_le_bytes(value.as_slice().try_into().ok()?))
    }

    /// The watermark, as the last commit left it.
    #[must_use]
    pub fn watermark(&self) -> Option<i64> {
        self.progress.watermark
    }

    /// Sets a key. Hands a buffer that is full to the disk; may wait for it when
    /// all are in use, or for the next segment.
    ///
    /// # Errors
    /// [`Error::WrongCore`] if another core owns the key, [`Error::TooLarge`],
    /// [`Error::Parked`], [`Error::Io`] if the next segment cannot be made
    /// (calling again tries again), [`Error::OutOfSpace`] if there is no space
    /// for it, nor was a checkpoint of the newest complete epoch able to free
    /// any: nothing is changed. [`Error::Latched`].
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.owned(key)?;
        self.log.append(|writer| writer.put(key, value))?;
        self.state.apply(Change::Put { key, value });
        Ok(())
    }

    /// Removes a key. Removing one that is not there is no error.
    ///
    /// # Errors
    /// As [`Shard::put`].
    #[inline]
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.owned(key)?;
        self.log.append(|writer| writer.delete(key))?;
        self.state.apply(Change::Delete { key });
        Ok(())
    }

    /// Logs bytes that only the state understands.
    ///
    /// # Errors
    /// As [`Shard::put`].
    #[inline]
    pub fn payload(&mut self, bytes: &[u8]) -> Result<()> {
        self.log.append(|writer| writer.payload(bytes))?;
        self.state.apply(Change::Payload(bytes));
        Ok(())
    }

    /// Ends the batch: everything since the last commit, with these offsets and
    /// this watermark, comes back together or not at all. Also ends the epochs
    /// that the store has announced, and starts the sync that
    /// [`GroupCommit`](crate::GroupCommit) finds due. Returns the position that
    /// is durable when the commit is: see [`Shard::ticket`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] for offsets over their limits, [`Error::Parked`], and
    /// [`Error::Io`] and [`Error::OutOfSpace`] as [`Shard::put`]: the commit is not appended and the batch
    /// stays open. [`Error::Latched`]: whether the commit survives only reopening
    /// tells. What else goes wrong behind a commit that is appended,
    /// [`Shard::poll`] says.
    pub fn commit(&mut self, commit: &Commit) -> Result<Lsn> {
        self.log_all()?;
        let end = self.log.append(|writer| writer.append_commit(commit))?;
        let mut body = Vec::new();
        self.progress.apply(commit.encode_into(&mut body)?);
        // The commit stands. An epoch that could not be ended is ended by the
        // next poll, or the poll says why not.
        if let Err(error) = self.end_announced()
            && error.is_latched()
        {
            return Err(error);
        }
        self.log.writer.group_commit(Look::Away)?;
        self.log.report_ended();
        match self.release() {
            Err(error) if error.is_latched() => return Err(error),
            // What a release says it says once.
            Err(error) => self.unsaid = Some(error),
            Ok(()) => {}
        }
        Ok(end)
    }

    /// Logs the changes that were made through entries.
    fn log_all(&mut self) -> Result<()> {
        let Self { state, log, .. } = self;
        state.log_all(&mut |change| {
            log.append(|writer| match change {
                Change::Put { key, value } => writer.put(key, value),
                Change::Delete { key } => writer.delete(key),
                Change::Payload(bytes) => writer.payload(bytes),
            })?;
            Ok(())
        })
    }

    /// The ticket of a commit that returned `lsn`: to ask, to block another
    /// thread or to await until it is durable.
    #[must_use]
    pub fn ticket(&self, lsn: Lsn) -> Ticket {
        self.log.writer.ticket(lsn)
    }

    /// How far the log is durable, for other threads and for futures.
    #[must_use]
    pub fn durable(&self) -> DurableLsn {
        self.log.writer.durable()
    }

    /// Notes that a checkpoint outside the log, which the user calls `id`,
    /// covers all that came before. Returns its position.
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch, [`Error::Parked`], [`Error::Io`] and
    /// [`Error::OutOfSpace`] as [`Shard::put`]: nothing is appended. [`Error::Latched`].
    pub fn checkpoint_mark(&mut self, id: u64) -> Result<Lsn> {
        self.log.append(|writer| writer.checkpoint_mark(id))
    }

    /// Ends `epoch` here, and every earlier one that has not ended, and starts
    /// making that durable. For those who send their cuts along with their
    /// data, as markers in the channels between threads (Chandy and Lamport,
    /// "Distributed Snapshots", 1985); others let [`Store::announce_epoch`]
    /// and [`Shard::poll`] do it. Do not mix the two.
    ///
    /// [`Store::announce_epoch`]: crate::Store::announce_epoch
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch, [`Error::EpochOver`] if it has
    /// ended, [`Error::Parked`], [`Error::Io`] and [`Error::OutOfSpace`] as
    /// [`Shard::put`]: the epoch does not end here. [`Error::Latched`].
    pub fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        self.log.board.used(epoch);
        let complete = self.log.board.complete();
        self.log.append(|writer| writer.barrier(epoch, complete))?;
        self.log.ending.push_back((epoch, self.log.writer.appended_lsn()));
        self.log.writer.request_sync()?;
        self.log.report_ended();
        Ok(())
    }

    fn end_announced(&mut self) -> Result<()> {
        let announced = self.log.board.announced();
        if announced >= self.log.writer.epoch() && !self.log.writer.batch_open() && !self.log.parked {
            self.end_epoch(announced)?;
        }
        Ok(())
    }

    /// Moves everything on without waiting: takes in what has completed, starts
    /// the sync that is due, by wish or by [`GroupCommit`](crate::GroupCommit),
    /// and ends the epochs that the store has announced, unless a batch is
    /// open. Hands over nothing else: full buffers go with the next append that
    /// needs one, the rest with [`Shard::submit`] or a sync. Cheap enough to
    /// call once a turn of an event loop. It waits in one case: an epoch is to
    /// end and the log has no room for that, as in [`Shard::put`]. Returns the
    /// durable position.
    ///
    /// # Errors
    /// [`Error::Latched`]. [`Error::Io`] or [`Error::OutOfSpace`] if an epoch cannot be ended or a part of
    /// the log not be released, for want of a segment, or if the files of an
    /// earlier release could not be put away: all else that is due was done,
    /// nothing is lost, and calling again tries again.
    pub fn poll(&mut self) -> Result<Lsn> {
        let ended = self.end_announced();
        let durable = self.log.writer.poll();
        // What is durable is so, whatever else failed.
        self.log.report_ended();
        let durable = durable?;
        ended?;
        self.release_or_say()?;
        Ok(durable)
    }

    /// How long the thread may sleep until [`Shard::poll`] has a sync to start
    /// by [`GroupCommit::delay`](crate::GroupCommit::delay): zero if it is due
    /// now, `None` if time alone will start none. It knows nothing of epochs
    /// that will be announced, and of completions that will come: for these,
    /// see [`Shard::event_fd`].
    pub fn next_deadline(&mut self) -> Option<Duration> {
        self.log.writer.next_deadline()
    }

    /// A descriptor that becomes readable when [`Shard::poll`] has something to
    /// take in, for a reactor to sleep on: sleep until it is readable or
    /// [`Shard::next_deadline`] is over, read eight bytes from it, poll.
    ///
    /// `None` if the backend blocks: there is nothing to take in later, and
    /// what was asked to become durable is so when [`Shard::poll`], or the
    /// commit that group commit synced, returns.
    ///
    /// ```
    /// use std::io::Read;
    /// use corewal::{Commit, GroupCommit, Options};
    /// use rustix::event::{PollFd, PollFlags, Timespec, poll};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let policy = GroupCommit::manual().delay(std::time::Duration::from_millis(1));
    /// let mut opened = Options::new().cores(1).group_commit(policy).open(dir.path())?;
    /// let shard = &mut opened.shards[0];
    /// let mut completions = shard.event_fd()?.map(std::fs::File::from);
    /// let end = shard.commit(&Commit::new().offset_u64("orders", 1))?;
    ///
    /// while shard.poll()? < end {
    ///     let deadline = shard.next_deadline().map(|left| Timespec::try_from(left).unwrap());
    ///     let mut ready: Vec<_> = completions.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    ///     // A reactor has the descriptors of its connections in here as well.
    ///     if poll(&mut ready, deadline.as_ref())? > 0 {
    ///         completions.as_mut().unwrap().read_exact(&mut [0; 8])?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the operating system gives none.
    #[cfg(unix)]
    pub fn event_fd(&mut self) -> Result<Option<std::os::fd::OwnedFd>> {
        self.log.writer.event_fd()
    }

    /// Hands everything appended so far to the operating system, without making
    /// it durable. Each call that has something to hand over writes at least one
    /// block of 4 KiB, so call it per batch of commits and not per record.
    ///
    /// # Errors
    /// [`Error::Latched`].
    pub fn submit(&mut self) -> Result<()> {
        self.log.writer.submit()
    }

    /// Asks for everything appended so far to become durable, without waiting
    /// for it: [`Shard::poll`] drives it on.
    ///
    /// # Errors
    /// [`Error::Latched`].
    pub fn request_sync(&mut self) -> Result<()> {
        self.log.writer.request_sync()
    }

    /// As [`Shard::request_sync`], for one of several commits that come together
    /// and are to be durable each on its own: see [`Writer::queue_sync`]. Poll
    /// before the thread sleeps.
    ///
    /// # Errors
    /// [`Error::Latched`].
    pub fn queue_sync(&mut self) -> Result<()> {
        self.log.writer.queue_sync()
    }

    /// Makes everything appended so far durable and waits for it; ends the
    /// epochs that the store has announced, unless a batch is open. Returns the
    /// durable position.
    ///
    /// # Errors
    /// As [`Shard::poll`]: after any but [`Error::Latched`] what was appended is
    /// durable.
    pub fn sync(&mut self) -> Result<Lsn> {
        // Want of a segment keeps nothing that is appended from being durable.
        let before = self.end_announced().and_then(|()| self.release_or_say());
        let durable = self.log.writer.sync()?;
        self.log.report_ended();
        before?;
        self.release_or_say()?;
        Ok(durable)
    }

    /// As [`Shard::release`], after what is left to say of an earlier one.
    fn release_or_say(&mut self) -> Result<()> {
        self.unsaid.take().map_or(Ok(()), Err)?;
        self.release()
    }

    /// Releases what the checkpoints cover, a step further each time.
    fn release(&mut self) -> Result<()> {
        // Behind the record that it is parked nothing may follow.
        if self.log.parked {
            return Ok(());
        }
        let floor = self.log.board.floor(self.log.writer.core());
        self.log.writer.release_step(floor)
    }

    /// Parks the shard, durably: epochs do not wait for it until
    /// [`Shard::unpark`]. For a core that has nothing to do. Waits for the
    /// disk.
    ///
    /// # Errors
    /// [`Error::OpenBatch`] within a batch, [`Error::Io`] and [`Error::OutOfSpace`]
    /// as [`Shard::put`]: the shard is not parked. [`Error::Latched`]: epochs wait for it.
    pub fn park(&mut self) -> Result<()> {
        if !self.log.parked {
            self.log.append(Writer::park)?;
            // Nothing may follow the record, or recovery would not wait for it.
            self.log.parked = true;
        }
        self.log.writer.sync()?;
        self.log.report_ended();
        self.log.board.parked(self.core());
        Ok(())
    }

    /// Takes part again. Waits for the disk: were the record of it lost, an
    /// epoch could seem complete without what this shard does from now on.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::OutOfSpace`] as [`Shard::put`],
    /// [`Error::Latched`]. After one the shard
    /// stays parked, and yet epochs wait for it until another call succeeds.
    pub fn unpark(&mut self) -> Result<()> {
        if !self.log.parked {
            return Ok(());
        }
        let core = self.core();
        let from = self.log.writer.epoch();
        // In this order: first the board stops vouching for epochs to come, and
        // only then is it decided from which epoch on this core takes part. An
        // epoch that gets its number in between waits for this core.
        self.log.board.resumed(core);
        let first = self.log.board.highest().next().max(from);
        self.log.append_parked(|writer| writer.unpark(first))?;
        // Whether the record is on the medium is not known until this returns,
        // so until then epochs wait for this core, and nothing follows it.
        self.log.writer.sync()?;
        self.log.parked = false;
        // What it was parked for counts as ended; nothing does if that is none:
        // an epoch before may be one that a rollback took back.
        if from < first {
            self.log.board.ended(core, Epoch(first.0 - 1));
        }
        Ok(())
    }

    /// Whether the shard is parked.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.log.parked
    }

    /// Makes everything durable and ends the log in order, so that the next
    /// open has nothing to doubt. Epochs are not ended: what comes after the
    /// last complete one is rolled back by an open that goes back to it.
    ///
    /// # Errors
    /// As [`Writer::close`]; within a batch, commit before closing.
    pub fn close(mut self) -> Result<()> {
        self.log.writer.sync()?;
        self.log.report_ended();
        let complete = self.log.board.complete();
        self.log.writer.close(complete)
    }

    #[inline]
    fn owned(&self, key: &[u8]) -> Result<()> {
        let owner = self.router.route(key);
        if owner == self.log.writer.core() {
            Ok(())
        } else {
            Err(Error::WrongCore { core: self.log.writer.core(), owner })
        }
    }
}

impl<S: Storage> Shard<Keyed, S> {
    /// The value of a key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.state.get(key)
    }

    /// Looks for a key, to get its value and change it. What is changed so is
    /// logged by the next commit, and of each key only the last change; sooner,
    /// once very many keys wait for it. Worth it where the same keys change
    /// again and again within a batch: counts, sums, windows.
    ///
    /// ```
    /// use corewal::{Commit, Options};
    ///
    /// # fn main() -> corewal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut opened = Options::new().cores(1).open(dir.path())?;
    /// let shard = &mut opened.shards[0];
    /// let before = shard.log().sequence();
    /// for word in ["to", "be", "or", "not", "to", "be"] {
    ///     let mut count = shard.entry(word.as_bytes())?;
    ///     let now = count.get().map_or(0, |value| value[0]) + 1;
    ///     count.put(&[now])?;
    /// }
    /// shard.commit(&Commit::new())?;
    /// assert_eq!(shard.get(b"be"), Some(&[2][..]));
    /// // Four words and the commit.
    /// assert_eq!(shard.log().sequence().0 - before.0, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongCore`] if another core owns the key, [`Error::TooLarge`].
    #[inline]
    pub fn entry<'s>(&'s mut self, key: &'s [u8]) -> Result<Entry<'s, S>> {
        let found = self.state.look(key);
        Entry::new(self, key, found)
    }

    /// The entries of several keys, one after the other. They are looked for some
    /// tens at a time: in a state larger than the caches a look waits for memory
    /// three times, and so these waits overlap.
    ///
    /// ```
    /// use corewal::{Commit, Options};
    ///
    /// # fn main() -> corewal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut opened = Options::new().cores(1).open(dir.path())?;
    /// let shard = &mut opened.shards[0];
    /// let mut counts = shard.entries(&["to", "be", "or", "not", "to", "be"]);
    /// while let Some(count) = counts.next_entry() {
    ///     let mut count = count?;
    ///     let now = count.get().map_or(0, |value| value[0]) + 1;
    ///     count.put(&[now])?;
    /// }
    /// shard.commit(&Commit::new())?;
    /// assert_eq!(shard.get(b"be"), Some(&[2][..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn entries<'s, K: AsRef<[u8]>>(&'s mut self, keys: &'s [K]) -> Entries<'s, K, S> {
        Entries::new(self, keys)
    }

    /// Logs that a key is set, and leaves the state as it is. For programs that have
    /// values of theirs in memory in a form of their own, and look only there: they
    /// save the search for the key, which in a state larger than the caches is most
    /// of what [`Shard::put`] costs. Opened again, the state has the value. Until
    /// then it is the caller's to have the state follow, before anybody looks for the
    /// key in it: by [`Entries::already_logged`].
    ///
    /// ```
    /// use corewal::{Commit, Options};
    ///
    /// # fn main() -> corewal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut opened = Options::new().cores(1).open(dir.path())?;
    /// let shard = &mut opened.shards[0];
    /// for visits in 1..=3_u64 {
    ///     shard.log_put(b"visits", &visits.to_le_bytes())?;
    ///     shard.commit(&Commit::new())?;
    /// }
    /// assert_eq!(shard.get(b"visits"), None);
    /// let mut entries = shard.entries(&["visits"]).already_logged();
    /// entries.next_entry().expect("one for each")?.put(&3_u64.to_le_bytes())?;
    /// assert_eq!(shard.get(b"visits"), Some(&3_u64.to_le_bytes()[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Shard::put`].
    #[inline]
    pub fn log_put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.owned(key)?;
        self.log.append(|writer| writer.put(key, value))?;
        Ok(())
    }

    /// Logs that a key is removed, and leaves the state as it is: see
    /// [`Shard::log_put`].
    ///
    /// # Errors
    /// As [`Shard::put`].
    #[inline]
    pub fn log_delete(&mut self, key: &[u8]) -> Result<()> {
        self.owned(key)?;
        self.log.append(|writer| writer.delete(key))?;
        Ok(())
    }

    /// The keys that begin with `prefix`, in byte order, with their values.
    pub fn scan<'s>(&'s mut self, prefix: &'s [u8]) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + 's {
        self.state.scan(prefix)
    }
}
