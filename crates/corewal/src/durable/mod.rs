//! Waiting for what is durable: by asking, by sleeping, by a future.

mod bell;
mod handoff;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corewal_format::Lsn;

use self::bell::Bell;
use self::handoff::{End, Handoff, Place};
use crate::error::Result;

/// How far one core's log is durable, for any thread to read and to wait on.
/// From [`Shard::durable`](crate::Shard::durable); cheap to clone.
///
/// It only looks on: the log's owner has to go on polling (or to sync), or the
/// position never moves. So **the owner's thread must not block on it**; it
/// would wait for itself. Dropping a wait cancels nothing and leaves nothing
/// behind. Reading takes no lock; the owner takes one only when somebody waits
/// for a position that has just become durable.
///
/// ```
/// use corewal::{Commit, Options};
///
/// # fn main() -> corewal::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let mut opened = Options::new().cores(1).open(dir.path())?;
/// let shard = &mut opened.shards[0];
/// let end = shard.commit(&Commit::new().offset_u64("orders", 1))?;
/// let durable = shard.durable();
/// let acknowledger = std::thread::spawn(move || durable.wait(end));
/// shard.sync()?;
/// assert!(acknowledger.join().unwrap()? >= end); // now the order is accepted
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DurableLsn {
    handoff: Arc<Handoff>,
}

impl DurableLsn {
    /// Everything below survives a power loss.
    #[must_use]
    pub fn get(&self) -> Lsn {
        self.handoff.durable()
    }

    /// Whether everything below `lsn`, such as the commit that returned it, is
    /// durable.
    #[must_use]
    pub fn is_durable(&self, lsn: Lsn) -> bool {
        lsn <= self.get()
    }

    /// Blocks this thread until everything below `lsn` is durable, and gives
    /// the durable position, which may be further on. An `lsn` that nothing
    /// has been appended to yet is waited for as well.
    ///
    /// # Errors
    /// [`Error::Latched`](crate::Error::Latched) once a write or a sync has
    /// failed, [`Error::WriterGone`](crate::Error::WriterGone) once the shard
    /// or writer has been dropped, if `lsn` was not durable by then. Whether it
    /// is on the medium only reopening tells.
    pub fn wait(&self, lsn: Lsn) -> Result<Lsn> {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut reached = self.reached(lsn);
        loop {
            match reached.poll_by(&waker) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => bell.sleep(),
            }
        }
    }

    /// As [`DurableLsn::wait`], for no longer than `timeout`; `None` when the
    /// time is over, which changes nothing: the commit goes its way.
    ///
    /// # Errors
    /// As [`DurableLsn::wait`].
    pub fn wait_timeout(&self, lsn: Lsn, timeout: Duration) -> Result<Option<Lsn>> {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut reached = self.reached(lsn);
        if reached.poll_by(&waker).is_pending() {
            bell.sleep_at_most(timeout);
        }
        match reached.poll_by(&waker) {
            Poll::Ready(outcome) => outcome.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// A future of the same, for any executor.
    ///
    /// It may run on the owner's thread, as a task beside the one that polls
    /// the shard.
    pub fn reached(&self, lsn: Lsn) -> Reached {
        Reached { durable: self.clone(), lsn, place: None }
    }

    /// The ticket of a position, such as a commit returned.
    #[must_use]
    pub fn ticket(&self, lsn: Lsn) -> Ticket {
        Ticket { durable: self.clone(), lsn }
    }
}

impl fmt::Debug for DurableLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DurableLsn").field(&self.get()).finish()
    }
}

/// Becomes ready when a position is durable, with the durable position, or
/// never will be. From [`DurableLsn::reached`]; errors as [`DurableLsn::wait`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Reached {
    durable: DurableLsn,
    lsn: Lsn,
    place: Option<Place>,
}

impl Reached {
    fn poll_by(&mut self, waker: &Waker) -> Poll<Result<Lsn>> {
        self.durable.handoff.poll(self.lsn, &mut self.place, waker)
    }
}

impl Future for Reached {
    type Output = Result<Lsn>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_by(context.waker())
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.durable.handoff.leave(&mut self.place);
    }
}

