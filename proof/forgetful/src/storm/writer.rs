//! The process that writes. Unlike the victim of `corewal torture` it is
//! stubborn: when a core is refused it goes on asking, so that whoever would
//! acknowledge something after a failed sync is given every occasion.
//!
//! It prints `open EPOCH OFFSET` once, `ack EPOCH OFFSET` for each epoch that
//! the store calls complete, `latched CORE` when a core refuses work for good,
//! and `went-on CORE CALL` if a call of such a core succeeds, which none may.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use corewal::io::FileStorage;
use corewal::{Commit, CoreId, Epoch, Keyed, Opened, Store};

use super::io::Io;
use super::workload::{Operation, SOURCE, Scratch, Workload};
use super::{options, workload};
use crate::Write;

type Shard = corewal::Shard<Keyed, FileStorage>;

/// A core may be so many epochs ahead of the slowest. Not less: what is ahead
/// is what an opening has to roll back.
const LEAD: u64 = 8;
const PAUSE: Duration = Duration::from_micros(100);
/// What is refused and can be asked for again is, so many times.
const TRIES: u32 = 200;
/// So often a latched core is asked all it can be asked.
const PROBES: u32 = 20;

/// Writes until it is killed, or until all cores were refused for good.
pub(crate) fn run(args: &Write) -> Result<()> {
    let workload = workload(args.seed, args.keys);
    let options = options(args.cores);
    #[cfg(feature = "planted-bugs")]
    let options = super::plant::planted(options, args.plant);
    let storage = Io::storage(args.io);
    let Opened { store, shards, report } = options.open_on(storage, &args.dir, |_| Keyed::default())?;
    let done = shards.first().and_then(|shard| shard.offset_u64(SOURCE)).unwrap_or(0);
    tell(format_args!("open {} {done}", report.complete_epoch))?;

    let first = store.next_epoch();
    let left = Arc::new(AtomicUsize::new(shards.len()));
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = shards
        .into_iter()
        .map(|shard| {
            let (left, over) = (Arc::clone(&left), Arc::clone(&over));
            let mut core = Core { shard, store: store.clone(), workload, over };
            thread::spawn(move || {
                let latched = core.work(first, done);
                let probed = if latched { core.probe() } else { Ok(()) };
                // The others wait for this core and would wait for ever.
                core.over.store(true, Ordering::Release);
                left.fetch_sub(1, Ordering::Release);
                probed
            })
        })
        .collect();

    let mut acknowledged = report.complete_epoch.max(Epoch(first.get() - 1));
    loop {
        // In this order: what was complete when the last core left is told.
        let all_left = left.load(Ordering::Acquire) == 0;
        let complete = store.complete_epoch();
        if complete > acknowledged {
            acknowledged = complete;
            let offset = done + (complete.get() - first.get() + 1) * workload.epoch_length();
            tell(format_args!("ack {complete} {offset}"))?;
        }
        if all_left {
            break;
        }
        thread::sleep(PAUSE);
    }
    for thread in threads {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(())
}

fn tell(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// One core and its part of the workload.
struct Core {
    shard: Shard,
    store: Store<FileStorage>,
    workload: Workload,
    over: Arc<AtomicBool>,
}

/// Why a core stopped.
enum Stop {
    /// It is latched.
    Latched,
    /// It was refused too often, or another core has stopped.
    GaveUp,
}

impl Core {
    /// Works until it is latched (true) or gives up.
    fn work(&mut self, first: Epoch, done: u64) -> bool {
        let mut random = fastrand::Rng::new();
        let length = self.workload.epoch_length();
        let mut scratch = Scratch::default();
        for n in 0.. {
            let (epoch, begin) = (Epoch(first.get() + n), done + n * length);
            let sync = random.u8(0..4) > 0;
            let half = begin + random.u64(0..=4 * length);
            match self.one_epoch(epoch, begin, half, sync, &mut scratch) {
                Ok(()) => {}
                Err(stop) => return matches!(stop, Stop::Latched),
            }
        }
        unreachable!("no disk holds so many epochs")
    }

    fn one_epoch(
        &mut self,
        epoch: Epoch,
        begin: u64,
        half: u64,
        sync: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        let end = begin + self.workload.epoch_length();
        for at in begin..end {
            let operation = self.workload.operation(at, scratch);
            if self.store.route(operation.key()) == self.shard.core() {
                self.ask(|shard| match operation {
                    Operation::Put(key, value) => shard.put(key, value),
                    Operation::Delete(key) => shard.delete(key),
                })?;
            }
            if at == half {
                // A durable commit within an epoch, which going back to a
                // complete epoch must not show.
                self.ask(|shard| shard.commit(&Commit::new().offset_u64(SOURCE, at + 1)).map(drop))?;
            }
        }
        let commit = self.workload.commit(end);
        self.ask(|shard| shard.commit(&commit).map(drop))?;
        self.ask(|shard| shard.end_epoch(epoch))?;
        if sync {
            self.ask(|shard| shard.sync().map(drop))?;
        }
        while epoch.get() > self.store.complete_epoch().get() + LEAD {
            if self.over.load(Ordering::Acquire) {
                return Err(Stop::GaveUp);
            }
            self.ask(|shard| shard.sync().map(drop))?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Asks again and again. A core that is latched says so each time; what is
    /// refused for another reason was not done and may go well the next time.
    fn ask(&mut self, call: impl Fn(&mut Shard) -> corewal::Result<()>) -> Result<(), Stop> {
        for _ in 0..TRIES {
            match call(&mut self.shard) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_latched() => return Err(Stop::Latched),
                Err(_) => thread::sleep(PAUSE),
            }
        }
        Err(Stop::GaveUp)
    }

    /// Asks a latched core for everything, and tells what it grants.
    fn probe(&mut self) -> Result<()> {
        let core: CoreId = self.shard.core();
        tell(format_args!("latched {core}"))?;
        for _ in 0..PROBES {
            let next = self.shard.log().epoch();
            let granted = [
                ("sync", self.shard.sync().is_ok()),
                ("put", self.shard.put(b"key-000000", b"stubborn").is_ok()),
                ("commit", self.shard.commit(&Commit::new()).is_ok()),
                ("end_epoch", self.shard.end_epoch(next).is_ok()),
                ("submit", self.shard.submit().is_ok()),
                ("request_sync", self.shard.request_sync().is_ok()),
                ("poll", self.shard.poll().is_ok()),
            ];
            for (call, _) in granted.iter().filter(|(_, granted)| *granted) {
                tell(format_args!("went-on {core} {call}"))?;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}
