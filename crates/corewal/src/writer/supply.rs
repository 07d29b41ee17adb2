//! The supply of segments: what a writer asks of the workshop, and gets when
//! it is ready. Asking and looking take no system call; what has to be done
//! is handed over by [`Supply::flush`], together with a write or a poll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use corewal_format::{SegmentId, SegmentIdentity};
use corewal_io::Storage;

use super::files::OpenSegment;
use super::pace::Pace;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::parallel;
use crate::segments::{Want, Workshop};

/// Who does the work of all cores of a store.
pub(crate) struct Crew<S: Storage> {
    /// `None` where the work is done on the core's own thread.
    jobs: Option<Sender<Job<S>>>,
    stop: Arc<AtomicBool>,
    thread: Option<parallel::Background>,
}

struct Job<S: Storage> {
    workshop: Arc<Workshop<S>>,
    task: Task,
    mailbox: Arc<Mailbox<S>>,
    clock: Arc<dyn Clock>,
    answered: bool,
}

#[derive(Debug)]
enum Task {
    Make(Want),
    TakeBack(Vec<SegmentId>),
}

impl<S: Storage> Crew<S> {
    /// Does the work on the thread that asks for it, so that a simulation sees
    /// one order of steps.
    pub(crate) fn inline() -> Self {
        Self { jobs: None, stop: Arc::default(), thread: None }
    }

    /// Does the work on a thread of its own, which ends with the last writer.
    pub(crate) fn background() -> Result<Self> {
        let (jobs, orders) = channel::<Job<S>>();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            for job in orders {
                job.run(&stopped);
            }
        };
        let thread = parallel::background("corewal-segments", work)
            .map_err(|error| Error::io("start a thread for", std::path::Path::new("the segments"), error))?;
        Ok(Self { jobs: Some(jobs), stop, thread: Some(thread) })
    }
}

impl<S: Storage> Drop for Crew<S> {
    /// Waits for the thread: nothing may change in the directory once its lock
    /// is gone.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

impl<S: Storage> Job<S> {
    fn run(mut self, stop: &AtomicBool) {
        match &self.task {
            Task::Make(want) if !stop.load(Ordering::Relaxed) => {
                self.workshop.hold(*want, stop);
                // Only now: how long the work takes says something of the medium,
                // how long it was held back does not.
                let began = self.clock.now().0;
                let made = self.workshop.make(*want, stop);
                let took = self.clock.now().0.saturating_sub(began);
                self.answer(made.map(|segment| (segment, took)));
            }
            Task::Make(_) => {}
            Task::TakeBack(segments) => {
                if let Err(error) = self.workshop.take_back(segments) {
                    self.mailbox.complain(error);
                }
            }
        }
    }

    fn answer(&mut self, made: Result<Made<S>>) {
        self.answered = true;
        self.mailbox.put(made);
    }
}

impl<S: Storage> Drop for Job<S> {
    /// A writer may be waiting: it gets an answer also from a thread that died.
    fn drop(&mut self) {
        if matches!(self.task, Task::Make(_)) && !self.answered {
            let gone = std::io::Error::other("the thread that makes segments has stopped");
            self.answer(Err(Error::io("make a segment in", self.workshop.dir(), gone)));
        }
    }
}

/// Where finished segments wait for their writer.
struct Mailbox<S: Storage> {
    /// Whether `content.made` is there, for a look that costs nothing.
    full: AtomicBool,
    content: Mutex<Content<S>>,
    arrived: Condvar,
}

/// A segment, and the nanoseconds that it took.
type Made<S> = (OpenSegment<<S as Storage>::File>, u64);

struct Content<S: Storage> {
    made: Option<Result<Made<S>>>,
    complaint: Option<Error>,
}

impl<S: Storage> Mailbox<S> {
    fn new() -> Self {
        let content = Mutex::new(Content { made: None, complaint: None });
        Self { full: AtomicBool::new(false), content, arrived: Condvar::new() }
    }

