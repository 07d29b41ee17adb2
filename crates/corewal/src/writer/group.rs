//! Group commit in one writer: the policy is asked at each commit and each
//! poll, and what it says is done. And what others wait and sleep on.

use std::time::Duration;

use corewal_format::Lsn;
#[cfg(unix)]
use corewal_io::StorageIo;
use corewal_io::{Storage, Wait};

use super::Writer;
use crate::durable::{DurableLsn, Ticket};
#[cfg(unix)]
use crate::error::Error;
use crate::error::Result;
use crate::group::{Backlog, Decision};

/// Whether the age of a batch is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// No: a commit reads no clock, but for the first of a batch.
    Away,
    AtTheClock,
}

impl<S: Storage> Writer<S> {
    /// How far the log is durable, for other threads and for futures.
    #[must_use]
    pub fn durable(&self) -> DurableLsn {
        self.publisher.handle()
    }

    /// The ticket of a commit that returned `lsn`.
    #[must_use]
    pub fn ticket(&self, lsn: Lsn) -> Ticket {
        self.durable().ticket(lsn)
    }

    /// How long the thread may sleep until [`Writer::poll`] has a sync to start
    /// by [`GroupCommit::delay`](crate::GroupCommit::delay): zero if it is due
    /// now, `None` if time alone will start none.
    pub fn next_deadline(&mut self) -> Option<Duration> {
        if self.latched.is_some() {
            return None;
        }
        match self.decide(Look::AtTheClock) {
            Decision::Sync => Some(Duration::ZERO),
            Decision::Wait(left) => Some(left),
            Decision::Nothing => None,
        }
    }

    /// A descriptor that becomes readable when [`Writer::poll`] has something
    /// to take in; see [`Shard::event_fd`](crate::Shard::event_fd). It does not
    /// become readable when the next segment is there, after [`Error::Full`]
    /// for want of it: see [`Writer::wait`].
    ///
    /// # Errors
    /// [`Error::Io`] if the operating system gives none.
    #[cfg(unix)]
    pub fn event_fd(&mut self) -> Result<Option<std::os::fd::OwnedFd>> {
        self.io.event_fd().map_err(|error| Error::io("make a descriptor to sleep on for", &self.layout.dir, error))
    }

    /// A commit was appended.
    pub(super) fn count_commit(&mut self) {
        let policy = self.tuning.group;
        if !policy.is_manual() {
            let first = self.pending.add(self.appended_lsn(), self.asked());
            if first && policy.looks_at_time() {
                self.pending.began(self.clock.now());
            }
        }
    }

    /// Starts the sync that the policy finds due, if it does. Returns the
    /// durable position: where the backend blocks, the sync is over by then.
    pub(crate) fn group_commit(&mut self, look: Look) -> Result<Lsn> {
        if self.decide(look) == Decision::Sync {
            self.request_sync()?;
            self.drive(Wait::No)?;
        }
        Ok(self.durable_lsn())
    }

    fn decide(&mut self, look: Look) -> Decision {
        let policy = self.tuning.group;
        let asked = self.asked();
        let commits = self.pending.commits(asked);
        if policy.is_manual() || commits == 0 {
            return Decision::Nothing;
        }
        let age = match look {
            Look::AtTheClock if policy.looks_at_time() => self.pending.age(self.clock.now()),
            _ => Duration::ZERO,
        };
        let in_flight = asked.0 - self.durable_lsn().0;
        policy.decide(Backlog { commits, bytes: self.pending.bytes(asked), age, in_flight })
    }

    /// Everything below is durable or on its way to be.
    fn asked(&self) -> Lsn {
        self.ledger.wanted().max(self.ledger.durable())
    }
}
