//! Many seeds on all threads, each seed on one; and the report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::check::Session;
use super::{Outcome, Profile, Workload, bare, life};

/// A number of crash states to look at, from seed `first` on, of at most so
/// many seeds.
pub(crate) struct Campaign {
    pub(crate) first: u64,
    pub(crate) states: u64,
    pub(crate) seeds: u64,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Crashes that were opened and compared.
    pub(crate) states: u64,
    /// Of these, those that opened from a checkpoint; whose checkpoint had more
    /// than one run in some core; and whose logs had been released in part.
    pub(crate) from_checkpoint: u64,
    pub(crate) piled: u64,
    pub(crate) released: u64,
    /// And those whose number of cores had been changed.
    pub(crate) resharded: u64,
    /// Stores that were made of copies, on another disk.
    pub(crate) restored: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.states += other.states;
        self.from_checkpoint += other.from_checkpoint;
        self.piled += other.piled;
        self.released += other.released;
        self.resharded += other.resharded;
        self.restored += other.restored;
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    pub(crate) seeds: u64,
    pub(crate) slowest: (u64, Duration),
    pub(crate) took: Duration,
    /// The lowest seed that broke a promise, and how.
    pub(crate) violation: Option<(u64, String)>,
}

impl Campaign {
    /// Runs seeds until the states are reached or a promise is broken.
    pub(crate) fn run(&self, profile: impl Fn(u64) -> Profile + Sync) -> Report {
        let began = Instant::now();
        let (next, states, stop) = (AtomicU64::new(self.first), AtomicU64::new(0), AtomicBool::new(false));
        let found = Mutex::new((None::<(u64, String)>, (0, Duration::ZERO), Counts::default()));
        let work = || {
            while !stop.load(Ordering::Relaxed) && states.load(Ordering::Relaxed) < self.states {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed - self.first >= self.seeds {
                    break;
                }
                let began = Instant::now();
                let (looked_at, outcome) = run_seed(&profile(seed));
                states.fetch_add(looked_at.states, Ordering::Relaxed);
                let mut found = found.lock().expect("a panic is caught within the seed");
                found.2.add(looked_at);
                if began.elapsed() > found.1.1 {
                    found.1 = (seed, began.elapsed());
                }
                if let Err(error) = outcome {
                    stop.store(true, Ordering::Relaxed);
                    if found.0.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        found.0 = Some((seed, error));
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let (violation, slowest, counts) = found.into_inner().expect("the threads are done");
        let seeds = (next.into_inner() - self.first).min(self.seeds);
        Report { counts, seeds, slowest, took: began.elapsed(), violation }
    }
}

/// Runs one seed. Gives the crash states it looked at.
pub(crate) fn run_seed(profile: &Profile) -> (Counts, Outcome) {
    let session = Session::by_chance(profile);
    let run = || match profile.workload {
        Workload::Shards | Workload::Faults => life::run(&session),
        Workload::Bare => bare::run(&session),
    };
    let outcome = caught(run);
    (session.counts.get(), outcome)
}

/// A panic of the engine is the violation that it is.
pub(crate) fn caught(run: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without words")))
    })
}

/// How many states a run looks at: `COREWAL_CRASH_STATES`, or `default`.
pub(crate) fn states_from_environment(default: u64) -> u64 {
    let number = |text: String| text.parse().expect("COREWAL_CRASH_STATES is a number");
    std::env::var("COREWAL_CRASH_STATES").map_or(default, number)
}

/// The one seed to replay: `COREWAL_CRASH_SEED`.
pub(crate) fn seed_from_environment() -> Option<u64> {
    let number = |text: String| text.parse().expect("COREWAL_CRASH_SEED is a number");
    std::env::var("COREWAL_CRASH_SEED").ok().map(number)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.counts.states as f64 / self.took.as_secs_f64();
        write!(
            f,
            "{} crash states of {} seeds in {:.1} s ({rate:.0}/s), the slowest seed {} took {:.2} s; \
             {} with a checkpoint, {} with one of several runs, {} with a released log, {} on another number of cores; {} stores made of copies",
            self.counts.states,
            self.seeds,
            self.took.as_secs_f64(),
            self.slowest.0,
            self.slowest.1.as_secs_f64(),
            self.counts.from_checkpoint,
            self.counts.piled,
            self.counts.released,
            self.counts.resharded,
            self.counts.restored
        )
    }
}
