//! Sinks in a dataflow: rows are staged with their epoch, and published once it
//! is complete.
//!
//! Both is done by a thread of the sink's, so that the worker waits for no disk
//! and no broker. A staged file is durable before its epoch counts as durable on
//! the worker. So where an epoch is complete, all its output is staged, and a job
//! that is started again publishes what its predecessor did not come to, before
//! anything else. What else was staged is removed before an epoch of the new start
//! is complete: so whatever is found staged up to the complete epoch was complete.
//! Who was taken over finds the directory of its staged files gone.

use std::collections::BTreeMap;
use std::time::Duration;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::durable::Durable;
use crate::ledger::NEVER;
use crate::scribe::{Output, Scribe};
use crate::sink::Sink;

/// How long a sink sleeps while an epoch is not complete.
const NAP: Duration = Duration::from_millis(1);

/// Output that appears when its epoch is complete.
pub trait DurableSink<'scope> {
    /// Gives the rows of each complete epoch to `sink`, in the order in which
    /// they came to this worker, each epoch once; see [`Sink`].
    fn durable_sink<S: Sink + Send + 'static>(self, durable: &Durable, name: &str, sink: S);
}

impl<'scope> DurableSink<'scope> for StreamVec<'scope, u64, Vec<u8>> {
    fn durable_sink<S: Sink + Send + 'static>(self, durable: &Durable, name: &str, sink: S) {
        let scope = self.scope();
        let mut builder = OperatorBuilder::new(name.to_owned(), scope);
        let info = builder.operator_info();
        let activator = scope.activator_for(info.address);
        let mut input = builder.new_input(self, Pipeline);
        durable.declare("sink", name, "");
        let part = durable.ledger().add_part(scope.activator_for(builder.operator_info().address));
        let mut scribe = Output::new(durable, name, sink)
            .and_then(|mut output| {
                output.publish_rest(durable)?;
                Scribe::start(output, durable.stop())
            })
            .map_err(|error| durable.fail(error))
            .ok();
        if let Some(scribe) = &scribe {
            durable.ledger().add_handed(scribe.handed());
        }
        let durable = durable.clone();
        builder.build_reschedule(move |_| {
            let mut rows: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
            move |frontiers| {
                let Some(scribe) = &mut scribe else { return true };
                let frontier = frontiers[0].frontier().first().copied().unwrap_or(NEVER);
                durable.run(|ledger| {
                    input.for_each(|capability, arrived| {
                        let time = *capability.least().expect("a message has a time");
                        rows.entry(time).or_default().append(arrived);
                    });
                    // Before the epoch may end: it waits for what was handed over.
                    while let Some(entry) = rows.first_entry()
                        && *entry.key() < frontier
                    {
                        let (epoch, rows) = entry.remove_entry();
                        scribe.stage(epoch, rows)?;
                    }
                    ledger.report(part, frontier, NEVER);
                    while ledger.advance()? {}
                    scribe.publish(ledger.complete())
                });
                let waits = scribe.is_busy() && !durable.is_stopped();
                if waits {
                    activator.activate_after(NAP);
                }
                waits
            }
        });
    }
}
