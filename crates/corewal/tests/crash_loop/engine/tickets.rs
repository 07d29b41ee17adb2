//! Tickets of commits and waits for them, each held to what the log says: who
//! waits is woken at the moment, told the truth, and not before.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use corewal::io::SimStorage;
use corewal::{DurableLsn, Error, Lsn, Reached, Shard, Ticket};
use fastrand::Rng;

use super::probe::Probe;
use super::{Outcome, ensure};

/// Whether a wait was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A future that was polled and is pending.
struct Waiting {
    reached: Reached,
    flag: Arc<Flag>,
}

impl Waiting {
    fn poll(&mut self) -> Poll<corewal::Result<Lsn>> {
        let waker = Waker::from(Arc::clone(&self.flag));
        Pin::new(&mut self.reached).poll(&mut Context::from_waker(&waker))
    }
}

/// The tickets of one core's commits that are not durable yet.
pub(crate) struct Tickets {
    durable: DurableLsn,
    held: VecDeque<(Ticket, Option<Waiting>)>,
}

impl Tickets {
    pub(crate) fn of(shard: &Shard<Probe, SimStorage>) -> Self {
        Self { durable: shard.durable(), held: VecDeque::new() }
    }

    /// Takes the ticket of a commit, and sometimes waits for it.
    pub(crate) fn take(&mut self, lsn: Lsn, rng: &mut Rng) {
        let ticket = self.durable.ticket(lsn);
        let waiting = rng.bool().then(|| {
            let mut waiting = Waiting { reached: ticket.clone().into_future(), flag: Arc::default() };
            let pending = waiting.poll().is_pending();
            pending.then_some(waiting)
        });
        self.held.push_back((ticket, waiting.flatten()));
        // Who gives up changes nothing.
        if rng.u8(0..8) == 0 {
            self.held.remove(rng.usize(0..self.held.len()));
        }
    }

    /// Holds all tickets to what the log says, and gives the position up to
    /// which they say that it is durable.
    pub(crate) fn observe(&mut self, shard: &Shard<Probe, SimStorage>, latched: bool) -> Outcome<u64> {
        let durable = shard.log().durable_lsn();
        ensure!(self.durable.get() == durable, "the handle says {}, the log {durable}", self.durable.get());
        let mut kept = VecDeque::new();
        for (ticket, waiting) in self.held.drain(..) {
            let reached = ticket.lsn() <= durable;
            ensure!(ticket.is_durable() == reached, "{ticket:?} at {durable}: {}", ticket.is_durable());
            let over = reached || latched;
            if let Some(mut waiting) = waiting {
                let woken = waiting.flag.0.load(Ordering::Relaxed);
                ensure!(woken == over, "the wait for {} at {durable}: woken {woken}", ticket.lsn());
                if over {
                    let told = waiting.poll();
                    let right = match &told {
                        Poll::Ready(Ok(position)) => reached && *position == durable,
                        Poll::Ready(Err(error)) => !reached && error.is_latched(),
                        Poll::Pending => false,
                    };
                    ensure!(right, "the wait for {} at {durable} ends with {told:?}", ticket.lsn());
                } else {
                    kept.push_back((ticket, Some(waiting)));
                }
            } else if !over {
                kept.push_back((ticket, None));
            }
        }
        self.held = kept;
        Ok(durable.get())
    }

    /// The shard is gone. What its last moment made durable stays so.
    pub(crate) fn end(&mut self) -> Outcome {
        for (ticket, waiting) in self.held.drain(..) {
            let woken = waiting.is_none_or(|waiting| waiting.flag.0.load(Ordering::Relaxed));
            let told = ticket.wait();
            let right = match &told {
                Ok(_) => ticket.is_durable(),
                Err(error) => matches!(error, Error::WriterGone { .. } | Error::Latched { .. }),
            };
            ensure!(woken && right, "the shard is gone, the wait for {}: woken {woken}, {told:?}", ticket.lsn());
        }
        Ok(())
    }
}
