//! Starting a job: the processes agree on what is complete, each opens its
//! state there, and the dataflows run until they end or something fails.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use corewal::{Checkpoints, Options, Shard, Store};
use serde::{Deserialize, Serialize};
use timely::ExchangeData;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Config as Communication, Hooks};
use timely::dataflow::operators::vec::{Broadcast as _, Input as _};
use timely::dataflow::operators::{Inspect as _, Probe as _};
use timely::worker::Worker;

use crate::connect::{Hello, connect};
use crate::durable::{Durable, Facts, Stop, StopHandle};
use crate::durable_dir::sync_dir;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::places::{self, Place};
use crate::record::{self, Record, Records};
use crate::shelf::{Directory, Shelf};
use crate::spread::spread;
use crate::staging::Staging;
use crate::survey::{Plan, Report, StatePlan};
use crate::watch::watch;
use crate::wire::Wire;

/// How long a worker sleeps at most before it looks whether its process stops.
const LOOK: Duration = Duration::from_millis(50);

/// Log for which a process makes a checkpoint: some seconds of it at full load,
/// and a second to read it again.
const CHECKPOINT_BYTES: u64 = 256 << 20;

/// Of each worker: the changes of an epoch come close together, and with four it
/// waits for a slow disk.
const BUFFERS: usize = 16;

/// A job: a program of durable dataflows, and the directory that its state is in.
#[derive(Clone, Debug)]
pub struct Job {
    dir: PathBuf,
    name: String,
    epoch_every: Duration,
    take_over: bool,
    patience: Duration,
    options: Options,
    stop: StopHandle,
    #[cfg(feature = "archive")]
    records_at: Option<String>,
}

/// How a job ended that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// How often it was started, this time included.
    pub attempt: u64,
    /// The epoch that this start went on behind; 0 if it began anew.
    pub recovered: u64,
    /// The newest complete epoch.
    pub complete: u64,
    /// Whether it was stopped by a [`StopHandle`]; else its sources have ended.
    pub stopped: bool,
}

impl Job {
    /// A job whose state is in `dir`, the same for all its processes. What is
    /// complete is recorded there, so it has to be on storage that all of them
    /// share, with links that are made once or not at all: link(2).
    pub fn new(dir: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        // A job writes fast: at the default it would make them without a pause.
        let checkpoints = Checkpoints::default().bytes(CHECKPOINT_BYTES);
        let options = Options::new().buffers(BUFFERS).checkpoints(checkpoints);
        Self {
            dir: dir.into(),
            name: name.into(),
            epoch_every: Duration::from_millis(100),
            take_over: false,
            patience: Duration::from_secs(60),
            options,
            stop: StopHandle::default(),
            #[cfg(feature = "archive")]
            records_at: None,
        }
    }

    /// Keeps the records of what is complete in object storage instead of the
    /// directory, which then need not be shared: a path, `file://` or
    /// `s3://bucket/prefix`, with what the `AWS_*` variables say. Each process
    /// may have a directory of its own then. What they hold of the state has to
    /// be in the directory of one process or another when the job is started
    /// again, whatever their numbers.
    #[cfg(feature = "archive")]
    #[must_use]
    pub fn records_at(mut self, url: impl Into<String>) -> Self {
        self.records_at = Some(url.into());
        self
    }

    /// How long an epoch takes: what a failure costs is done again from the last
    /// complete one, and output appears so much later. 100 ms unless told. The
    /// first of a start takes a tenth of it.
    #[must_use]
    pub fn epoch_every(mut self, time: Duration) -> Self {
        self.epoch_every = time;
        self
    }

    /// Whether to go on though processes of an earlier start still have their
    /// stores open: they hang, say. They are fenced, and their state is copied.
    /// Otherwise such a start is refused, with [`Error::InUse`].
    #[must_use]
    pub fn take_over(mut self, take_over: bool) -> Self {
        self.take_over = take_over;
        self
    }

    /// How long the processes wait for each other when they start; a minute
    /// unless told.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// What can stop the job while it runs, in order: no source is read any
    /// further, what was read becomes complete and is published, and
    /// [`execute`] returns. On all processes, whichever of them was asked. Windows
    /// that are not over stay as they are: started again, the job goes on. For a
    /// job whose sources have no end; it can also be killed, and loses nothing.
    ///
    /// A job value that was stopped once stops at once when it is executed again.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// How the stores are opened: segments, checkpoints, a budget. The number of
    /// cores is that of the workers. Unless told otherwise a process makes a
    /// checkpoint for each 256 MiB of log, and a worker has 16 buffers.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn records(&self) -> Result<Arc<dyn Shelf>> {
        #[cfg(feature = "archive")]
        if let Some(url) = &self.records_at {
            return Ok(Arc::new(crate::shelf::Objects::open(url, &self.name)?));
        }
        Ok(Arc::new(Directory(self.dir.join("records"))))
    }

    fn stores(&self) -> PathBuf {
        stores_of(&self.dir)
    }

    fn staged(&self) -> PathBuf {
        self.dir.join("staged")
    }
}

