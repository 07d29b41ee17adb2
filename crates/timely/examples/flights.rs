//! Flights by destination and day, counted in windows of the time at which they
//! were to depart: `cargo run --release -p corewal-timely --example flights`.
//!
//! ```text
//! flights [--dir DIR] [--out DIR] [--take-over] FILE ... [-- TIMELY OPTIONS]
//!
//! flights                                           examples/data/flights.csv, one worker
//! flights a.csv b.csv -- -w 2                       two workers, each reads a file
//! flights a.csv b.csv -- -n 2 -p 0                  the first of two processes on this machine;
//! flights a.csv b.csv -- -n 2 -p 1                  the second, in another terminal
//! flights a.csv b.csv -- -n 2 -p 0 -h hosts.txt     on several machines that share --dir and --out
//! ```
//!
//! Kill it, all of it or a part, and start all processes again: it goes on, and
//! what stands in the output is as if nothing had happened.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use corewal_timely::{
    DurableSink as _, DurableSource as _, DurableState as _, Error, Files, Job, Lines, Take, execute,
};
use timely::dataflow::operators::Concat as _;
use timely::dataflow::operators::vec::Map as _;

/// The length of a window, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// How much later than others of its file a flight may come: the table is in the
/// order of departure, and some depart a day late.
const LATENESS: Duration = Duration::from_secs(24 * 60 * 60);

/// A flight.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Flight {
    /// When it was to depart, in milliseconds since 1970.
    time: i64,
    destination: String,
}

/// A line of the table; the columns that are wanted have no quotes in them.
fn flight(line: &str) -> Option<Flight> {
    let columns: Vec<&str> = line.split(',').collect();
    let hour = humantime::parse_rfc3339(columns.get(18)?).ok()?;
    let time = i64::try_from(hour.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(Flight { time, destination: (*columns.get(13)?).to_owned() })
}

/// The first millisecond of the window in which a time lies.
fn window(time: i64) -> i64 {
    time - time.rem_euclid(DAY)
}

struct Arguments {
    dir: String,
    out: String,
    take_over: bool,
    files: Vec<String>,
    timely: Vec<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        dir: "flights-data".into(),
        out: "flights-out".into(),
        take_over: false,
        files: Vec::new(),
        timely: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} takes a directory"));
        match argument.as_str() {
            "--dir" => found.dir = value()?,
            "--out" => found.out = value()?,
            "--take-over" => found.take_over = true,
            "--" => found.timely = given.by_ref().collect(),
            option if option.starts_with('-') => return Err(format!("there is no option {option}")),
            file => found.files.push(file.to_owned()),
        }
    }
    if found.files.is_empty() {
        found.files.push("examples/data/flights.csv".into());
    }
    Ok(found)
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { dir, out, take_over, files, timely } = arguments()?;
    let config = timely::Config::from_args(timely.into_iter())?;
    let lines = Lines::new(files)?.header(true);
    let job = Job::new(&dir, "flights").take_over(take_over);
    let published = out.clone();
    let finished = execute(job, config, move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            let time = |line: &corewal_timely::Line| flight(&line.text).map_or(i64::MAX, |flight| flight.time);
            let events = scope.durable_events(durable, "flights", &lines, time, LATENESS);
            let counts = events.records.flat_map(|line| flight(&line.text)).durable_windows(
                events.watermarks,
                durable,
                "windows",
                // Windows that end first come first.
                |flight, key| {
                    key.extend(format!("{:015}/{}", window(flight.time), flight.destination).into_bytes());
                },
                |_, mut count, _| {
                    let now = count.get_u64() + 1;
                    count.put_u64(now);
                },
                |time, mut windows, out| {
                    windows.take_while(|key, count| {
                        let key = std::str::from_utf8(key).expect("as written above");
                        let (start, destination) = key.split_once('/').expect("as written above");
                        let start: i64 = start.parse().expect("as written above");
                        if start.saturating_add(DAY) > time {
                            return Take::Stop;
                        }
                        let count = u64::from_le_bytes(count.try_into().expect("as written above"));
                        let day =
                            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(start.unsigned_abs()));
                        let row =
                            serde_json::json!({ "day": day.to_string()[..10], "dest": destination, "flights": count });
                        out.push(row.to_string().into_bytes());
                        Take::Remove
                    });
                },
            );
            let late = events.late.map(|line| serde_json::json!({ "late": line.text }).to_string().into_bytes());
            counts.concat(late).durable_sink(durable, "counts", Files::new(&out));
        });
    })?;
    println!("start {}: complete, see {published}", finished.attempt);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flights: {error}");
            let fenced = error.downcast_ref::<Error>().is_some_and(|error| matches!(error, Error::Fenced { .. }));
            ExitCode::from(if fenced { 4 } else { 1 })
        }
    }
}