/// The ticket of one commit: whether it is durable yet, and a wait for it, by
/// thread or by `.await`. From [`Shard::ticket`](crate::Shard::ticket).
///
/// It holds nothing back and dropping it cancels nothing.
///
/// ```
/// use corewal::{Commit, GroupCommit, Options, Shard, Ticket};
///
/// /// Answers the client once its order cannot be lost any more.
/// async fn acknowledge(order: u64, ticket: Ticket) -> corewal::Result<()> {
///     ticket.await?;
///     println!("order {order} is accepted");
///     Ok(())
/// }
///
/// fn take_order(shard: &mut Shard, order: u64) -> corewal::Result<Ticket> {
///     shard.put(&order.to_le_bytes(), b"...")?;
///     let end = shard.commit(&Commit::new().offset_u64("orders", order))?;
///     Ok(shard.ticket(end))
/// }
/// # fn main() -> corewal::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let mut opened = Options::new().cores(1).group_commit(GroupCommit::each()).open(dir.path())?;
/// # let ticket = take_order(&mut opened.shards[0], 1)?;
/// # opened.shards[0].sync()?;
/// # assert!(ticket.is_durable());
/// # let waker = std::task::Waker::noop();
/// # let mut task = std::pin::pin!(acknowledge(1, ticket));
/// # assert!(task.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Ticket {
    durable: DurableLsn,
    lsn: Lsn,
}

impl Ticket {
    /// The position that has to become durable.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether it is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable.is_durable(self.lsn)
    }

    /// As [`DurableLsn::wait`], with its warning: not on the owner's thread.
    ///
    /// # Errors
    /// As [`DurableLsn::wait`].
    pub fn wait(&self) -> Result<Lsn> {
        self.durable.wait(self.lsn)
    }

    /// As [`DurableLsn::wait_timeout`].
    ///
    /// # Errors
    /// As [`DurableLsn::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Lsn>> {
        self.durable.wait_timeout(self.lsn, timeout)
    }
}

impl IntoFuture for Ticket {
    type Output = Result<Lsn>;
    type IntoFuture = Reached;

    fn into_future(self) -> Reached {
        Reached { durable: self.durable, lsn: self.lsn, place: None }
    }
}

/// The owner's side. Its end is the end of the writer.
#[derive(Debug)]
pub(crate) struct Publisher {
    handoff: Arc<Handoff>,
}

impl Publisher {
    pub(crate) fn new(durable: Lsn) -> Self {
        Self { handoff: Arc::new(Handoff::new(durable)) }
    }

    /// Everything below `durable` survives a power loss.
    pub(crate) fn advance(&self, durable: Lsn) {
        self.handoff.advance(durable);
    }

    /// A write or a sync has failed.
    pub(crate) fn latched(&self, kind: io::ErrorKind, cause: &str) {
        self.handoff.end(End::Latched { kind, cause: cause.to_owned() });
    }

