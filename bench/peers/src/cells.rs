//! The cells: what is measured, the same way for everybody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::data::{Check, KEYS, Records, next};
use crate::peers::{Keeps, Kind, Log, OpenShared, Peer, Pipeline, Setup};

const MIB: u64 = 1 << 20;
/// Records that are read back in cell R.
const READ_RECORDS: u64 = 2_000_000;
/// Most syncs of a stream that are under way.
const UNDER_WAY: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, Debug)]
#[value(rename_all = "verbatim")]
pub(crate) enum Cell {
    S1,
    P32,
    S8,
    S32,
    S1024,
    T2,
    B,
    K,
    W1,
    R,
    A,
}

impl Cell {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::P32 => "P32",
            Self::S8 => "S8",
            Self::S32 => "S32",
            Self::S1024 => "S1024",
            Self::T2 => "T2",
            Self::B => "B",
            Self::K => "K",
            Self::W1 => "W1",
            Self::R => "R",
            Self::A => "A",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::S1 | Self::P32 | Self::S8 => "commits/s",
            Self::S32 | Self::S1024 | Self::T2 => "records/s",
            Self::K => "puts/s",
            Self::B => "bytes/s",
            Self::R => "records/s",
            Self::W1 => "ns a record",
            Self::A => "allocations an append",
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::S1 => "one commit of one record after the other, each durable before the next",
            Self::P32 => {
                "commits of one record, each acknowledged by itself, up to 32 under way, whichever is more: corewal from one \
                 thread, a frame each, or by 32 tasks, whose commits of a turn share a frame; others from 32 \
                 threads into one log where they can do that, or one at a time"
            }
            Self::S8 => "the same with 8",
            Self::S32 => "durable every 32 records; corewal goes on meanwhile, all is durable at the end of the time",
            Self::S1024 => "durable every 1,024 records; the same",
            Self::T2 => "two threads with a log each, durable every 64 records; both together",
            Self::B => "values of 4 KiB, durable every MiB",
            Self::K => "puts over 100,000 keys in random order into a keyed store, a durable commit every 1,024",
            Self::W1 => "append alone, nothing need be durable",
            Self::R => "open, read back and compare 2,000,000 records; the second time, so from warm caches",
            Self::A => "allocations by the appending thread",
        }
    }

    /// Whether less is better.
    pub(crate) fn is_cost(self) -> bool {
        matches!(self, Self::W1 | Self::A)
    }

    /// Whether it says anything only if the peer really syncs.
    pub(crate) fn is_durable(self) -> bool {
        !matches!(self, Self::W1 | Self::R | Self::A)
    }

    /// Whether it is measured in a log that does not only grow, too.
    fn has_steady_state(self) -> bool {
        !matches!(self, Self::K | Self::R | Self::A)
    }

    fn value_bytes(self) -> usize {
        if self == Self::B { 4096 } else { 100 }
    }

    /// Bytes of records after which a cell ends before its time is over: the disk is not to fill up.
    fn limit(self) -> u64 {
        match self {
            Self::S1 | Self::P32 | Self::S8 => Setup::SHARED_ROOM,
            Self::S32 => 128 * MIB,
            Self::T2 | Self::W1 | Self::K => 256 * MIB,
            Self::R => READ_RECORDS * 116,
            Self::S1024 => 512 * MIB,
            Self::B => 1024 * MIB,
            Self::A => MIB,
        }
    }
}

/// What one measurement gave.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Measure {
    pub(crate) value: f64,
    /// Latency of a commit in µs.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Which of several ways it was.
    pub(crate) how: Option<String>,
    pub(crate) records: u64,
    /// How many records were read back and compared afterwards.
    pub(crate) compared: Option<u64>,
}

impl Measure {
    /// The one of two ways that does more.
    fn more(self, other: Self) -> Self {
        if other.value > self.value { other } else { self }
    }
}

/// Measures a cell, if the peer has it.
pub(crate) fn measure(peer: &Peer, cell: Cell, dir: &Path, time: Duration) -> Result<Option<Measure>> {
    // What cannot be read back is no log, and all that it is good for is being durable.
    if (peer.read.is_none() && !cell.is_durable()) || (cell == Cell::A && !peer.rust) {
        return Ok(None);
    }
    if peer.kind == Kind::Steady && !cell.has_steady_state() {
        return Ok(None);
    }
    let run = Run { peer, cell, dir, time, records: Records::new(cell.value_bytes()) };
    Ok(Some(match cell {
        Cell::S1 => run.one_at_a_time("log", time)?,
        Cell::P32 => run.in_flight(32)?,
        Cell::S8 => run.in_flight(8)?,
        Cell::S32 => run.stream(32)?,
        Cell::S1024 => run.stream(1024)?,
        Cell::B => run.stream(256)?,
        Cell::W1 => run.appends()?,
        Cell::T2 => run.two_logs()?,
        Cell::A => run.allocations()?,
        Cell::R => return run.read(),
        Cell::K => return run.keyed(),
    }))
}

