//! The process that is killed: opens, goes on where the store says, and tells
//! what is durable.
//!
//! It prints `open EPOCH OFFSET` once, and `ack EPOCH OFFSET` for each epoch
//! that the store calls complete. A line that can't be written ends it, so it
//! does not outlive the one who kills it.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use corewal::{Budget, Commit, CoreId, Epoch, Error, Keyed, Opened, Shard, Store};

use super::workload::{Operation, SOURCE, Scratch, Workload};
use crate::args::TortureChild;
use crate::exit::Failure;

/// A core may be so many epochs ahead of the slowest. Not less: what is ahead
/// is what an opening has to roll back.
const LEAD: u64 = 8;
const PAUSE: Duration = Duration::from_micros(100);
/// How often a put is tried that the budget has no room for.
const TRIES: u32 = 200;

/// Works until it is killed.
pub(super) fn run(dir: &Path, args: &TortureChild) -> Result<(), Failure> {
    let (setup, workload) = (args.setup, args.setup.workload(args.seed));
    let options = match args.budget {
        Some(bytes) => setup.options().budget(Budget::bytes(bytes)),
        None => setup.options(),
    };
    let Opened { store, shards, report } = options.open_on(setup.io.storage(), dir, |_| Keyed::default())?;
    let done = shards.first().and_then(|shard| shard.offset_u64(SOURCE)).unwrap_or(0);
    tell("open", report.complete_epoch, done)?;

    let first = store.next_epoch();
    let failed = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = shards
        .into_iter()
        .map(|shard| {
            let mut core = Core { shard, store: store.clone(), workload, failed: Arc::clone(&failed) };
            thread::spawn(move || {
                let ended = core.work(first, done);
                core.failed.store(true, Ordering::Release);
                ended
            })
        })
        .collect();

    let mut acknowledged = report.complete_epoch.max(Epoch(first.get() - 1));
    while !failed.load(Ordering::Acquire) {
        let complete = store.complete_epoch();
        if complete > acknowledged {
            acknowledged = complete;
            tell("ack", complete, done + (complete.get() - first.get() + 1) * workload.epoch_length())?;
        }
        thread::sleep(PAUSE);
    }
    for thread in threads {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(())
}

fn tell(what: &str, epoch: Epoch, offset: u64) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {epoch} {offset}")?;
    out.flush()?;
    Ok(())
}

/// One core and its part of the workload.
struct Core {
    shard: Shard,
    store: Store,
    workload: Workload,
    failed: Arc<AtomicBool>,
}

impl Core {
    fn work(&mut self, first: Epoch, done: u64) -> Result<(), Failure> {
        // How a core syncs may differ from run to run; what it writes may not.
        let mut random = fastrand::Rng::new();
        let length = self.workload.epoch_length();
        let mut scratch = Scratch::default();
        for n in 0.. {
            let (epoch, begin) = (Epoch(first.get() + n), done + n * length);
            let half = begin + random.u64(0..=4 * length);
            for at in begin..begin + length {
                let operation = self.workload.operation(at, &mut scratch);
                self.apply(operation)?;
                if at == half {
                    // A durable commit within an epoch, which going back to a
                    // complete epoch must not show.
                    self.shard.commit(&Commit::new().offset_u64(SOURCE, at + 1))?;
                }
            }
            self.shard.commit(&self.workload.commit(begin + length))?;
            self.shard.end_epoch(epoch)?;
            if random.u8(0..4) > 0 {
                self.shard.sync()?;
            }
            while epoch.get() > self.store.complete_epoch().get() + LEAD {
                if self.failed.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.shard.sync()?;
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn apply(&mut self, operation: Operation<'_>) -> corewal::Result<()> {
        let core: CoreId = self.shard.core();
        if self.store.route(operation.key()) != core {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            let done = match operation {
                Operation::Put(key, value) => self.shard.put(key, value),
                Operation::Delete(key) => self.shard.delete(key),
            };
            match done {
                // A checkpoint of what the other cores end may make room.
                Err(Error::OutOfSpace { budget: Some(_), .. }) if tries < TRIES => {
                    tries += 1;
                    self.shard.poll()?;
                    thread::sleep(10 * PAUSE);
                }
                done => return done,
            }
        }
    }
}
