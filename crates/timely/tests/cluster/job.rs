//! The job, as each of its processes runs it: events are counted by key and
//! second of event time, and in all; late ones are put out as they are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use corewal_timely::{
    BoxError, DurableSink as _, DurableSource as _, DurableState as _, Error, Files, Job, Line, Lines, Partition, Read,
    Source, Take, execute,
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
    let paths = (0..partitions).map(|partition| dir.join("input").join(partition.to_string()));
    let events = Paced(Lines::new(paths).unwrap());
    let job = Job::new(dir.join("job"), "events").epoch_every(Duration::from_millis(20)).take_over(take_over);
    let output = dir.join("output");
    execute(job, config, move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            let time = |line: &Line| parse(&line.text).1;
            let events = scope.durable_events(durable, "events", &events, time, Duration::from_millis(LATENESS));
            let totals = events.records.clone().durable_update(
                durable,
                "totals",
                |line, key| key.extend(parse(&line.text).0.bytes()),
                |_, mut total, _: &mut Vec<Vec<u8>>| {
                    let now = total.get_u64() + 1;
                    total.put_u64(now);
                },
            );
            let windows = events.records.durable_windows(
                events.watermarks,
                durable,
                "windows",
                |line, key| {
                    let (name, time) = parse(&line.text);
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
            let late = events.late.map(|line: Line| format!("late {}", line.text).into_bytes());
            totals.concat(windows).concat(late).durable_sink(durable, "out", Files::new(&output));
        });
    })?;
    Ok(())
}

/// Lines that come no faster than events do.
struct Paced(Lines);

struct PacedOf<P> {
    lines: P,
    began: Instant,
    read: usize,
}

/// Lines of a partition in a second.
const A_SECOND: usize = 10_000;

impl Source for Paced {
    type Item = Line;
    type Partition = PacedOf<<Lines as Source>::Partition>;

    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        self.0.partitions()
    }

    fn open(&self, partition: &str, position: u64) -> Result<Self::Partition, BoxError> {
        Ok(PacedOf { lines: self.0.open(partition, position)?, began: Instant::now(), read: 0 })
    }
}

impl<P: Partition> Partition for PacedOf<P> {
    type Item = P::Item;

    fn read(&mut self, most: usize, into: &mut Vec<P::Item>) -> Result<Read, BoxError> {
        let due = (self.began.elapsed().as_secs_f64() * A_SECOND as f64) as usize;
        let most = most.min(due.saturating_sub(self.read));
        let before = into.len();
        let read = self.lines.read(most, into)?;
        self.read += into.len() - before;
        Ok(if read == Read::More { Read::Waiting } else { read })
    }

    fn position(&self) -> u64 {
        self.lines.position()
    }
}
