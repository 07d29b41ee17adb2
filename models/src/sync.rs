//! What the engine finds under `crate::sync`: loom's atomics and locks.
//!
//! Loom takes sequentially consistent reads and writes for acquire and release
//! ones, and knows sequentially consistent fences. So such an access is one with
//! a fence on either side, which is no more than the engine may rely on as long
//! as all accesses that matter are of that kind. A weakened access has neither.

use std::cell::Cell;

use loom::sync::atomic::fence;
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::Ordering;

/// Which accesses are weaker than the engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weak {
    /// None.
    Nothing,
    /// Sequentially consistent ones order nothing with others.
    Sequential,
    /// Writes publish nothing.
    Stores,
    /// Reads see what was published to nobody.
    Loads,
    /// The same of both halves of a read that writes.
    Updates,
}

thread_local! {
    // All threads of a model are run by one.
    static WEAK: Cell<Weak> = const { Cell::new(Weak::Nothing) };
}

/// Until it is dropped, accesses are weaker.
pub(crate) struct Weakened;

pub(crate) fn weaken(weak: Weak) -> Weakened {
    WEAK.set(weak);
    Weakened
}

impl Drop for Weakened {
    fn drop(&mut self) {
        WEAK.set(Weak::Nothing);
    }
}

#[derive(Debug)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        access(order, Weak::Loads, Ordering::Acquire, |order| self.0.load(order))
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        access(order, Weak::Stores, Ordering::Release, |order| self.0.store(value, order));
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old + value)
    }

    pub(crate) fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old.min(value))
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old.max(value))
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old | value)
    }

    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old & value)
    }

    fn update(&self, order: Ordering, change: impl Fn(u64) -> u64) -> u64 {
        access(order, Weak::Updates, Ordering::AcqRel, |order| {
            let failed = if order == Ordering::Relaxed { Ordering::Relaxed } else { Ordering::Acquire };
            self.0.fetch_update(order, failed, |old| Some(change(old))).expect("always some")
        })
    }
}

fn access<T>(order: Ordering, kind: Weak, strongest: Ordering, act: impl FnOnce(Ordering) -> T) -> T {
    let weak = WEAK.get();
    match order {
        _ if weak == kind => act(Ordering::Relaxed),
        Ordering::SeqCst if weak == Weak::Sequential => act(strongest),
        Ordering::SeqCst => {
            fence(Ordering::SeqCst);
            let result = act(strongest);
            fence(Ordering::SeqCst);
            result
        }
        order => act(order),
    }
}
