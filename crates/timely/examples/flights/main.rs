//! Flights by destination and day, counted in windows of the time at which they
//! were to depart: `cargo run --release -p corewal-timely --example flights`.
//!
//! ```text
//! flights [--dir DIR] [--out DIR] [--take-over] [--nats URL] [FILE ...] [-- TIMELY OPTIONS]
//!
//! flights                                           examples/data/flights.csv, one worker
//! flights a.csv b.csv -- -w 2                       two workers, each reads a file
//! flights a.csv b.csv -- -n 2 -p 0                  the first of two processes on this machine;
//! flights a.csv b.csv -- -n 2 -p 1                  the second, in another terminal
//! flights a.csv b.csv -- -n 2 -p 0 -h hosts.txt     on several machines that share --dir and --out
//! flights --load nats://127.0.0.1:4222 a.csv b.csv  publish them to a broker, a subject each (feature `nats`)
//! flights --nats nats://127.0.0.1:4222 a.csv b.csv  count them from there
//! ```
//!
//! Stop it with Ctrl-C, or kill it, all of it or a part, and start all processes
//! again: it goes on, and what stands in the output is as if nothing had happened.

#![allow(clippy::disallowed_methods, reason = "an example, outside the simulated engine")]

mod arguments;
#[cfg(feature = "nats")]
mod broker;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use arguments::Arguments;
use clap::Parser as _;
use corewal_timely::{
    DurableSink as _, DurableSource as _, DurableWindowMachine as _, Error, Files, Job, Lines, Source, Window, execute,
};
use timely::ExchangeData;
use timely::dataflow::operators::Concat as _;
use timely::dataflow::operators::vec::Map as _;

/// The length of a window.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much later than others of its file a flight may come: the table is in the
/// order of departure, and some depart a day late.
const LATENESS: Duration = DAY;

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

/// A row of the output.
fn row(window: &Window<String>, flights: u64) -> Vec<u8> {
    let end = UNIX_EPOCH + Duration::from_millis(window.end.unsigned_abs());
    let day = humantime::format_rfc3339_seconds(end - DAY).to_string();
    serde_json::json!({ "day": day[..10], "dest": window.key, "flights": flights }).to_string().into_bytes()
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { dir, out, take_over, nats, load, files, timely } = Arguments::parse();
    let config = timely::Config::from_args(timely.into_iter())?;
    let job = Job::new(&dir, "flights").take_over(take_over);
    stop_on_signals(&job)?;
    match (load, nats) {
        (None, None) => count(job, config, Lines::new(files)?.header(true), |line| &line.text, out),
        #[cfg(feature = "nats")]
        (Some(url), _) => Ok(broker::load(&url, &files).map_err(|error| format!("{url}: {error}"))?),
        #[cfg(feature = "nats")]
        (None, Some(url)) => count(job, config, broker::flights(&url, files.len()), broker::text, out),
        #[cfg(not(feature = "nats"))]
        _ => Err("brokers are known with the feature `nats` only: cargo run --features nats ...".into()),
    }
}

/// Ctrl-C and SIGTERM stop the job in order; a second one ends the process, and
/// loses nothing either.
fn stop_on_signals(job: &Job) -> Result<(), ctrlc::Error> {
    let (stop, asked) = (job.stop_handle(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("flights: stopping, once what was read is complete; again to end at once");
        stop.stop();
    })
}

/// Counts the flights of a source.
fn count<S>(
    job: Job,
    config: timely::Config,
    source: S,
    text: fn(&S::Item) -> &str,
    out: String,
) -> Result<(), Box<dyn std::error::Error>>
where
    S: Source + Send + Sync + 'static,
    S::Item: ExchangeData + Clone,
{
    let published = out.clone();
    let finished = execute(job, config, move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            // What is no flight belongs to no time.
            let time = move |line: &S::Item| flight(text(line)).map_or(i64::MIN, |flight| flight.time);
            let events = scope.durable_events(durable, "flights", &source, time, LATENESS);
            let counts = events
                .records
                .flat_map(move |line| flight(text(&line)))
                .map(|flight| (Window::tumbling(flight.time, DAY, flight.destination), ()))
                .durable_window_machine(
                    events.watermarks,
                    durable,
                    "windows",
                    |_, (), flights: &mut u64| {
                        *flights += 1;
                        None
                    },
                    // The day is over.
                    |window, flights| Some(row(&window, flights)),
                );
            let late = events.late.map(move |line| serde_json::json!({ "late": text(&line) }).to_string().into_bytes());
            counts.concat(late).durable_sink(durable, "counts", Files::new(&out));
        });
    })?;
    let how = if finished.stopped { "stopped, start it again and it goes on" } else { "complete" };
    println!("start {}: {how}; see {published}", finished.attempt);
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
