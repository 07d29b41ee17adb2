//! From durable here to complete everywhere: a dataflow of its own in which
//! each worker holds back the epochs that are not durable on it, and the first
//! worker those that are not recorded. What has passed both is complete.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe as _;
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::operator::{Operator as _, source};
use timely::dataflow::operators::vec::Broadcast as _;
use timely::worker::Worker;

use crate::durable::Durable;
use crate::error::{Error, Result};
use crate::ledger::{NEVER, last_epoch};
use crate::record::{Record, Records};

/// Where nothing becomes complete, how often it is looked whether others have
/// taken over.
const CHECK: Duration = Duration::from_secs(1);

/// How often it is looked whether something has become durable.
const LOOK: Duration = Duration::from_micros(300);

type Output<'a> = OutputBuilderSession<'a, u64, CapacityContainerBuilder<Vec<()>>>;

/// Makes the dataflow. `records` is given on the first worker.
pub(crate) fn watch(worker: &mut Worker, durable: &Durable, records: Option<(Records, Record)>) {
    let durable = durable.clone();
    let (first_worker, first_epoch) = (records.is_some(), durable.first_epoch());
    let mut recorder = records.map(|(records, record)| Recorder::start(records, record, &durable));
    worker.dataflow_named::<u64, _, _>("durable epochs", |scope| {
        let probe = durable.ledger().complete_probe().clone();
        let of_worker = durable.clone();
        let held = source(scope, "durable", |capability, info| {
            let activator = scope.activator_for(info.address.clone());
            durable.ledger().set_watcher(scope.activator_for(info.address));
            let mut held = Some(capability);
            let mut inherits = of_worker.leads();
            let mut littered = of_worker.leads();
            let mut told = !of_worker.leads();
            activator.activate();
            move |output: &mut Output<'_>| {
                of_worker.run(|ledger| {
                    // A worker without durable operators ends what all others do.
                    while ledger.advance()? {}
                    let durable = ledger.poll_durable()?;
                    let Some(capability) = &mut held else { return Ok(()) };
                    if !told && of_worker.is_asked_to_stop() {
                        told = true;
                        output.session(capability).give(());
                    }
                    if inherits && of_worker.all_have_built() {
                        // By now each sink has published what earlier starts left.
                        // Whatever else they staged never became complete, and
                        // has to be gone before an epoch with a higher number is.
                        inherits = false;
                        of_worker.staging().remove_inherited()?;
                    }
                    if littered && ledger.complete() >= first_epoch {
                        // From now on no start takes the state from anywhere else.
                        littered = false;
                        of_worker.remove_litter_beside();
                    }
                    if ledger.is_done() && !inherits {
                        held = None;
                        return Ok(());
                    }
                    if !inherits && durable >= first_epoch && durable + 1 > *capability.time() {
                        capability.downgrade(&(durable + 1));
                    }
                    // Confirmed epochs are to reach the store also where none ends.
                    activator.activate_after(if ledger.is_ending() { LOOK } else { 16 * LOOK });
                    Ok(())
                });
            }
        });
        // Whoever is asked to stop tells all others.
        let stop = durable.stop();
        let recorded = held.broadcast().unary_frontier(Pipeline, "complete", move |capability, info| {
            let activator = scope.activator_for(info.address);
            let mut held = first_worker.then_some(capability);
            move |(input, frontier), _: &mut Output<'_>| {
                input.for_each(|_, _| stop.ask());
                let (Some(capability), Some(recorder)) = (&mut held, &mut recorder) else { return };
                let durable_everywhere = frontier.frontier().first().copied().unwrap_or(NEVER);
                let recorded = match recorder.record(durable_everywhere) {
                    Err(error) => return durable.fail(error),
                    Ok(recorded) => recorded,
                };
                if recorded + 1 > *capability.time() {
                    capability.downgrade(&(recorded + 1));
                }
                if durable_everywhere == NEVER && recorder.is_idle() {
                    held = None;
                } else if !recorder.is_idle() {
                    activator.activate_after(LOOK);
                }
            }
        });
        recorded.probe_with(&probe);
    });
}

/// Writes records on a thread of its own, the newest first: where writing takes
/// longer than an epoch, some go together.
struct Recorder {
    wanted: Sender<u64>,
    written: Receiver<Result<u64>>,
    /// Handed over and not answered.
    asked: Option<u64>,
    /// The newest that was ever known to be durable everywhere.
    newest: u64,
    recorded: u64,
    /// What is complete once nothing follows.
    last: u64,
}

impl Recorder {
    fn start(mut records: Records, mut record: Record, durable: &Durable) -> Self {
        let last = last_epoch(durable.attempt());
        let stop = durable.stop();
        let (wanted, asked) = channel::<u64>();
        let (answer, written) = channel();
        let recorded = record.complete;
        thread::spawn(move || {
            loop {
                let result = match asked.recv_timeout(CHECK) {
                    Ok(complete) => {
                        record.complete = complete;
                        records.add(&record).map(|()| complete)
                    }
                    // Nothing becomes complete: perhaps since others have gone on
                    // without this start, while it was cut off from them.
                    Err(RecvTimeoutError::Timeout) => match records.check() {
                        Ok(()) => continue,
                        // Nothing else moves, so nobody would ask for it.
                        Err(error) => return stop.stop(error),
                    },
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let failed = result.is_err();
                if answer.send(result).is_err() || failed {
                    return;
                }
            }
        });
        Self { wanted, written, asked: None, newest: recorded, recorded, last }
    }

    /// Everything before `frontier` is durable everywhere. Gives what is
    /// recorded by now.
    fn record(&mut self, frontier: u64) -> Result<u64> {
        match self.written.try_recv() {
            Ok(written) => {
                self.recorded = written?;
                self.asked = None;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(Error::Worker { detail: "the thread that records what is complete has ended".into() });
            }
        }
        let complete = if frontier == NEVER { self.last } else { frontier.saturating_sub(1) };
        self.newest = self.newest.max(complete);
        if self.asked.is_none() && self.newest > self.recorded {
            self.asked = Some(self.newest);
            // If it has ended, the next look says so.
            let _ = self.wanted.send(self.newest);
        }
        Ok(self.recorded)
    }

    /// Whether all that may be recorded is.
    fn is_idle(&self) -> bool {
        self.asked.is_none() && self.newest == self.recorded
    }
}