/// Runs a job: `build` makes the dataflows on each worker, as the closure of
/// [`timely::execute()`] does. Returns when they have come to their end, on all
/// processes, or were stopped by a [`StopHandle`], and everything is complete.
///
/// # Errors
/// [`Error`] says why the job stopped. Then the process should end: the others
/// see that it is gone by its connections, and stop as well. Started again, all
/// go on behind the newest complete epoch.
pub fn execute<F>(job: Job, config: timely::Config, build: F) -> Result<Finished>
where
    F: Fn(&mut Worker, &Durable) + Send + Sync + 'static,
{
    let place = place(&config.communication)?;
    let shelf = job.records()?;
    if let Some((_, record)) = &record::newest(&*shelf)?
        && !job.take_over
        && let Some(store) = places::of(&job.stores(), record, place.process)
    {
        places::wait_until_free(&store)?;
    }
    let start = |detail| Error::Start { detail };
    let stop = Arc::new(Stop::new(job.stop_handle()));
    let (builders, connections) = build_communication(&job, config.communication, place, &stop)?;
    let process = Arc::new(Process {
        job,
        place,
        stop: Arc::clone(&stop),
        opened: Mutex::default(),
        rings: Condvar::new(),
        attempt: AtomicU64::new(0),
        shelf,
        built: Arc::default(),
    });
    let running = Arc::clone(&process);
    let workers = timely::execute::execute_from(builders, Box::new(()), config.worker, move |worker| {
        let process = &running;
        // Whatever a worker meets, the others of this process are to end too.
        let ran = catch_unwind(AssertUnwindSafe(|| process.run(worker, &build)));
        match ran.unwrap_or_else(|panic| Err(Some(Error::Worker { detail: what(&*panic).to_owned() }))) {
            Ok(finished) => Some(finished),
            Err(error) => {
                if let Some(error) = error {
                    process.stop.stop(error);
                }
                process.rings.notify_all();
                for dataflow in worker.installed_dataflows() {
                    worker.drop_dataflow(dataflow);
                }
                None
            }
        }
    });
    let ended: Vec<_> = workers.map_err(start)?.join().into_iter().collect();
    let finished = ended.into_iter().filter_map(|worker| worker.ok().flatten()).next();
    match (stop.take(), finished) {
        (None, Some(finished)) => {
            drop(connections);
            Ok(finished)
        }
        (why, _) => {
            // To end them in order takes the other processes, which are to see
            // that this one has not ended in order.
            std::mem::forget(connections);
            Err(process.reason(why.unwrap_or_else(|| Error::Worker { detail: "it ended".into() })))
        }
    }
}

/// What a panic says.
fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}

/// As [`Communication::try_build`], but for the connections.
fn build_communication(
    job: &Job,
    communication: Communication,
    place: Place,
    stop: &Arc<Stop>,
) -> Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>)> {
    let start = |detail| Error::Start { detail };
    let Communication::Cluster { threads, process, addresses, zerocopy, .. } = communication else {
        return communication.try_build().map_err(start);
    };
    let Place { process: own, processes, workers } = place;
    let hello = Hello { job: job.name.clone(), process: own, processes, workers };
    let streams = connect(&hello, &addresses, job.patience)?;
    let wires = streams.into_iter().map(|stream| stream.map(|stream| Wire::new(stream, Arc::clone(stop)))).collect();
    let hooks = Hooks::default();
    let local = if zerocopy { ProcessBuilder::new_bytes_vector } else { ProcessBuilder::new_typed_vector };
    let local = local(threads, hooks.refill.clone(), hooks.spill.clone());
    let built = initialize_networking_from_sockets(local, wires, process, threads, hooks);
    let (builders, guard) = built.map_err(|error| start(error.to_string()))?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

fn place(communication: &Communication) -> Result<Place> {
    let (process, processes, workers) = match communication {
        Communication::Thread => (0, 1, 1),
        Communication::Process(workers) | Communication::ProcessBinary(workers) => (0, 1, *workers),
        Communication::Cluster { threads, process, addresses, .. } => (*process, addresses.len(), *threads),
    };
    if process >= processes || workers == 0 {
        let detail = format!("there is no process {process} with a worker among {processes} of {workers} worker(s)");
        return Err(Error::Start { detail });
    }
    let number = |number: usize, what| {
        let fits = u16::try_from(number).ok().filter(|&number| number <= corewal::format::MAX_CORES);
        fits.ok_or_else(|| Error::Start { detail: format!("{number} {what}") })
    };
    Ok(Place {
        process: number(process, "is no number of a process")?,
        processes: number(processes, "processes are too many")?,
        workers: number(workers, "workers are too many")?,
    })
}

/// What the first worker tells all others before anything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Word {
    Go(Record),
    Stop(String),
}

