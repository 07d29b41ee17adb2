//! The program with durability.

use std::time::{Duration, Instant};

use corewal::{Checkpoints, Options};
use corewal_timely::{
    DurableSink as _, DurableSource as _, DurableState as _, DurableStateMachine as _, Files, Job, execute,
};

use crate::events::{COMPLETE, Event, Key, is_tick};
use crate::run::{ROW_EACH, Ran, Run, State, row};

pub(crate) fn run(run: &Run, state: State) -> Ran {
    let mut job = Job::new(run.dir.join("job"), "counts").epoch_every(Duration::from_micros(run.epoch_micros));
    if !run.checkpoints {
        job = job.options(Options::new().checkpoints(Checkpoints::manual()));
    }
    let (events, output) = (run.events, run.output());
    let (began, start) = Ran::clock();
    execute(job, run.config(), move |worker, durable| {
        start.set(Instant::now()).ok();
        worker.dataflow::<u64, _, _>(|scope| {
            let mut updates = 0_u64;
            // Whether a count goes into the output.
            let mut shows = move |key: &Key| {
                updates += 1;
                updates.is_multiple_of(ROW_EACH) || is_tick(key)
            };
            let events = scope.durable_source(durable, "events", &events);
            let rows = match state {
                State::Typed => events.durable_state_machine(durable, "counts", move |key, (), count: &mut u64| {
                    *count += 1;
                    (false, shows(key).then(|| row(key, *count)))
                }),
                State::Bytes => events.durable_update(
                    durable,
                    "counts",
                    |(key, ()): &Event, bytes| bytes.extend_from_slice(key),
                    move |(key, ()), mut count, rows| {
                        let now = count.get_u64() + 1;
                        count.put_u64(now);
                        if shows(key) {
                            rows.push(row(key, now));
                        }
                    },
                ),
            };
            rows.durable_sink(durable, "out", Files::new(&output));
        });
    })
    .expect("the job comes to its end");
    let complete = COMPLETE.lock().expect("nobody panics with it").expect("all is complete");
    Ran::since(&began, complete)
}
