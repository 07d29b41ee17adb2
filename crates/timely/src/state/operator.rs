//! What all operators with durable state have in common: records go to the
//! worker that owns their keys, wait there for their epoch, and are taken in it.

use std::collections::BTreeMap;

use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::progress::frontier::MutableAntichain;

use super::least::Least;
use super::route::by_key;
use crate::durable::Durable;
use crate::error::Result;
use crate::events::{Watermark, Watermarks};
use crate::ledger::{Ledger, NEVER};

/// What an operator does, always in the epoch that is open.
pub(super) trait Work<D, R> {
    /// Takes records of the epoch, and leaves none of them.
    fn apply(&mut self, ledger: &mut Ledger, records: &mut Vec<D>, made: &mut Vec<R>) -> Result<()>;

    /// All of the epoch has come and is applied; the least of all watermarks, if
    /// it has risen in it. What the shard has not logged when this returns is not in
    /// the epoch. May be called again for an epoch in which nothing came since.
    fn end(&mut self, ledger: &mut Ledger, risen: Option<i64>, made: &mut Vec<R>) -> Result<()>;
}

/// Records that wait for their epoch, by time.
struct Stash<D>(BTreeMap<u64, (Capability<u64>, Vec<D>)>);

impl<D> Stash<D> {
    /// The first time that waits.
    fn first(&self) -> u64 {
        self.0.first_key_value().map_or(NEVER, |(&time, _)| time)
    }

    fn add(&mut self, capability: Capability<u64>, records: &mut Vec<D>) {
        let (_, waiting) = self.0.entry(*capability.time()).or_insert_with(|| (capability, Vec::new()));
        if waiting.is_empty() {
            std::mem::swap(waiting, records);
        } else {
            waiting.append(records);
        }
    }
}

/// Makes the operator. `key` adds a record's key to what all of the operator's
/// begin with.
pub(super) fn operator<'scope, D, R, W>(
    records: StreamVec<'scope, u64, D>,
    watermarks: Watermarks<'scope>,
    durable: &Durable,
    name: &str,
    key: impl FnMut(&D, &mut Vec<u8>) + 'static,
    mut work: W,
) -> StreamVec<'scope, u64, R>
where
    D: ExchangeData,
    R: 'static,
    W: Work<D, R> + 'static,
{
    let scope = records.scope();
    let durable = durable.clone();
    durable.declare("state", name, "");
    let route = by_key(&durable, &super::prefix(name), key);
    records.binary_frontier::<_, CapacityContainerBuilder<Vec<R>>, _, _, _, _>(
        watermarks.0,
        route,
        Pipeline,
        name,
        move |capability, info| {
            let part = durable.ledger().add_part(scope.activator_for(info.address));
            let (mut stash, mut made) = (Stash(BTreeMap::new()), Vec::new());
            let mut marks: BTreeMap<u64, Vec<Watermark>> = BTreeMap::new();
            let mut least = Least::default();
            // For what is made at an epoch's end.
            let mut held = Some(capability);
            move |(records, of_records), (watermarks, of_watermarks), output| {
                durable.run(|ledger| {
                    let mut applied = Ok(());
                    records.for_each(|capability, records| {
                        let time = *capability.least().expect("a message has a time");
                        if time > ledger.open() || stash.first() <= time {
                            stash.add(capability.delayed(&time, 0), records);
                        } else if applied.is_ok() {
                            applied = work.apply(ledger, records, &mut made);
                            if !made.is_empty() {
                                output.session(&capability.delayed(&time, 0)).give_iterator(made.drain(..));
                            }
                        }
                    });
                    applied?;
                    watermarks.for_each(|capability, watermarks| {
                        let time = *capability.least().expect("a message has a time");
                        marks.entry(time).or_default().append(watermarks);
                    });
                    let first =
                        |frontier: &MutableAntichain<u64>| frontier.frontier().first().copied().unwrap_or(NEVER);
                    let frontier = first(of_records).min(first(of_watermarks));
                    loop {
                        while stash.first() <= ledger.open() {
                            let (_, (capability, mut records)) = stash.0.pop_first().expect("one waits");
                            work.apply(ledger, &mut records, &mut made)?;
                            output.session(&capability).give_iterator(made.drain(..));
                        }
                        // All of the epoch is here and applied: then it is known how
                        // far time has come in it.
                        let over = frontier > ledger.open();
                        if over {
                            let risen = marks.remove(&ledger.open()).and_then(|now| least.rise(&now));
                            work.end(ledger, risen, &mut made)?;
                            if !made.is_empty() {
                                let capability = held.as_ref().expect("held up to here");
                                let capability = capability.delayed(&ledger.open());
                                output.session(&capability).give_iterator(made.drain(..));
                            }
                        }
                        let waits = marks.first_key_value().map_or(NEVER, |(&time, _)| time);
                        let frontier = if over { frontier } else { ledger.open() };
                        let pending = stash.first().min(if over { waits } else { NEVER });
                        ledger.report(part, frontier, pending);
                        if !ledger.advance()? {
                            // Whatever is made later belongs to a later epoch.
                            match frontier.min(waits) {
                                NEVER => held = None,
                                time => {
                                    if let Some(held) = &mut held
                                        && time > *held.time()
                                    {
                                        held.downgrade(&time);
                                    }
                                }
                            }
                            return Ok(());
                        }
                    }
                });
            }
        },
    )
}
