//! `bench`: what this machine gives, and what corewal makes of it.
//!
//! ```text
//! run → cell → backend: a fresh store, the cell, its check; the cell's limit beside it
//! ```
//!
//! Limits are measured next to the cells that are compared with them, and a
//! ratio is taken within a run: a machine is not the same from one minute to
//! the next.

mod cell;
mod cells;
mod check;
mod figures;
mod ground;
mod limits;
mod machine;
mod nap;
mod raw;
mod report;
mod results;
mod show;
mod sizes;
mod table;
mod timer;
mod work;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use self::cell::Cell;
pub(crate) use self::cell::CellList;
use self::cells::{Stage, measure};
use self::ground::Ground;
use self::limits::{Limit, Limits};
use self::machine::Machine;
use self::results::{Backend, Results};
use self::show::Show;
use self::sizes::Sizes;
use self::timer::Stop;
use crate::args::{Bench, Common};
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::medium::Io;

/// Does what `corewal bench` asks for.
pub(crate) fn run(common: &Common, args: &Bench) -> Result<Exit, Failure> {
    let began = Instant::now();
    // A report that can't be written is better known before the work.
    let report = args.report.as_deref().map(report::Report::create).transpose()?;
    let mut ground = Ground::take(&common.dir)?;
    let path = ground.path().to_owned();
    // A second Ctrl-C waits for nothing, but leaves nothing behind either.
    let stop = Stop(interrupt::watch("removing what was made", move || ground::abandon(&path))?);
    let mut results = Results::new(Machine::look(ground.path()), args.quick, args.runs, backends(args, &ground));
    let sizes = if args.quick { Sizes::quick() } else { Sizes::full() };
    let mut limits = Limits::new(ground.path(), sizes, stop.clone());
    let bench = Plan { cells: &args.cells.0, runs: args.runs, sizes, stop: &stop };
    bench.measure(&mut ground, &mut limits, &mut results)?;
    drop(ground);
    results.way = limits.way.name();
    results.limits = limits.rows;
    results.interrupted = stop.asked();
    results.seconds = began.elapsed().as_secs_f64();

    if let Some(report) = report {
        report.write(&results)?;
    }
    let text = if common.json { format!("{}\n", results.json()) } else { table::print(&results) };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Done)
}

/// The backends asked for, with the reasons why some are not to be had.
fn backends(args: &Bench, ground: &Ground) -> Vec<Backend> {
    let mut asked = args.backend.clone();
    if asked.is_empty() {
        asked = vec![Io::Uring, Io::Blocking, Io::Buffered];
    }
    asked.sort();
    asked.dedup();
    asked.into_iter().map(|io| Backend { io, storage: io.exactly(ground.path()) }).collect()
}

/// What is to be done.
struct Plan<'a> {
    cells: &'a [Cell],
    runs: u32,
    sizes: Sizes,
    stop: &'a Stop,
}

impl Plan<'_> {
    fn measure(&self, ground: &mut Ground, limits: &mut Limits, results: &mut Results) -> Result<(), Failure> {
        let backends = results.usable();
        let steps = Limit::basic().len() + self.cells.len() * backends.len();
        let show = Show::new(steps * self.runs as usize);
        for run in 1..=self.runs {
            limits.expire();
            for limit in Limit::basic() {
                if self.stop.asked() {
                    return Ok(());
                }
                show.next(run, self.runs, &limit.to_string());
                limits.get(limit)?;
            }
            let mut earlier: BTreeMap<(Cell, Io), f64> = BTreeMap::new();
            for &cell in self.cells {
                limits.expire();
                for (io, storage) in &backends {
                    show.next(run, self.runs, &format!("{cell}, {io}"));
                    let store = ground.fresh();
                    let mut stage = Stage {
                        dir: store.clone(),
                        storage: storage.clone(),
                        sizes: self.sizes,
                        stop: self.stop,
                        limits,
                        earlier: &|cell| earlier.get(&(cell, *io)).copied(),
                    };
                    let outcome = measure(cell, &mut stage);
                    ground.clear(&store)?;
                    if self.stop.asked() {
                        return Ok(()); // what was cut short does not count
                    }
                    let outcome = outcome.map_err(|failure| failure.context(format!("{cell} on {io}")))?;
                    earlier.insert((cell, *io), outcome.figure);
                    results.push(cell, *io, outcome);
                }
            }
        }
        Ok(())
    }
}
