//! Pushing in the background: on an interval, or when asked to.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use corewal_format::Epoch;
use tokio::sync::watch;

use crate::archive::Owner;
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::moment;
use crate::types::Term;

/// Shortest wait after a failed push; it doubles with each that follows, up to
/// the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait of a drop for the thread.
const LONGEST_DROP: Duration = Duration::from_secs(5);

/// How the archive is doing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// The newest epoch that can be restored from the archive; 0 if none.
    pub epoch: Epoch,
    /// When a push was last acknowledged, in nanoseconds since the Unix epoch;
    /// `None` if none was.
    pub acknowledged_ns: Option<i64>,
    /// Pushes acknowledged.
    pub pushes: u64,
    /// Whether a push is under way.
    pub pushing: bool,
    /// Files that the push under way, or the last that failed, had still to
    /// read when it began.
    pub waiting_files: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Why the last push failed; `None` if it did not.
    pub error: Option<Arc<Error>>,
    /// The owner that took the archive away. No push follows.
    pub fenced: Option<Term>,
}

/// A thread that keeps the archive of a store up to date. Dropping it stops
/// it; a push under way is given up, within five seconds.
#[derive(Debug)]
pub struct Archiver {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    status: Status,
    /// Pushes asked for; those that had been when the push under way, or the
    /// last one, began; the same of the last that was acknowledged or failed.
    asked: u64,
    begun: u64,
    finished: u64,
    stop: bool,
    ended: bool,
}

impl Archiver {
    /// Starts the thread. `inventory` is called on it before each push, and
    /// tells why if it has nothing to give; the first push begins at once.
    ///
    /// # Errors
    /// [`Error::Stopped`] if no thread can be started.
    pub fn start(
        owner: Owner,
        interval: Duration,
        inventory: impl FnMut() -> Result<Inventory> + Send + 'static,
    ) -> Result<Self> {
        let status = Status { epoch: owner.epoch(), ..Status::default() };
        let state = State { status, asked: 1, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (stop, stopped) = watch::channel(false);
        let thread_shared = Arc::clone(&shared);
        let work = move || {
            let _end = End(&thread_shared);
            work(&thread_shared, owner, interval, inventory, &stopped);
        };
        thread::Builder::new().name("corewal-archiver".to_owned()).spawn(work).map_err(|_| Error::Stopped)?;
        Ok(Self { shared, stop })
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// Asks for a push as soon as the one under way, if any, has ended.
    pub fn poke(&self) {
        self.shared.lock().asked += 1;
        self.shared.changed.notify_all();
    }

    /// Pushes now, and waits until a push that began after this call has been
    /// acknowledged. Gives the newest epoch that can then be restored.
    ///
    /// # Errors
    /// Why that push failed; [`Error::Timeout`] if it takes longer than
    /// `within` (it goes on); [`Error::Stopped`].
    pub fn flush(&self, within: Duration) -> Result<Epoch, Arc<Error>> {
        let deadline = Instant::now() + within;
        let mut state = self.shared.lock();
        state.asked += 1;
        let mine = state.asked;
        self.shared.changed.notify_all();
        while state.finished < mine {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended {
                return Err(state.status.error.clone().unwrap_or(Arc::new(Error::Stopped)));
            }
            if left.is_zero() {
                let key = "the archive".to_owned();
                return Err(Arc::new(Error::Timeout { doing: "flush", key, after: within }));
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match &state.status.error {
            Some(error) => Err(Arc::clone(error)),
            None => Ok(state.status.epoch),
        }
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + LONGEST_DROP;
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // A file call hangs. The thread ends when it does, and no
                // push of it is acknowledged.
                return;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread has ended, however it did.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

fn work(
    shared: &Shared,
    mut owner: Owner,
    interval: Duration,
    mut inventory: impl FnMut() -> Result<Inventory>,
    stopped: &watch::Receiver<bool>,
) {
    let mut failures = 0;
    loop {
        let begun = {
            let mut state = shared.lock();
            if state.stop {
                return;
            }
            state.begun = state.asked;
            state.status.pushing = true;
            state.begun
        };
        let pushed = push(shared, &mut owner, &mut inventory, stopped.clone());
        let mut state = shared.lock();
        state.finished = begun;
        state.status.pushing = false;
        match pushed {
            Ok(epoch) => {
                failures = 0;
                state.status.epoch = epoch;
                state.status.acknowledged_ns = Some(moment::now_ns());
                state.status.pushes += 1;
                (state.status.waiting_files, state.status.waiting_bytes) = (0, 0);
                state.status.error = None;
            }
            Err(error) => {
                failures += 1;
                if let Error::Fenced { by } = error {
                    state.status.fenced = Some(by);
                }
                let last = matches!(error, Error::Fenced { .. } | Error::Stopped);
                state.status.error = Some(Arc::new(error));
                if last {
                    return;
                }
            }
        }
        shared.changed.notify_all();
        let pause = match failures {
            0 => interval,
            _ => interval.min(FIRST_PAUSE * 2_u32.pow(u32::min(failures - 1, 16))),
        };
        let idle = |state: &mut State| !state.stop && state.asked == state.begun;
        let _ = shared.changed.wait_timeout_while(state, pause, idle).unwrap_or_else(PoisonError::into_inner);
    }
}

fn push(
    shared: &Shared,
    owner: &mut Owner,
    inventory: &mut impl FnMut() -> Result<Inventory>,
    mut stopped: watch::Receiver<bool>,
) -> Result<Epoch> {
    let inventory = inventory()?;
    let waiting = owner.waiting(&inventory)?;
    {
        let mut state = shared.lock();
        (state.status.waiting_files, state.status.waiting_bytes) = waiting;
    }
    let stop = async move {
        // An archiver that is gone without a word wants it stopped too.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    owner.push_unless(&inventory, stop).map(|pushed| pushed.epoch)
}
