//! The job, as each of its processes runs it: events are counted by key and
//! second of event time, and in all; late ones are put out as they are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use corewal_timely::{
    BoxError, DurableSink as _, DurableSource as _, DurableState as _, DurableStateMachine as _,
    DurableWindowMachine as _, Error, Files, Job, Line, Lines, Partition, Read, Sink, Source, Take, Window, execute,
};
use timely::communication::Config as Communication;
use timely::dataflow::operators::Concat as _;
use timely::dataflow::operators::vec::Map as _;
use timely::{Config, WorkerConfig};

use super::oracle::{LATENESS, WINDOW, parse, window};

/// Runs a process of the job, if this program was started for that, and ends it.
pub(crate) fn process_if_told() {
    let Ok(dir) = std::env::var("COREWAL_TIMELY_DIR") else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let addresses: Vec<String> =
        std::env::var("COREWAL_TIMELY_ADDRESSES").unwrap().split(',').map(str::to_owned).collect();
    let threads = number("COREWAL_TIMELY_WORKERS");
    let process = number("COREWAL_TIMELY_PROCESS");
    let communication = if addresses.len() == 1 {
        Communication::Process(threads)
    } else {
        Communication::Cluster { threads, process, addresses, report: false, zerocopy: false }
    };
    let config = Config { communication, worker: WorkerConfig::default() };
    let take_over = number("COREWAL_TIMELY_TAKE_OVER") == 1;
    if let Err(error) = run(dir.into(), number("COREWAL_TIMELY_PARTITIONS"), take_over, config) {
        eprintln!("{error}");
        std::process::exit(if matches!(error, Error::Fenced { .. }) { 4 } else { 1 });
    }
    std::process::exit(0);
}

fn run(dir: PathBuf, partitions: usize, take_over: bool, config: Config) -> Result<(), Error> {
    let job = Job::new(std::env::var("COREWAL_TIMELY_JOB").unwrap(), "events");
    let job = job.epoch_every(Duration::from_millis(20)).take_over(take_over);
    #[cfg(feature = "archive")]
    let job = match std::env::var("COREWAL_TIMELY_BUCKET") {
        Ok(bucket) => job.records_at(bucket),
        Err(_) => job,
    };
    stop_when_told(&job);
    #[cfg(feature = "nats")]
    if let Ok(url) = std::env::var("COREWAL_TIMELY_BROKER") {
        use corewal_timely::nats::{Broker, JetStream, JetStreamSink, Message};
        let broker = Broker::new(url);
        let subjects = (0..partitions).map(|partition| format!("events.{partition}"));
        let source = JetStream::new(broker.clone(), "EVENTS").subjects(subjects).until_end(true);
        let text = |message: Message| String::from_utf8(message.payload).unwrap();
        return run_on(job, config, Paced { source, text }, move || JetStreamSink::new(broker.clone(), "OUT", "out"));
    }
    let paths = (0..partitions).map(|partition| dir.join("input").join(partition.to_string()));
    let source = Lines::new(paths).unwrap();
    let output = dir.join("output");
    run_on(job, config, Paced { source, text: |line: Line| line.text }, move || Files::new(&output))
}

/// Stops the job in order once a file is there.
fn stop_when_told(job: &Job) {
    let (stop, told) = (job.stop_handle(), std::env::var("COREWAL_TIMELY_STOP").unwrap());
    std::thread::spawn(move || {
        while !std::path::Path::new(&told).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.stop();
    });
}

/// The job on a source and a sink.
fn run_on<S, K>(
    job: Job,
    config: Config,
    events: Paced<S>,
    sink: impl Fn() -> K + Send + Sync + 'static,
) -> Result<(), Error>
where
    S: Source + Send + Sync + 'static,
    K: Sink + Send + 'static,
{
    execute(job, config, move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            let time = |event: &String| parse(event).1;
            let events = scope.durable_events(durable, "events", &events, time, Duration::from_millis(LATENESS));
            let keyed = events.records.clone().map(|event| (parse(&event).0.to_owned(), ()));
            let totals = keyed.durable_state_machine(durable, "totals", |_, (), total: &mut u64| {
                *total += 1;
                (false, None)
            });
            // The same windows twice: states of a type, and bytes.
            let windowed = events.records.clone().map(|event| {
                let (name, time) = parse(&event);
                (Window::tumbling(time, Duration::from_millis(WINDOW as u64), name.to_owned()), ())
            });
            let typed = windowed.durable_window_machine(
                events.watermarks.clone(),
                durable,
                "typed",
                |_, (), count: &mut u64| {
                    *count += 1;
                    None
                },
                |Window { end, key }, count| Some(format!("typed {:015}/{key} {count}", end - WINDOW).into_bytes()),
            );
            let windows = events.records.durable_windows(
                events.watermarks,
                durable,
                "windows",
                |event, key| {
                    let (name, time) = parse(event);
                    key.extend(format!("{:015}/{name}", window(time)).bytes());
                },
                |_, mut count, _| {
                    let now = count.get_u64() + 1;
                    count.put_u64(now);
                },
                |time, mut windows, out| {
                    windows.take_while(|key, count| {
                        let key = std::str::from_utf8(key).unwrap();
                        if key[..15].parse::<i64>().unwrap() + WINDOW > time {
                            return Take::Stop;
                        }
                        out.push(format!("{key} {}", u64::from_le_bytes(count.try_into().unwrap())).into_bytes());
                        Take::Remove
                    });
                },
            );
            let late = events.late.map(|event: String| format!("late {event}").into_bytes());
            totals.concat(windows).concat(typed).concat(late).durable_sink(durable, "out", sink());
        });
    })?;
    Ok(())
}

/// Events that come no faster than so many a second, of each partition.
struct Paced<S: Source> {
    source: S,
    text: fn(S::Item) -> String,
}

struct PacedOf<S: Source> {
    partition: S::Partition,
    text: fn(S::Item) -> String,
    began: Instant,
    read: usize,
    items: Vec<S::Item>,
}

/// Events of a partition in a second.
const A_SECOND: usize = 10_000;

impl<S: Source + 'static> Source for Paced<S> {
    type Item = String;
    type Partition = PacedOf<S>;

    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        self.source.partitions()
    }

    fn open(&self, partition: &str, position: u64) -> Result<Self::Partition, BoxError> {
        let partition = self.source.open(partition, position)?;
        Ok(PacedOf { partition, text: self.text, began: Instant::now(), read: 0, items: Vec::new() })
    }
}

impl<S: Source> Partition for PacedOf<S> {
    type Item = String;

    fn read(&mut self, most: usize, into: &mut Vec<String>) -> Result<Read, BoxError> {
        let due = (self.began.elapsed().as_secs_f64() * A_SECOND as f64) as usize;
        let read = self.partition.read(most.min(due.saturating_sub(self.read)), &mut self.items)?;
        self.read += self.items.len();
        into.extend(self.items.drain(..).map(self.text));
        Ok(if read == Read::More { Read::Waiting } else { read })
    }

    fn position(&self) -> u64 {
        self.partition.position()
    }

    fn complete(&mut self, position: u64) -> Result<(), BoxError> {
        self.partition.complete(position)
    }
}