    fn content(&self) -> MutexGuard<'_, Content<S>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, made: Result<Made<S>>) {
        let mut content = self.content();
        content.made = Some(made);
        // Under the lock: who has waited for it sees it here too.
        self.full.store(true, Ordering::Release);
        drop(content);
        self.arrived.notify_all();
    }

    fn complain(&self, error: Error) {
        self.content().complaint = Some(error);
    }

    fn take(&self) -> Option<Result<Made<S>>> {
        if !self.full.load(Ordering::Acquire) {
            return None;
        }
        self.full.store(false, Ordering::Relaxed);
        self.content().made.take()
    }

    fn wait(&self) {
        let mut content = self.content();
        while content.made.is_none() {
            content = self.arrived.wait(content).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where the next segment is.
enum Next<F> {
    /// Asked for, not handed over.
    Wanted(Want),
    Making(Want),
    Ready(OpenSegment<F>),
    Failed(Want, Error),
}

/// One writer's supply. There is always a next segment: ready or on its way.
pub(crate) struct Supply<S: Storage> {
    crew: Arc<Crew<S>>,
    workshop: Arc<Workshop<S>>,
    mailbox: Arc<Mailbox<S>>,
    next: Next<S::File>,
    released: Vec<SegmentId>,
    /// The size of the smallest segment, in bytes, for want of space.
    least: u64,
    /// Segments were given back since it was asked for: if it could not be made,
    /// the reason may be gone.
    given_back: bool,
    /// The writer cannot go on without the next segment.
    missed: bool,
    clock: Arc<dyn Clock>,
    pace: Pace,
}

impl<S: Storage> std::fmt::Debug for Supply<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supply").field("ready", &matches!(self.next, Next::Ready(_))).finish_non_exhaustive()
    }
}

impl<S: Storage> Supply<S> {
    /// A supply whose next segment is `ready`, or `want` if there is none.
    pub(crate) fn new(
        crew: Arc<Crew<S>>,
        workshop: Workshop<S>,
        clock: Arc<dyn Clock>,
        ready: Option<OpenSegment<S::File>>,
        want: Want,
    ) -> Self {
        let mailbox = Arc::new(Mailbox::new());
        let next = ready.map_or(Next::Wanted(want), Next::Ready);
        let least = want.least;
        Self {
            least,
            crew,
            workshop: Arc::new(workshop),
            mailbox,
            next,
            released: Vec::new(),
            given_back: false,
            missed: false,
            clock,
            pace: Pace::unknown(),
        }
    }

    /// The next segment, with `capacity` bytes at least. `None` while it is not
    /// ready, or not large enough; then it is on its way after the next
    /// [`Supply::flush`].
    ///
    /// # Errors
    /// Why it could not be made, when it has been tried for this very need.
    /// Calling again tries again.
    pub(crate) fn ready(&mut self, capacity: u64) -> Result<Option<&OpenSegment<S::File>>> {
        self.take_in();
        let missed = std::mem::replace(&mut self.missed, true);
        match &mut self.next {
            Next::Ready(segment) if segment.capacity < capacity => {
                let SegmentIdentity { segment, base_lsn, .. } = segment.identity;
                let least = capacity;
                self.next = Next::Wanted(Want { segment, base_lsn, capacity, least, must: false, hurried: true });
                Ok(None)
            }
            Next::Wanted(want) => {
                want.hold(capacity);
                want.hurried = true;
                Ok(None)
            }
            Next::Failed(want, _) => {
                let mut want = *want;
                want.hold(capacity);
                match std::mem::replace(&mut self.next, Next::Wanted(want)) {
                    Next::Failed(_, error) if missed && !std::mem::take(&mut self.given_back) => Err(error),
                    // It failed when nobody needed it: the reason may be gone.
                    _ => Ok(None),
                }
            }
            Next::Making(_) => Ok(None),
            Next::Ready(_) => {
                (self.missed, self.given_back) = (false, false);
                let Next::Ready(segment) = &self.next else { unreachable!("matched above") };
                Ok(Some(segment))
            }
        }
    }

