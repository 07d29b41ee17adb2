//! The hand-off of the durable position.

#[path = "../../crates/corewal/src/durable/handoff.rs"]
mod handoff;

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use corewal_format::Lsn;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use self::handoff::{End, Handoff};
use crate::error::{Error, Result};

/// A waker by which a thread of the model sleeps. One that is never woken is a
/// deadlock, which loom reports.
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { rung: Mutex::new(false), heard: Condvar::new() })
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }
}

/// As `DurableLsn::wait` does it.
fn wait(handoff: &Handoff, lsn: Lsn) -> Result<Lsn> {
    let bell = Bell::new();
    let waker = Waker::from(Arc::clone(&bell));
    let mut place = None;
    loop {
        match handoff.poll(lsn, &mut place, &waker) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => bell.sleep(),
        }
    }
}

/// The owner makes two steps, a waiter waits for the second; what the owner did
/// before is seen by who waited for it.
pub fn one_waits() {
    let handoff = Arc::new(Handoff::new(Lsn(0)));
    let written = Arc::new(AtomicU64::new(0));
    let waiter = {
        let (handoff, written) = (Arc::clone(&handoff), Arc::clone(&written));
        thread::spawn(move || {
            let durable = wait(&handoff, Lsn(2)).expect("the owner lives");
            assert!(durable >= Lsn(2));
            assert_eq!(written.load(Ordering::Relaxed), 2, "durable, and not seen");
        })
    };
    handoff.advance(Lsn(1));
    written.store(2, Ordering::Relaxed);
    handoff.advance(Lsn(2));
    waiter.join().unwrap();
}

/// Two wait for different positions; the last of them lowers and raises what the
/// owner looks at.
pub fn two_wait() {
    let handoff = Arc::new(Handoff::new(Lsn(0)));
    let waiters = [1, 2].map(|lsn| {
        let handoff = Arc::clone(&handoff);
        thread::spawn(move || assert!(wait(&handoff, Lsn(lsn)).expect("the owner lives") >= Lsn(lsn)))
    });
    handoff.advance(Lsn(2));
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

/// The owner makes a step and is gone: who waited for that step has it, who
/// waited for more is told.
pub fn the_owner_goes(reached: bool) {
    let handoff = Arc::new(Handoff::new(Lsn(0)));
    let waiter = {
        let handoff = Arc::clone(&handoff);
        thread::spawn(move || match wait(&handoff, Lsn(if reached { 1 } else { 2 })) {
            Ok(durable) => assert!(reached && durable == Lsn(1)),
            Err(error) => assert!(!reached && matches!(error, Error::WriterGone { lsn: Lsn(2) }), "{error:?}"),
        })
    };
    handoff.advance(Lsn(1));
    handoff.end(End::Gone);
    waiter.join().unwrap();
}

/// A waiter gives up while its moment comes; nothing is left of it, and another
/// one is still woken.
pub fn one_gives_up() {
    let handoff = Arc::new(Handoff::new(Lsn(0)));
    let mut place = None;
    assert!(handoff.poll(Lsn(1), &mut place, Waker::noop()).is_pending());
    let waiter = {
        let handoff = Arc::clone(&handoff);
        thread::spawn(move || assert_eq!(wait(&handoff, Lsn(2)).expect("the owner lives"), Lsn(2)))
    };
    let owner = {
        let handoff = Arc::clone(&handoff);
        thread::spawn(move || handoff.advance(Lsn(2)))
    };
    handoff.leave(&mut place);
    waiter.join().unwrap();
    owner.join().unwrap();
}
