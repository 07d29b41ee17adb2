//! `ingest`: one thread reads, one thread a core keeps the keys.
//!
//! ```text
//! sources → reader ─ batches, barriers ─→ core 0: fold, log, commit, sync
//!                  └─────────────────────→ core 1: …
//! ```
//!
//! At each barrier all cores commit how far the sources were read, so the
//! state and the offsets of the last complete epoch belong together, and the
//! next run goes on from exactly there.

mod batch;
mod committed;
mod job;
mod lanes;
mod reader;
mod rejects;
mod show;
mod spec;
mod summary;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use corewal::{Keyed, Opened, Options, Shard};

use self::committed::Committed;
use self::job::Job;
use self::lanes::{Inlet, Lanes};
use self::reader::{Counts, OpenEpoch, Reader, Stop};
use self::rejects::Rejects;
use self::show::Show;
use self::spec::Spec;
use self::summary::Summary;
use self::worker::{Alarm, Outcome};
use crate::args::{Common, Ingest, Recover};
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::reduce::Reduce;

/// Does what `corewal ingest` asks for.
pub(crate) fn run(common: &Common, args: &Ingest) -> Result<Exit, Failure> {
    args.check()?;
    let job = Job::of(args)?;
    let sources = Spec::all(args)?;
    // Before anything is created.
    sources.iter().try_for_each(Spec::check)?;
    let rejects = args.rejects.as_deref();
    let mut rejects = rejects.map(|path| Rejects::open(path, sources.iter().map(Spec::path))).transpose()?;

    let Opened { store, shards, report } = open(common, args)?;
    eprintln!("{report}");
    let committed = agreed(&shards, common, args)?;
    let job_is_stored = committed.check_job(&job, &common.dir)?;
    if !job_is_stored && shards.iter().any(|shard| !shard.state().is_empty()) {
        return Err(Failure::usage(format!(
            "the store in {} has keys that `ingest` did not put there: use another --dir",
            common.dir.display()
        )));
    }
    let resumed = check_sources(&sources, &committed)?;
    if let Some(rejects) = &mut rejects {
        rejects.take_up(&committed)?;
    }

    let began = Instant::now();
    // What is durable stays so, whenever the process ends.
    let interrupted = interrupt::watch("finishing the epoch", || {})?;
    let failed = Arc::new(AtomicBool::new(false));
    let (lanes, inlets) = Lanes::new(store.router());
    let workers = start(shards, inlets, &args.reduce, &failed)?;
    let reader = Reader {
        store,
        lanes,
        sources: &sources,
        committed: &committed,
        job: (!job_is_stored).then_some(&job),
        rejects,
        every: args.epoch_every,
        follow: args.follow,
        interrupted: Arc::clone(&interrupted),
        failed,
        show: Show::new(&sources),
        open: OpenEpoch::new(),
        counts: Counts::default(),
    };
    let (counts, outcomes) = read(reader, workers)?;

    let mut commits = worker::histogram();
    for outcome in &outcomes {
        commits.add(&outcome.commits)?;
    }
    let summary = Summary {
        counts,
        rejected_ever: committed.rejected()? + counts.rejected,
        keys: outcomes.iter().map(|outcome| outcome.keys).sum(),
        resumed,
        time: began.elapsed(),
        commits,
        interrupted: interrupted.load(Ordering::Acquire),
    };
    summary.print(common.json)?;
    Ok(Exit::Done)
}

fn open(common: &Common, args: &Ingest) -> Result<Opened, Failure> {
    let options = Options::new().recover(args.recover.into());
    let options = match args.cores {
        Some(cores) => options.cores(cores),
        None => options,
    };
    Ok(options.open_on(args.io.storage(), &common.dir, |_| Keyed::default())?)
}

/// What the cores agree on.
fn agreed(shards: &[Shard], common: &Common, args: &Ingest) -> Result<Committed, Failure> {
    let dir = common.dir.display();
    Committed::of(shards).ok_or_else(|| match args.recover {
        Recover::Latest => Failure::data(format!(
            "the cores of {dir} do not stand at the same source offsets, so going on from the latest of each would count \
             records twice or not at all: run it with --recover complete-epoch"
        )),
        Recover::CompleteEpoch => Failure::data(format!(
            "the cores of {dir} ended the same epoch with different source offsets: the store was not made by `ingest`, \
             or is damaged; run `corewal verify`, or use another --dir"
        )),
    })
}

/// Finds what is wrong with the sources as a whole before the first of them is
/// read. Gives where those that earlier runs have begun are taken up.
fn check_sources(sources: &[Spec], committed: &Committed) -> Result<Vec<(String, u64)>, Failure> {
    let mut resumed = Vec::new();
    for spec in sources {
        let Some(name) = spec.name() else { continue };
        let Some(resume) = committed.resume(name, spec.format())? else { continue };
        if !spec.is_stream() {
            spec.open(Some(&resume))?;
        }
        resumed.push((name.to_owned(), resume.position));
    }
    Ok(resumed)
}

type Worker = JoinHandle<Result<Option<Outcome>, Failure>>;

/// Starts a thread for each core, pinned to a processor of its own where there
/// are enough of them.
fn start(
    shards: Vec<Shard>,
    inlets: Vec<Inlet>,
    reduce: &Reduce,
    failed: &Arc<AtomicBool>,
) -> Result<Vec<Worker>, Failure> {
    let mut processors = core_affinity::get_core_ids().unwrap_or_default();
    if processors.len() < shards.len() {
        processors.clear();
    }
    let mut processors = processors.into_iter();
    let mut workers = Vec::with_capacity(shards.len());
    for (shard, inlet) in shards.into_iter().zip(inlets) {
        let (reduce, alarm, processor) = (reduce.clone(), Alarm::new(failed), processors.next());
        let work = move || {
            if let Some(processor) = processor {
                // It works elsewhere too.
                let _ = core_affinity::set_for_current(processor);
            }
            worker::run(shard, &inlet, &reduce, alarm)
        };
        let name = format!("core-{}", workers.len());
        workers.push(thread::Builder::new().name(name).spawn(work)?);
    }
    Ok(workers)
}

/// Reads, and waits for the cores. If anything fails, its cause is what comes
/// back: a core's own error rather than the reader's that the core is gone.
fn read(mut reader: Reader<'_>, workers: Vec<Worker>) -> Result<(Counts, Vec<Outcome>), Failure> {
    let (finished, trouble) = match reader.read() {
        Ok(()) => (reader.finish(), None),
        // What was read before the trouble is worth keeping.
        Err(Stop::Source(failure)) => (reader.finish(), Some(failure)),
        Err(stop) => {
            // The lanes go with the reader, so that the cores end too.
            drop(reader);
            (Err(stop), None)
        }
    };
    let mut outcomes = Vec::with_capacity(workers.len());
    let mut failure = None;
    for worker in workers {
        match worker.join() {
            Ok(Ok(outcome)) => outcomes.extend(outcome),
            Ok(Err(error)) => failure = failure.or(Some(stopped(error))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    match (failure, finished, trouble) {
        (Some(failure), _, _) | (None, Err(Stop::Source(failure) | Stop::Failed(failure)), _) => Err(failure),
        (None, Err(Stop::Gone), _) => Err(Failure::data("a core's thread ended early, and does not say why")),
        (None, Ok(_), Some(failure)) => Err(failure),
        (None, Ok(counts), None) => Ok((counts, outcomes)),
    }
}

fn stopped(failure: Failure) -> Failure {
    failure.context(
        "stopped after a failure; what was durable stays so: when its cause is gone (is the disk full?), \
         run the same command again to go on from the last complete epoch",
    )
}