/// What a worker comes to: without an error of its own if others stopped it.
pub(crate) type Run<T> = std::result::Result<T, Option<Error>>;

/// What the workers of a process share.
struct Process {
    job: Job,
    place: Place,
    stop: Arc<Stop>,
    opened: Mutex<Option<Shared>>,
    rings: Condvar,
    /// Which start this is; 0 until that is known.
    attempt: AtomicU64,
    shelf: Arc<dyn Shelf>,
    built: Arc<AtomicUsize>,
}

/// The process's state, until each worker has taken its part.
struct Shared {
    store: Store,
    shards: Vec<Option<Shard>>,
    name: String,
    offsets: BTreeMap<String, Vec<u8>>,
}

/// A worker's part.
struct Part {
    store: Store,
    shard: Shard,
    name: String,
    offsets: BTreeMap<String, Vec<u8>>,
}

impl Process {
    /// Why this process has stopped: whatever it ran into, that others have
    /// gone on without it comes first.
    fn reason(&self, why: Error) -> Error {
        let attempt = self.attempt.load(Ordering::Relaxed);
        match record::newest(&*self.shelf) {
            Ok(Some((_, newest))) if attempt > 0 && newest.attempt > attempt => {
                Error::Fenced { attempt, by: newest.attempt }
            }
            _ => why,
        }
    }

    fn run(&self, worker: &mut Worker, build: &impl Fn(&mut Worker, &Durable)) -> Run<Finished> {
        let index = worker.index();
        let taken = (index == 0).then(|| self.take_over());
        let word = taken.as_ref().map(|taken| match taken {
            Ok((_, record)) => Word::Go(record.clone()),
            Err(error) => Word::Stop(error.to_string()),
        });
        // The others are to know before this one stops.
        let word = self.tell(worker, word)?;
        let records = taken.transpose()?.map(|(records, _)| records);
        let record = match word {
            Word::Go(record) => record,
            Word::Stop(detail) => return Err(Some(Error::Elsewhere { detail })),
        };
        self.attempt.store(record.attempt, Ordering::Relaxed);
        let plan = self.survey(worker, index, &record)?;
        let mut part = self.open(index, &record, &plan)?;
        if let StatePlan::Spread { reads } = &plan.state {
            (part.shard, part.offsets) = self.spread(worker, &record, part.shard, reads)?;
        }
        let named = self.leads(index).then(|| (self.place.process, part.name.clone()));
        let stores: Vec<_> = self.share(worker, named)?.into_values().collect();
        let ledger = Ledger::new(part.store, part.shard, part.offsets, record.attempt, record.complete);
        let facts = Facts {
            job: self.job.name.clone(),
            attempt: record.attempt,
            recovered: record.complete,
            index,
            place: self.place,
            epoch_every: self.job.epoch_every,
            stores_dir: self.job.stores(),
            stores: stores.clone(),
            staging: self.staging(&record).shared(plan.rank, plan.sharers),
            built: Arc::clone(&self.built),
        };
        let durable = Durable::new(ledger, facts, Arc::clone(&self.stop));
        build(worker, &durable);
        durable.has_built();
        let shape = durable.ledger().shape();
        if !record.shape.is_empty() && record.shape != shape {
            let without = |all: &[String], less: &[String]| {
                all.iter().filter(|part| !less.contains(part)).cloned().collect::<Vec<_>>()
            };
            let (missing, added) = (without(&record.shape, &shape), without(&shape, &record.shape));
            return Err(Some(Error::OtherShape { missing, added }));
        }
        let (attempt, recovered) = (record.attempt, record.complete);
        let records = records.map(|records| (records, Record { stores, workers: self.place.workers, shape, ..record }));
        watch(worker, &durable, records);
        self.step(worker, || false)?;
        let ledger = durable.take_ledger().expect("nobody else takes it");
        let complete = ledger.complete();
        ledger.close()?;
        if durable.leads() {
            durable.remove_litter();
        }
        Ok(Finished { attempt, recovered, complete, stopped: durable.is_asked_to_stop() })
    }

    /// Runs the worker until `until`, or until it has nothing left to do.
    fn step(&self, worker: &mut Worker, until: impl Fn() -> bool) -> Run<()> {
        while worker.has_dataflows() && !until() {
            worker.step_or_park(Some(LOOK));
            if self.stop.is_stopped() {
                return Err(None);
            }
        }
        Ok(())
    }

    fn take_over(&self) -> Result<(Records, Record)> {
        Records::take_over(Arc::clone(&self.shelf), &self.job.name)
    }

