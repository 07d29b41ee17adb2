//! The hand-off: the owner of a log says how far it is durable, any thread
//! waits for that. An atomic and, only where somebody waits, a list under a
//! mutex.
//!
//! The owner stores `durable` and then reads `nearest`; who waits lowers
//! `nearest` and then reads `durable`. All four are sequentially consistent,
//! so one of the two sees the other, and no waiter sleeps through its moment.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::task::{Poll, Waker};

use corewal_format::Lsn;

use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// `nearest` where nobody waits.
const NOBODY: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Handoff {
    durable: AtomicU64,
    /// Nobody waits for less than this. It may be lower than what the nearest
    /// waits for, when that one has given up.
    nearest: AtomicU64,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    /// By position, then by number: who is first in it is due first.
    wakers: BTreeMap<Place, Waker>,
    next_number: u64,
    end: Option<End>,
}

/// What a waiter waits for, and its number among those that do.
pub(super) type Place = (Lsn, u64);

/// Why nobody waits any more. Behind a failure the position may still move:
/// writes that were in flight beside the failed one complete.
#[derive(Clone, Debug)]
pub(super) enum End {
    Latched { kind: io::ErrorKind, cause: String },
    Gone,
}

impl Handoff {
    pub(super) fn new(durable: Lsn) -> Self {
        Self { durable: AtomicU64::new(durable.0), nearest: AtomicU64::new(NOBODY), list: Mutex::default() }
    }

    pub(super) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::SeqCst))
    }

    /// The owner: everything below `durable` survives a power loss.
    pub(super) fn advance(&self, durable: Lsn) {
        self.durable.store(durable.0, Ordering::SeqCst);
        if self.nearest.load(Ordering::SeqCst) <= durable.0 {
            self.wake_up_to(durable);
        }
    }

    #[cold]
    fn wake_up_to(&self, durable: Lsn) {
        let mut list = self.list();
        let later = match durable.checked_add(1) {
            Some(next) => list.wakers.split_off(&(next, 0)),
            None => BTreeMap::new(),
        };
        let due = mem::replace(&mut list.wakers, later);
        let nearest = list.wakers.first_key_value().map_or(NOBODY, |((lsn, _), _)| lsn.0);
        self.nearest.store(nearest, Ordering::SeqCst);
        // A waker is code of somebody else's, which may come back here.
        drop(list);
        due.into_values().for_each(Waker::wake);
    }

    /// The owner: nobody need wait any longer. The first reason stays.
    pub(super) fn end(&self, end: End) {
        let mut list = self.list();
        list.end.get_or_insert(end);
        let all = mem::take(&mut list.wakers);
        self.nearest.store(NOBODY, Ordering::SeqCst);
        drop(list);
        all.into_values().for_each(Waker::wake);
    }

    /// Whether `lsn` is reached, or never will be. Otherwise `waker` is called
    /// once, when it is worth asking again; `place` is where it stands.
    pub(super) fn poll(&self, lsn: Lsn, place: &mut Option<Place>, waker: &Waker) -> Poll<Result<Lsn>> {
        if let Some(durable) = self.reached(lsn) {
            self.leave(place);
            return Poll::Ready(Ok(durable));
        }
        let waker = waker.clone();
        let mut list = self.list();
        let at = *place.get_or_insert_with(|| {
            list.next_number += 1;
            (lsn, list.next_number)
        });
        let replaced = list.wakers.insert(at, waker);
        self.nearest.fetch_min(lsn.0, Ordering::SeqCst);
        // In this order, so that an owner that has gone is not believed before
        // what it said last. After a failure the position may move behind this
        // look: the waiter is told of the failure, which is true as well.
        let end = list.end.clone();
        let durable = self.reached(lsn);
        drop(list);
        drop(replaced);
        let outcome = match (durable, end) {
            (Some(durable), _) => Ok(durable),
            (None, None) => return Poll::Pending,
            (None, Some(End::Latched { kind, cause })) => Err(Error::Latched { cause, kind }),
            (None, Some(End::Gone)) => Err(Error::WriterGone { lsn }),
        };
        self.leave(place);
        Poll::Ready(outcome)
    }

    /// Gives a place up; nothing else changes.
    pub(super) fn leave(&self, place: &mut Option<Place>) {
        if let Some(place) = place.take() {
            // The waker is dropped after the lock is.
            let waker = self.list().wakers.remove(&place);
            drop(waker);
        }
    }

    fn reached(&self, lsn: Lsn) -> Option<Lsn> {
        Some(self.durable()).filter(|durable| lsn <= *durable)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // Nothing panics under the lock but for want of memory.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.list().wakers.len()
    }
}