/// `commits` commits of one record and nothing else, to count the system calls of.
pub(crate) fn commits(peer: &Peer, dir: &Path, commits: u64) -> Result<()> {
    let dir = fresh(dir, "log")?;
    let records = Records::new(100);
    let mut log = (peer.log)(&dir, Setup { room: MIB, durable: true })?;
    for number in 0..commits {
        log.append(&Records::key(number), records.value(number))?;
        log.sync()?;
    }
    // Not closed: that may sync too.
    std::process::exit(0)
}

fn fresh(dir: &Path, name: &str) -> Result<PathBuf> {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).context("create a directory for the log")?;
    Ok(dir)
}

fn rate(records: u64, took: Duration) -> f64 {
    records as f64 / took.as_secs_f64()
}

struct Run<'a> {
    peer: &'a Peer,
    cell: Cell,
    dir: &'a Path,
    time: Duration,
    records: Records,
}

impl Run<'_> {
    fn open(&self, name: &str) -> Result<(PathBuf, Box<dyn Log>)> {
        let dir = fresh(self.dir, name)?;
        let log = (self.peer.log)(&dir, Setup { room: self.cell.limit(), durable: self.cell.is_durable() })?;
        Ok((dir, log))
    }

    /// The most records of this cell.
    fn most(&self) -> u64 {
        self.cell.limit() / self.records.bytes()
    }

    fn append(&self, log: &mut dyn Log, number: u64) -> Result<()> {
        log.append(&Records::key(number), self.records.value(number))
    }

    /// Closes a log, opens it anew and compares what is in it.
    fn compare(&self, dir: &Path, log: Box<dyn Log>, written: u64) -> Result<Option<u64>> {
        let kept_from = log.kept_from();
        log.close()?;
        let records = self.records.clone();
        self.read_back(
            dir,
            match self.peer.keeps {
                Keeps::All => Check::in_order(records, written),
                Keeps::Tail => Check::tail(records, written, kept_from),
            },
        )
    }

    fn read_back(&self, dir: &Path, check: Check) -> Result<Option<u64>> {
        self.peer.read.map(|read| read(dir, check)?.finish()).transpose()
    }

    fn one_at_a_time(&self, name: &str, time: Duration) -> Result<Measure> {
        let (dir, mut log) = self.open(name)?;
        log.warm_up()?;
        let mut latencies = Latencies::new();
        let (mut count, began) = (0, Instant::now());
        while began.elapsed() < time && count < self.most() {
            let asked = Instant::now();
            self.append(&mut *log, count)?;
            log.sync()?;
            latencies.add(asked);
            count += 1;
        }
        let value = rate(count, began.elapsed());
        let compared = self.compare(&dir, log, count)?;
        Ok(latencies.measure(value, "one at a time", count, compared))
    }

    fn in_flight(&self, depth: usize) -> Result<Measure> {
        let (dir, mut log) = self.open("log")?;
        if log.pipeline().is_some() {
            log.warm_up()?;
            let pipelined = self.pipelined(&dir, log, depth)?;
            let tasks = self.tasks(depth)?;
            return Ok(tasks.into_iter().fold(pipelined, Measure::more));
        }
        drop(log);
        let alone = self.one_at_a_time("alone", self.time / 2)?;
        let Some(shared) = self.peer.shared else {
            return Ok(alone);
        };
        Ok(alone.more(self.many_threads(shared, depth)?))
    }

    /// As many tasks as commits under way, on one thread: each commits, waits until that is durable, and begins anew.
    fn tasks(&self, tasks: usize) -> Result<Option<Measure>> {
        let (dir, mut log) = self.open("tasks")?;
        if log.turns().is_none() {
            return Ok(None);
        }
        log.warm_up()?;
        let (log, latencies, count) = (RefCell::new(log), RefCell::new(Latencies::new()), std::cell::Cell::new(0));
        let began = Instant::now();
        let task = async || -> Result<()> {
            while began.elapsed() < self.time && count.get() < self.most() {
                let number = count.replace(count.get() + 1);
                let asked = Instant::now();
                let acknowledged = {
                    let mut log = log.borrow_mut();
                    self.append(&mut **log, number)?;
                    log.turns().expect("asked before").commit()?
                };
                acknowledged.await?;
                latencies.borrow_mut().add(asked);
            }
            Ok(())
        };
        let mut running: FuturesUnordered<_> = (0..tasks).map(|_| task()).collect();
        loop {
            // Every task that can go on does.
            match running.next().now_or_never() {
                Some(Some(done)) => done?,
                Some(None) => break,
                None => log.borrow_mut().turns().expect("asked before").end()?,
            }
        }
        let value = rate(count.get(), began.elapsed());
        drop(running);
        let compared = self.compare(&dir, log.into_inner(), count.get())?;
        Ok(Some(latencies.into_inner().measure(value, &format!("{tasks} tasks of one thread"), count.get(), compared)))
    }

    fn pipelined(&self, dir: &Path, mut log: Box<dyn Log>, depth: usize) -> Result<Measure> {
        let mut latencies = Latencies::new();
        let mut in_flight = VecDeque::with_capacity(depth);
        let (mut count, began) = (0, Instant::now());
        while began.elapsed() < self.time && count < self.most() {
            let asked = Instant::now();
            self.append(&mut *log, count)?;
            let pipeline = log.pipeline().expect("asked before");
            in_flight.push_back((pipeline.request()?, asked));
            count += 1;
            while in_flight.len() >= depth {
                acknowledge(pipeline, &mut in_flight, &mut latencies)?;
            }
        }
        while !in_flight.is_empty() {
            acknowledge(log.pipeline().expect("asked before"), &mut in_flight, &mut latencies)?;
        }
        let value = rate(count, began.elapsed());
        let compared = self.compare(dir, log, count)?;
        Ok(latencies.measure(value, &format!("one thread, {depth} under way"), count, compared))
    }

    fn many_threads(&self, open: OpenShared, threads: usize) -> Result<Measure> {
        let dir = fresh(self.dir, "shared")?;
        let log = open(&dir)?;
        let (numbers, most, began) = (AtomicU64::new(0), self.most(), Instant::now());
        let work = || -> Result<(u64, Latencies)> {
            let (mut count, mut latencies) = (0, Latencies::new());
            while began.elapsed() < self.time && numbers.load(Ordering::Relaxed) + (threads as u64) < most {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let asked = Instant::now();
                log.commit(&Records::key(number), self.records.value(number))?;
                latencies.add(asked);
                count += 1;
            }
            Ok((count, latencies))
        };
        let done: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let took = began.elapsed();
        let (mut count, mut latencies) = (0, Latencies::new());
        for thread in done {
            let (more, of_thread) = thread?;
            count += more;
            latencies.0.add(&of_thread.0)?;
        }
        drop(log);
        let compared = match self.peer.keeps {
            Keeps::All => self.read_back(&dir, Check::any_order(self.records.clone(), count))?,
            // What is left of it depends on the order in which the threads came.
            Keeps::Tail => None,
        };
        Ok(latencies.measure(rate(count, took), &format!("{threads} threads"), count, compared))
    }

    /// Appends for the time of the cell, `batch` records to a sync.
    fn fill(&self, log: &mut dyn Log, batch: u64) -> Result<(u64, Duration)> {
        let (mut count, began) = (0, Instant::now());
        let mut under_way = VecDeque::with_capacity(UNDER_WAY);
        while began.elapsed() < self.time && count + batch <= self.most() {
            for number in count..count + batch {
                self.append(log, number)?;
            }
            count += batch;
            let Some(pipeline) = log.pipeline() else {
                log.sync()?;
                continue;
            };
            under_way.push_back(pipeline.request()?);
            while under_way.len() >= UNDER_WAY {
                let durable = pipeline.durable(true)?;
                while under_way.pop_front_if(|position| *position <= durable).is_some() {}
            }
        }
        log.sync()?;
        Ok((count, began.elapsed()))
    }

    fn stream(&self, batch: u64) -> Result<Measure> {
        let (dir, mut log) = self.open("log")?;
        log.warm_up()?;
        let (count, took) = self.fill(&mut *log, batch)?;
        let compared = self.compare(&dir, log, count)?;
        let scale = if self.cell == Cell::B { self.records.bytes() } else { 1 };
        Ok(Measure { value: rate(count * scale, took), records: count, compared, ..Measure::default() })
    }

    fn two_logs(&self) -> Result<Measure> {
        let mut logs = [self.open("log-0")?, self.open("log-1")?];
        logs.iter_mut().try_for_each(|(_, log)| log.warm_up())?;
        let start = Barrier::new(logs.len() + 1);
        let (filled, took) = thread::scope(|scope| {
            let running = logs.map(|(dir, mut log)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    self.fill(&mut *log, 64).map(|(count, _)| (dir, log, count))
                })
            });
            start.wait();
            let began = Instant::now();
            (running.map(|thread| thread.join().expect("no panic")), began.elapsed())
        });
        let (mut records, mut compared) = (0, None);
        for log in filled {
            let (dir, log, count) = log?;
            records += count;
            compared = self.compare(&dir, log, count)?.map(|more| more + compared.unwrap_or(0));
        }
        Ok(Measure { value: rate(records, took), records, compared, ..Measure::default() })
    }

    fn appends(&self) -> Result<Measure> {
        let (dir, mut log) = self.open("log")?;
        log.warm_up()?;
        let (mut count, began) = (0, Instant::now());
        while began.elapsed() < self.time && count + 1024 <= self.most() {
            for number in count..count + 1024 {
                self.append(&mut *log, number)?;
            }
            count += 1024;
        }
        let took = began.elapsed();
        log.sync()?;
        let compared = self.compare(&dir, log, count)?;
        Ok(Measure { value: 1e9 / rate(count, took), records: count, compared, ..Measure::default() })
    }

    fn read(&self) -> Result<Option<Measure>> {
        let (Some(read), Keeps::All) = (self.peer.read, self.peer.keeps) else {
            return Ok(None);
        };
        let (dir, mut log) = self.open("log")?;
        for number in 0..READ_RECORDS {
            self.append(&mut *log, number)?;
        }
        log.sync()?;
        self.compare(&dir, log, READ_RECORDS)?;
        let began = Instant::now();
        let compared = read(&dir, Check::in_order(self.records.clone(), READ_RECORDS))?.finish()?;
        let value = rate(compared, began.elapsed());
        Ok(Some(Measure { value, records: READ_RECORDS, compared: Some(compared), ..Measure::default() }))
    }

    fn keyed(&self) -> Result<Option<Measure>> {
        let Some((open, read)) = self.peer.store else {
            return Ok(None);
        };
        let dir = fresh(self.dir, "store")?;
        let mut store = open(&dir, Setup { room: self.cell.limit(), durable: true })?;
        let mut newest = vec![None; KEYS as usize];
        let mut random = 0x2545_F491_4F6C_DD1D;
        let (mut count, began) = (0, Instant::now());
        while began.elapsed() < self.time && count + 1024 <= self.most() {
            for number in count..count + 1024 {
                let key = next(&mut random) % KEYS;
                store.append(&Records::key(key), self.records.value(number))?;
                newest[key as usize] = Some(number);
            }
            count += 1024;
            request(&mut *store)?;
        }
        store.sync()?;
        let took = began.elapsed();
        store.close()?;
        let compared = Some(read(&dir, Check::newest(self.records.clone(), newest))?.finish()?);
        Ok(Some(Measure { value: rate(count, took), records: count, compared, ..Measure::default() }))
    }

    fn allocations(&self) -> Result<Measure> {
        const WARM: u64 = 2_000;
        let (dir, mut log) = self.open("log")?;
        for number in 0..WARM {
            self.append(&mut *log, number)?;
        }
        let end = self.most();
        let mut outcome = Ok(());
        let allocated = allocation_counter::measure(|| {
            outcome = (WARM..end).try_for_each(|number| self.append(&mut *log, number));
        });
        outcome?;
        log.sync()?;
        let compared = self.compare(&dir, log, end)?;
        let value = allocated.count_total as f64 / (end - WARM) as f64;
        Ok(Measure { value, records: end, compared, ..Measure::default() })
    }
}