    /// Takes the segment that is ready, and asks for the one behind it, whose
    /// size follows from its own.
    pub(crate) fn take(&mut self, grown: impl FnOnce(u64) -> u64) -> OpenSegment<S::File> {
        let Next::Ready(segment) = &self.next else { panic!("the caller has seen that it is ready") };
        let (id, base_lsn) = (segment.identity.segment.next(), segment.next_base());
        let hurried = self.pace.next(segment.capacity, self.clock.now().0);
        let capacity = grown(segment.capacity);
        let want = Want { segment: id, base_lsn, capacity, least: self.least, must: false, hurried };
        let Next::Ready(segment) = std::mem::replace(&mut self.next, Next::Wanted(want)) else {
            unreachable!("matched above")
        };
        segment
    }

    /// Has the next segment made even if that passes the budget.
    pub(crate) fn insist(&mut self) {
        if let Next::Wanted(want) = &mut self.next {
            want.must = true;
        }
    }

    /// Whether the next segment is ready. Asks for nothing.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.take_in();
        matches!(self.next, Next::Ready(_))
    }

    /// Gives the files of released segments back.
    pub(crate) fn give_back(&mut self, segments: impl Iterator<Item = SegmentId>) {
        self.released.extend(segments);
        self.given_back = true;
    }

    /// What went wrong with files that were given back.
    pub(crate) fn complaint(&mut self) -> Result<()> {
        self.mailbox.content().complaint.take().map_or(Ok(()), Err)
    }

    /// Whether the writer waits for a segment that is being made.
    pub(crate) fn is_missed(&self) -> bool {
        self.missed && matches!(self.next, Next::Making(_))
    }

    /// Blocks until the segment that is being made is there, or cannot be.
    pub(crate) fn wait(&mut self) {
        if matches!(self.next, Next::Making(_)) {
            self.mailbox.wait();
            self.take_in();
        }
    }

    /// Hands over what there is to do.
    pub(crate) fn flush(&mut self) {
        if !self.released.is_empty() {
            let released = std::mem::take(&mut self.released);
            self.order(Task::TakeBack(released));
        }
        if let Next::Wanted(want) = self.next {
            self.next = Next::Making(want);
            self.order(Task::Make(want));
        }
    }

    fn order(&self, task: Task) {
        let (workshop, mailbox) = (Arc::clone(&self.workshop), Arc::clone(&self.mailbox));
        let job = Job { workshop, task, mailbox, clock: Arc::clone(&self.clock), answered: false };
        match &self.crew.jobs {
            // A job that finds nobody answers for itself.
            Some(jobs) => drop(jobs.send(job)),
            None => job.run(&self.crew.stop),
        }
    }

