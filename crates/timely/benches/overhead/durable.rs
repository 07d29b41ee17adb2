//! The program with durability.

use std::time::{Duration, Instant};

use corewal::{Checkpoints, Options};
use corewal_timely::{DurableSink as _, DurableSource as _, DurableState as _, Files, Job, execute};

use crate::events::{COMPLETE, Event};
use crate::run::{ROW_EACH, Ran, Run, row};

pub(crate) fn run(run: &Run) -> Ran {
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
            scope
                .durable_source(durable, "events", &events)
                .durable_update(
                    durable,
                    "counts",
                    |event: &Event, key| key.extend_from_slice(&event.key),
                    move |event, mut count, rows| {
                        let now = count.get_u64() + 1;
                        count.put_u64(now);
                        updates += 1;
                        if updates.is_multiple_of(ROW_EACH) || event.is_tick() {
                            rows.push(row(event, now));
                        }
                    },
                )
                .durable_sink(durable, "out", Files::new(&output));
        });
    })
    .expect("the job comes to its end");
    let complete = COMPLETE.lock().expect("nobody panics with it").expect("all is complete");
    Ran::since(&began, complete)
}
