//! The program without durability: what one would write with Timely alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corewal::Router;
use corewal_timely::{Partition as _, Read};
use hashbrown::HashMap;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::operator::{Operator as _, source};
use timely::dataflow::{Scope, StreamVec};

use crate::events::{Event, Generator, Key, is_tick};
use crate::run::{ROW_EACH, Ran, Run, row};

/// As many events at a turn as the durable source reads.
const AT_ONCE: usize = 4096;

pub(crate) fn run(run: &Run) -> Ran {
    let (events, output) = (run.events, run.output());
    let every = Duration::from_micros(run.epoch_micros);
    let (processes, workers) = (run.processes(), run.workers);
    let (began, start) = Ran::clock();
    let guards = timely::execute(run.config(), move |worker| {
        start.set(Instant::now()).ok();
        let index = worker.index();
        let partition = events.generator(index as u64, 0);
        worker.dataflow::<u64, _, _>(|scope| {
            let events = read(scope, partition, every);
            write(count(events, processes, workers), &output, index);
        });
    });
    for result in guards.expect("starts").join() {
        result.expect("comes to its end");
    }
    Ran::since(&began, Instant::now())
}

/// Events, with epochs by the clock.
fn read(scope: Scope<'_, u64>, mut partition: Generator, every: Duration) -> StreamVec<'_, u64, Event> {
    source(scope, "events", |capability, info| {
        let activator = scope.activator_for(info.address);
        let mut held = Some(capability);
        let mut buffer = Vec::new();
        let began = Instant::now();
        move |output: &mut OutputBuilderSession<'_, u64, CapacityContainerBuilder<Vec<Event>>>| {
            let Some(capability) = &mut held else { return };
            let now = (began.elapsed().as_nanos() / every.as_nanos()) as u64;
            if now > *capability.time() {
                capability.downgrade(&now);
            }
            let read = partition.read(AT_ONCE, &mut buffer).expect("it is in memory");
            output.session(capability).give_iterator(buffer.drain(..));
            match read {
                Read::End => held = None,
                _ => activator.activate(),
            }
        }
    })
}

/// Counts by key. The keys are spread as the durable program spreads them; the
/// map's hash is foldhash, about the fastest.
fn count<'scope>(
    events: StreamVec<'scope, u64, Event>,
    processes: u16,
    workers: u16,
) -> StreamVec<'scope, u64, Vec<u8>> {
    let router = Router::new(workers);
    let route = move |(key, ()): &Event| {
        let (process, core) = router.route_among(processes, key);
        u64::from(process) * u64::from(workers) + u64::from(core.0)
    };
    events.unary::<CapacityContainerBuilder<Vec<Vec<u8>>>, _, _, _>(Exchange::new(route), "counts", |_, _| {
        let mut counts: HashMap<Key, u64, foldhash::fast::RandomState> = HashMap::default();
        let mut updates = 0_u64;
        move |input, output| {
            input.for_each(|capability, events| {
                let mut session = output.session(&capability);
                for (key, ()) in events.drain(..) {
                    let now = counts.entry(key).or_default();
                    *now += 1;
                    updates += 1;
                    if updates.is_multiple_of(ROW_EACH) || is_tick(&key) {
                        session.give(row(&key, *now));
                    }
                }
            });
        }
    })
}

/// Writes the rows of each epoch into a file, once no more of them come.
fn write(rows: StreamVec<'_, u64, Vec<u8>>, dir: &Path, worker: usize) {
    fs::create_dir_all(dir).expect("a directory");
    let dir: PathBuf = dir.to_owned();
    let mut waiting: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    rows.sink(Pipeline, "out", move |(input, frontier)| {
        input.for_each(|capability, rows| {
            waiting.entry(*capability.least().expect("a message has a time")).or_default().append(rows)
        });
        while let Some(entry) = waiting.first_entry()
            && !frontier.less_equal(entry.key())
        {
            let (epoch, rows) = entry.remove_entry();
            let file = File::create(dir.join(format!("out-{epoch:020}-{worker:05}"))).expect("a file");
            let mut file = BufWriter::new(file);
            for row in rows {
                file.write_all(&row).and_then(|()| file.write_all(b"\n")).expect("writes");
            }
            file.flush().expect("writes");
        }
    });
}