/// Makes what was appended durable: without waiting for it, where the log can do that.
fn request(log: &mut dyn Log) -> Result<()> {
    match log.pipeline() {
        Some(pipeline) => {
            pipeline.request()?;
            pipeline.durable(false)?;
            Ok(())
        }
        None => log.sync(),
    }
}

/// Takes the commits that have become durable from those in flight, one at least.
fn acknowledge(
    pipeline: &mut dyn Pipeline,
    in_flight: &mut VecDeque<(u64, Instant)>,
    latencies: &mut Latencies,
) -> Result<()> {
    let durable = pipeline.durable(true)?;
    while let Some((_, asked)) = in_flight.pop_front_if(|(position, _)| *position <= durable) {
        latencies.add(asked);
    }
    Ok(())
}

/// Latencies in ns.
struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Self {
        Self(Histogram::new_with_bounds(100, 10_000_000_000, 3).expect("sensible bounds"))
    }

    fn add(&mut self, asked: Instant) {
        self.0.saturating_record(asked.elapsed().as_nanos() as u64);
    }

    fn measure(&self, value: f64, how: &str, records: u64, compared: Option<u64>) -> Measure {
        let at = |quantile| Some(self.0.value_at_quantile(quantile) as f64 / 1e3);
        Measure { value, p50: at(0.5), p99: at(0.99), how: Some(how.to_owned()), records, compared }
    }
}