    fn staging(&self, record: &Record) -> Staging {
        Staging::new(self.job.staged(), record.attempt, self.place)
    }

    /// Has the first worker tell all of them.
    fn tell(&self, worker: &mut Worker, word: Option<Word>) -> Run<Word> {
        let heard = Rc::new(RefCell::new(None));
        let ear = Rc::clone(&heard);
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, words) = scope.new_input();
            let words = words.broadcast().inspect(move |word: &String| *ear.borrow_mut() = Some(word.clone()));
            (input, words.probe().0)
        });
        if let Some(word) = word {
            input.send(serde_json::to_string(&word).expect("text"));
        }
        input.close();
        self.step(worker, || probe.done())?;
        let text = heard.take().ok_or_else(|| Error::Worker { detail: "the first worker said nothing".into() })?;
        let word = serde_json::from_str(&text);
        Ok(word.map_err(|error| Error::Worker { detail: format!("the first worker said {text}: {error}") })?)
    }

    /// Has those who know something tell all workers: it is known by process.
    fn share<T: ExchangeData + Clone>(&self, worker: &mut Worker, own: Option<(u16, T)>) -> Run<BTreeMap<u16, T>> {
        let heard = Rc::new(RefCell::new(BTreeMap::new()));
        let ear = Rc::clone(&heard);
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, told) = scope.new_input();
            let told = told.broadcast().inspect(move |(process, what): &(u16, T)| {
                ear.borrow_mut().insert(*process, what.clone());
            });
            (input, told.probe().0)
        });
        own.into_iter().for_each(|own| input.send(own));
        input.close();
        self.step(worker, || probe.done())?;
        Ok(heard.take())
    }

    /// Whether a worker is the first of this process.
    fn leads(&self, index: usize) -> bool {
        index.is_multiple_of(usize::from(self.place.workers))
    }

    /// Finds out who has which part of the state, and what this process is to do.
    fn survey(&self, worker: &mut Worker, index: usize, record: &Record) -> Run<Plan> {
        let (stores, staging, process) = (self.job.stores(), self.staging(record), self.place.process);
        let leads = self.leads(index);
        if leads {
            fs::create_dir_all(&stores).map_err(Error::io("create", &stores))?;
            sync_dir(&self.job.dir)?;
            staging.create()?;
        }
        // By now each has made what others are to see.
        self.share(worker, leads.then_some((process, ())))?;
        let report = || Report { process, shared_with: staging.seen(), stores: places::present(&stores, record) };
        let reports = self.share(worker, leads.then(|| (process, report())))?;
        let reports: Vec<_> = reports.into_values().collect();
        Ok(Plan::of(self.place, record, &reports).map_err(|error| match error {
            Error::Missing { dir } => Error::Missing { dir: stores.join(dir) },
            other => other,
        })?)
    }

    /// Takes part in spreading the state of all stores, of which the first worker
    /// of this process reads some.
    fn spread(
        &self,
        worker: &mut Worker,
        record: &Record,
        shard: Shard,
        reads: &[usize],
    ) -> Run<(Shard, BTreeMap<String, Vec<u8>>)> {
        let stores = self.job.stores();
        let reads = if self.leads(worker.index()) { reads } else { &[] };
        let reads = reads.iter().map(|&store| places::read(&stores, self.place, record, store, self.job.take_over));
        spread(worker, self.place, shard, reads, |worker, until| self.step(worker, until))
    }

    /// The worker's part of the process's state, which the first of its workers
    /// opens.
    fn open(&self, index: usize, record: &Record, plan: &Plan) -> Run<Part> {
        let local = index % usize::from(self.place.workers);
        let locked = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if local == 0 {
            let Job { options, take_over, .. } = &self.job;
            let stores = self.job.stores();
            let state = match plan.state {
                StatePlan::Own => places::open(&stores, options, self.place, record, *take_over),
                StatePlan::New | StatePlan::Spread { .. } => places::create(&stores, options, self.place, record),
            }?;
            let (opened, name, offsets) = (state.opened, state.name, state.offsets);
            let shards = opened.shards.into_iter().map(Some).collect();
            *locked() = Some(Shared { store: opened.store, shards, name, offsets });
            self.rings.notify_all();
        }
        let mut opened = locked();
        loop {
            if let Some(shared) = &mut *opened {
                let shard = shared.shards[local].take().expect("each worker takes its own, once");
                let (store, name, offsets) = (shared.store.clone(), shared.name.clone(), shared.offsets.clone());
                return Ok(Part { store, shard, name, offsets });
            }
            if self.stop.is_stopped() {
                return Err(None);
            }
            opened = self.rings.wait_timeout(opened, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The directory of a job's stores, for tools that look into them.
#[must_use]
pub fn stores_of(dir: &Path) -> PathBuf {
    dir.join("stores")
}
