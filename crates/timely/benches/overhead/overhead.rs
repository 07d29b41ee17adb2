//! Throughput with and without durability.

use std::path::Path;

use crate::child;
use crate::events::{Events, Order};
use crate::run::{Program, ROW_EACH, Run, State};
use crate::{directory, median, number, numbers};

/// How many processes, and workers of each.
#[derive(Clone, Copy)]
struct Shape {
    processes: usize,
    workers: u16,
}

impl Shape {
    fn all(self) -> u64 {
        self.processes as u64 * u64::from(self.workers)
    }

    fn name(self) -> String {
        let of = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        match self.processes {
            1 => of(u64::from(self.workers), "worker"),
            processes => format!("{processes} processes of {}", of(u64::from(self.workers), "worker")),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy)]
struct Input {
    keys: u64,
    json: bool,
}

/// How one run went.
#[derive(Clone, Copy)]
struct Speed {
    /// Events a second.
    speed: f64,
    /// Epochs of which a worker put out something, a second and worker.
    epochs: f64,
}

fn measure(parent: &Path, program: Program, shape: Shape, events: u64, epoch_micros: u64, input: Input) -> Speed {
    let events = events / shape.all() * shape.all();
    let dir = parent.join("run");
    std::fs::create_dir(&dir).expect("a directory");
    let run = Run {
        program,
        dir: dir.clone(),
        events: Events {
            partitions: shape.all(),
            events,
            keys: input.keys,
            order: Order::Drawn,
            json: input.json,
            ticks: false,
        },
        epoch_micros,
        checkpoints: number("COREWAL_CHECKPOINTS", 1) != 0,
        workers: shape.workers,
        process: 0,
        addresses: Vec::new(),
    };
    let took = child::run(&run, shape.processes).took.as_secs_f64();
    let (files, rows) = output(&run.output());
    // Each worker counts its own updates.
    assert!(rows <= events / ROW_EACH && rows + shape.all() > events / ROW_EACH, "{rows} rows of {events} events");
    std::fs::remove_dir_all(&dir).expect("it is ours");
    Speed { speed: events as f64 / took, epochs: files as f64 / took / shape.all() as f64 }
}

/// Files and rows in them.
fn output(dir: &Path) -> (u64, u64) {
    let (mut files, mut rows) = (0, 0);
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let file = std::fs::read(entry.expect("a file").path()).expect("a file");
        files += 1;
        rows += file.iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
    (files, rows)
}

/// The number of events that plain Timely handles in the time that is wanted.
fn calibrate(dir: &Path, shape: Shape, quick: bool, input: Input) -> u64 {
    if quick {
        return number("COREWAL_EVENTS", 20_000);
    }
    let given = number("COREWAL_EVENTS", 0);
    if given > 0 {
        return given;
    }
    // The first run warms up: the second counts.
    let speeds = [(); 2].map(|()| measure(dir, Program::Plain, shape, 4_000_000, 100_000, input).speed);
    (speeds[1] * number("COREWAL_SECONDS", 3) as f64) as u64
}

pub(crate) fn overhead(quick: bool) {
    let workers = numbers("COREWAL_WORKERS", &[1, 2]);
    let mut shapes: Vec<_> =
        workers.into_iter().map(|workers| Shape { processes: 1, workers: workers as u16 }).collect();
    let of_two = numbers("COREWAL_PROCESSES", &[1, 2]);
    shapes.extend(of_two.into_iter().map(|workers| Shape { processes: 2, workers: workers as u16 }));
    shapes.retain(|shape| shape.workers > 0);
    let pairs = number("COREWAL_PAIRS", if quick { 1 } else { 5 });
    let dir = directory();
    println!("an epoch each 100 ms; M events/s; medians of {pairs} pairs (lowest to highest)");
    println!("{:<42} {:>10}  {:>22} {:>22}  {:>26}", "", "events", "plain", "durable", "overhead, of a pair");
    let mut cells = Vec::new();
    for keys in numbers("COREWAL_KEYS", &[1_000_000, 10_000]) {
        for json in numbers("COREWAL_JSON", &[0, 1]) {
            cells.extend(shapes.iter().map(|&shape| (shape, Input { keys, json: json != 0 })));
        }
    }
    let states = State::wanted();
    for (shape, input) in cells {
        let events = calibrate(dir.path(), shape, quick, input);
        let run = |program| measure(dir.path(), program, shape, events, 100_000, input).speed / 1e6;
        // One after the other, so that the machine treats them alike.
        let programs: Vec<_> =
            [Program::Plain].into_iter().chain(states.iter().map(|&state| Program::Durable(state))).collect();
        for &program in &programs[1..] {
            run(program);
        }
        let mut speeds = vec![Vec::new(); programs.len()];
        for pair in 0..pairs as usize {
            // Each goes first in turns: what the machine does changes meanwhile.
            for at in 0..programs.len() {
                let at = (pair + at) % programs.len();
                speeds[at].push(run(programs[at]));
            }
        }
        let (plain, durable) = speeds.split_first().expect("the first is plain");
        for (state, durable) in states.iter().zip(durable) {
            // Of each pair.
            let overheads: Vec<_> =
                plain.iter().zip(durable).map(|(plain, durable)| (1.0 - durable / plain) * 100.0).collect();
            println!(
                "{:<42} {events:>10}  {:>22} {:>22}  {:>26}",
                format!(
                    "{}, {} keys{}, {}",
                    shape.name(),
                    input.keys,
                    if input.json { ", JSON" } else { "" },
                    state.name()
                ),
                spread(plain, 2),
                spread(durable, 2),
                format!("{} %", spread(&overheads, 0)),
            );
        }
    }
}

/// The median, and how far from it the others are.
fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(values.to_vec()))
}

pub(crate) fn epochs(quick: bool) {
    let shape = Shape { processes: 1, workers: 2 };
    let dir = directory();
    let pairs = number("COREWAL_PAIRS", if quick { 1 } else { 3 });
    let input = Input { keys: numbers("COREWAL_KEYS", &[1_000_000])[0], json: false };
    let events = calibrate(dir.path(), shape, quick, input);
    let program = Program::Durable(State::wanted()[0]);
    println!("{}, {events} events, durable; medians of {pairs}", shape.name());
    println!("{:<24} {:>12} {:>24}", "an epoch each", "M events/s", "epochs/s with output");
    for millis in numbers("COREWAL_EPOCHS", &[1, 10, 1_000]) {
        let runs: Vec<_> =
            (0..pairs).map(|_| measure(dir.path(), program, shape, events, millis * 1_000, input)).collect();
        println!(
            "{:<24} {:>12.2} {:>24.1}",
            format!("{millis} ms"),
            median(runs.iter().map(|run| run.speed).collect()) / 1e6,
            median(runs.iter().map(|run| run.epochs).collect()),
        );
    }
}