    fn take_in(&mut self) {
        if let Next::Making(want) = self.next
            && let Some(made) = self.mailbox.take()
        {
            self.next = match made {
                Ok((segment, took)) => {
                    if !want.hurried {
                        self.pace.made(segment.capacity, took);
                    }
                    Next::Ready(segment)
                }
                Err(error) => Next::Failed(want, error),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use corewal_format::{CoreId, LogId, Lsn, TimestampNs};
    use corewal_io::SimStorage;

    use super::*;
    use crate::checkpoint::Backlog;
    use crate::clock::ManualClock;
    use crate::layout::Layout;
    use crate::scan::LogIdentity;

    /// Who waits for one does not wait for zeros; who fills segments as fast as they
    /// are filled with zeros does not share the medium with them.
    #[test]
    fn segments_are_made_in_a_hurry_for_who_waits_and_for_who_is_fast() {
        let crew = Arc::new(Crew::<SimStorage>::inline());
        let layout = Layout::new(SimStorage::default(), std::path::Path::new("/"));
        let log = LogIdentity { log_id: LogId([1; 16]), core: CoreId(0), cores: 1, covered: Lsn(0) };
        layout.storage.create_dir(&layout.core_dir(log.core)).unwrap();
        let want = Want::exactly(SegmentId(0), Lsn(0), 8192);
        let clock = Arc::new(ManualClock::new(TimestampNs(0)));
        let mut supply = Supply::new(crew, Workshop::new(layout, log), Arc::clone(&clock) as _, None, want);
        let next = |supply: &mut Supply<SimStorage>, ahead: bool, filled_in: u64| {
            if ahead {
                supply.flush();
            } else {
                assert!(supply.ready(8192).unwrap().is_none());
                let Next::Wanted(want) = supply.next else { panic!("it is asked for") };
                assert!(want.hurried);
                supply.flush();
            }
            assert!(supply.ready(8192).unwrap().is_some());
            clock.set(TimestampNs(clock.now().0 + filled_in));
            supply.take(|capacity| capacity);
            let Next::Wanted(want) = supply.next else { panic!("it is asked for when one is taken") };
            want.hurried
        };
        assert!(!next(&mut supply, true, 0));
        assert!(!next(&mut supply, false, 0));
        supply.pace.made(8192, 1000);
        assert!(next(&mut supply, false, 3999));
        assert!(!next(&mut supply, true, 4000));
    }

    /// It was counted once: behind a long checkpoint the next segment was made
    /// without zeros, however slow the writer was.
    #[test]
    fn what_a_segment_waits_for_a_checkpoint_is_not_its_time() {
        let layout = Layout::new(SimStorage::default(), std::path::Path::new("/"));
        let backlog = Backlog::of(2_000, true);
        layout.space.set_backlog(Arc::clone(&backlog));
        let log = LogIdentity { log_id: LogId([1; 16]), core: CoreId(0), cores: 1, covered: Lsn(0) };
        layout.storage.create_dir(&layout.core_dir(log.core)).unwrap();
        let want = Want { must: false, ..Want::exactly(SegmentId(0), Lsn(0), 8192) };
        let clock = Arc::new(ManualClock::new(TimestampNs(0)));
        let crew = Arc::new(Crew::background().unwrap());
        let mut supply = Supply::new(crew, Workshop::new(layout, log), Arc::clone(&clock) as _, None, want);
        supply.pace.made(1, 1);
        supply.flush();
        while backlog.held() == 0 {
            std::thread::yield_now();
        }
        clock.set(TimestampNs(1_000_000_000));
        backlog.set_busy(false);
        supply.wait();
        assert!(supply.is_ready());
        assert_eq!(supply.pace.zeros(), (8192, 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a bound on waiting, should it hang")]
    fn a_thread_that_died_fails_the_segment_and_leaves_nobody_waiting() {
        let crew = Crew::<SimStorage>::background().unwrap();
        // What a panic on the thread comes to: its end of the channel is gone.
        let (jobs, orders) = channel();
        drop(orders);
        let crew = Arc::new(Crew {
            jobs: Some(jobs),
            stop: Arc::default(),
            thread: {
                drop(crew);
                None
            },
        });
        let layout = Layout::new(SimStorage::default(), std::path::Path::new("/db"));
        let log = LogIdentity { log_id: LogId([1; 16]), core: CoreId(0), cores: 1, covered: Lsn(0) };
        let want = Want::exactly(SegmentId(1), Lsn(4096), 8192);
        let mut supply =
            Supply::new(crew, Workshop::new(layout, log), Arc::new(ManualClock::new(TimestampNs(0))), None, want);
        let began = Instant::now();
        assert!(supply.ready(8192).unwrap().is_none());
        supply.flush();
        supply.wait();
        let error = supply.ready(8192).unwrap_err();
        assert!(error.to_string().contains("has stopped"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