    pub(crate) fn handle(&self) -> DurableLsn {
        DurableLsn { handoff: Arc::clone(&self.handoff) }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.handoff.end(End::Gone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::error::Error;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn poll(self: &Arc<Self>, reached: &mut Reached) -> Poll<Result<Lsn>> {
            reached.poll_by(&Waker::from(Arc::clone(self)))
        }

        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn ready(poll: Poll<Result<Lsn>>) -> Option<u64> {
        match poll {
            Poll::Ready(outcome) => Some(outcome.expect("durable").0),
            Poll::Pending => None,
        }
    }

    #[test]
    fn only_those_whose_moment_has_come_are_woken_and_once() {
        let publisher = Publisher::new(Lsn(10));
        let durable = publisher.handle();
        let (near, far) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let (mut to_20, mut to_30) = (durable.reached(Lsn(20)), durable.reached(Lsn(30)));
        assert_eq!(ready(near.poll(&mut durable.reached(Lsn(10)))), Some(10), "no need to wait");
        assert_eq!((ready(near.poll(&mut to_20)), ready(far.poll(&mut to_30))), (None, None));
        publisher.advance(Lsn(19));
        assert_eq!((near.woken(), far.woken()), (0, 0));
        publisher.advance(Lsn(25));
        publisher.advance(Lsn(26));
        assert_eq!((near.woken(), far.woken()), (1, 0));
        assert_eq!((ready(near.poll(&mut to_20)), ready(far.poll(&mut to_30))), (Some(26), None));
        publisher.advance(Lsn(30));
        assert_eq!((near.woken(), far.woken()), (1, 1));
        assert_eq!(durable.handoff.waiting(), 0);
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let publisher = Publisher::new(Lsn(0));
        let durable = publisher.handle();
        let counter = Arc::new(Counter::default());
        let mut waits: Vec<_> = (0..100).map(|lsn| durable.reached(Lsn(1 + lsn % 7))).collect();
        assert!(waits.iter_mut().all(|wait| counter.poll(wait).is_pending()));
        // Polled again: still one place each.
        assert!(waits.iter_mut().all(|wait| counter.poll(wait).is_pending()));
        assert_eq!((durable.handoff.waiting(), Arc::strong_count(&counter)), (100, 101));
        drop(waits);
        assert_eq!((durable.handoff.waiting(), Arc::strong_count(&counter)), (0, 1));
        publisher.advance(Lsn(9));
        assert_eq!((counter.woken(), durable.get()), (0, Lsn(9)));
    }

    #[test]
    fn the_waker_polled_last_is_the_one_that_is_called() {
        let publisher = Publisher::new(Lsn(0));
        let (first, second) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let mut reached = publisher.handle().reached(Lsn(1));
        assert!(first.poll(&mut reached).is_pending());
        assert!(second.poll(&mut reached).is_pending());
        publisher.advance(Lsn(1));
        assert_eq!((first.woken(), second.woken()), (0, 1));
    }

    #[test]
    fn the_end_wakes_everybody_and_what_was_durable_stays_so() {
        let publisher = Publisher::new(Lsn(0));
        let durable = publisher.handle();
        let counter = Arc::new(Counter::default());
        let (mut early, mut late) = (durable.reached(Lsn(5)), durable.reached(Lsn(9)));
        assert!(counter.poll(&mut early).is_pending() && counter.poll(&mut late).is_pending());
        publisher.advance(Lsn(5));
        publisher.latched(io::ErrorKind::StorageFull, "no room");
        assert_eq!(counter.woken(), 2);
        assert_eq!(ready(counter.poll(&mut early)), Some(5));
        let Poll::Ready(Err(error)) = counter.poll(&mut late) else { panic!("it never will be") };
        assert!(error.is_latched() && error.to_string().contains("no room"), "{error}");
        drop(publisher);
        assert!(durable.wait(Lsn(9)).is_err_and(|error| error.is_latched()), "the first reason stays");
        assert_eq!(durable.handoff.waiting(), 0);

        let publisher = Publisher::new(Lsn(3));
        let ticket = publisher.handle().ticket(Lsn(4));
        let mut reached = ticket.clone().into_future();
        assert!(counter.poll(&mut reached).is_pending());
        drop(publisher);
        assert_eq!(counter.woken(), 3);
        for outcome in [counter.poll(&mut reached), Poll::Ready(ticket.wait())] {
            assert!(matches!(outcome, Poll::Ready(Err(Error::WriterGone { lsn: Lsn(4) }))), "{outcome:?}");
        }
        assert_eq!(ticket.durable.wait(Lsn(3)).unwrap(), Lsn(3));
    }

    #[test]
    fn a_timeout_gives_up_the_place_and_nothing_else() {
        let publisher = Publisher::new(Lsn(0));
        let ticket = publisher.handle().ticket(Lsn(1));
        assert_eq!(ticket.wait_timeout(Duration::from_millis(1)).unwrap(), None);
        assert_eq!(ticket.durable.handoff.waiting(), 0);
        publisher.advance(Lsn(2));
        assert_eq!(ticket.wait_timeout(Duration::ZERO).unwrap(), Some(Lsn(2)));
    }

    /// A waker may drop other waits of the same log, or begin some.
    #[test]
    fn a_waker_may_come_back() {
        struct Meddler(std::sync::Mutex<Vec<Reached>>, DurableLsn);
        impl Wake for Meddler {
            fn wake(self: Arc<Self>) {
                self.0.lock().unwrap().clear();
                assert_eq!(self.1.wait(Lsn(1)).unwrap(), Lsn(1));
            }
        }
        let publisher = Publisher::new(Lsn(0));
        let durable = publisher.handle();
        let mut other = durable.reached(Lsn(7));
        assert!(other.poll_by(Waker::noop()).is_pending());
        let meddler = Arc::new(Meddler(std::sync::Mutex::new(vec![other]), durable.clone()));
        let mut reached = durable.reached(Lsn(1));
        assert!(reached.poll_by(&Waker::from(meddler)).is_pending());
        publisher.advance(Lsn(1));
        assert_eq!(durable.handoff.waiting(), 0);
    }

    #[test]
    fn handles_may_go_anywhere() {
        fn anywhere<T: Send + Sync + Unpin + 'static>() {}
        anywhere::<DurableLsn>();
        anywhere::<Ticket>();
        anywhere::<Reached>();
    }
}
