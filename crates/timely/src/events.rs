//! Sources in a dataflow: partitions, epochs by the clock, and the time that
//! the records themselves tell.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast as _;
use timely::dataflow::operators::{Capability, Concat as _};
use timely::dataflow::{Scope, StreamVec};

use crate::durable::Durable;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Mark, NEVER, PartId, PartitionId};
use crate::source::{Partition, Read, Source};

/// Records that are read of a partition at a turn: few enough for the other
/// operators to have theirs soon.
const AT_ONCE: usize = 4096;

/// A source stops reading where so many epochs are not complete yet.
const AHEAD: u64 = 64;

/// How long a source sleeps that has nothing to read.
const NAP: Duration = Duration::from_millis(1);

/// How far time has come in one partition.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Watermark {
    /// The source, by the order in which the job makes them.
    pub(crate) source: u32,
    pub(crate) partition: u32,
    /// How many partitions the source has.
    pub(crate) partitions: u32,
    /// In milliseconds: nothing earlier follows.
    pub(crate) time: i64,
}

/// How far time has come in each partition of one or more sources, told to all
/// workers.
pub struct Watermarks<'scope>(pub(crate) StreamVec<'scope, u64, Watermark>);

impl<'scope> Watermarks<'scope> {
    /// None of any source.
    pub(crate) fn none(scope: Scope<'scope, u64>) -> Self {
        Self(timely::dataflow::operators::generic::operator::empty(scope))
    }

    /// Those of other sources as well.
    #[must_use]
    pub fn concat(self, other: Watermarks<'scope>) -> Self {
        Self(self.0.concat(other.0))
    }
}

impl Clone for Watermarks<'_> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl std::fmt::Debug for Watermarks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watermarks").finish_non_exhaustive()
    }
}

/// A source whose records tell when something happened.
pub struct Events<'scope, D: 'static> {
    /// The records that are not late.
    pub records: StreamVec<'scope, u64, D>,
    /// Those that came later than they may: their partition's watermark had
    /// passed their time. Which ones these are depends on the partition alone.
    pub late: StreamVec<'scope, u64, D>,
    /// How far time has come.
    pub watermarks: Watermarks<'scope>,
}

impl<D: 'static> std::fmt::Debug for Events<'_, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Sources that go on where the newest complete epoch ended.
pub trait DurableSource<'scope> {
    /// Reads a source. Each of its partitions is read by one worker; the epoch
    /// of a record, its time in Timely's sense, is given by the clock.
    fn durable_source<S>(&self, durable: &Durable, name: &str, source: &S) -> StreamVec<'scope, u64, S::Item>
    where
        S: Source,
        S::Item: Clone;

    /// As [`DurableSource::durable_source`], for records that tell when something
    /// happened: `time` gives that in milliseconds. Of a partition, a record may
    /// come so much later than an earlier time as `lateness` says; then it is
    /// late. At a partition's end its watermark rises to the end of all time.
    fn durable_events<S, E>(
        &self,
        durable: &Durable,
        name: &str,
        source: &S,
        time: E,
        lateness: Duration,
    ) -> Events<'scope, S::Item>
    where
        S: Source,
        S::Item: Clone,
        E: Fn(&S::Item) -> i64 + 'static;
}

impl<'scope> DurableSource<'scope> for Scope<'scope, u64> {
    fn durable_source<S>(&self, durable: &Durable, name: &str, source: &S) -> StreamVec<'scope, u64, S::Item>
    where
        S: Source,
        S::Item: Clone,
    {
        read(*self, durable, name, source, None).records
    }

    fn durable_events<S, E>(
        &self,
        durable: &Durable,
        name: &str,
        source: &S,
        time: E,
        lateness: Duration,
    ) -> Events<'scope, S::Item>
    where
        S: Source,
        S::Item: Clone,
        E: Fn(&S::Item) -> i64 + 'static,
    {
        let lateness = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
        read(*self, durable, name, source, Some((Box::new(time), lateness)))
    }
}

type EventTime<D> = (Box<dyn Fn(&D) -> i64>, i64);

/// One partition that this worker reads.
struct Reading<P> {
    name: String,
    /// Its place in the source's list.
    index: u32,
    partition: P,
    id: PartitionId,
    watermark: Option<i64>,
    /// The watermark that the others were told.
    told: Option<i64>,
    /// What the ledger was told.
    marked: u64,
    /// By the ends of times: positions that are to be acknowledged.
    unacknowledged: std::collections::VecDeque<(u64, u64)>,
    state: Read,
}

/// The partitions of a source that are this worker's.
struct Readings<P> {
    source: String,
    number: u32,
    partitions: u32,
    readings: Vec<Reading<P>>,
    part: PartId,
    /// The clock of the epochs.
    began: Instant,
    every: Duration,
    first: u64,
}

fn open<S: Source>(
    durable: &Durable,
    name: &str,
    source: &S,
    number: u32,
    part: PartId,
) -> Result<Readings<S::Partition>> {
    let failed = |partition: Option<&str>| {
        let (name, partition) = (name.to_owned(), partition.map(str::to_owned));
        move |source| Error::Source { name, partition, source }
    };
    let names = source.partitions().map_err(failed(None))?;
    durable.declare("source", name, &names.join(", "));
    let mut ledger = durable.ledger();
    let mut readings = Vec::new();
    for (index, partition) in names.iter().enumerate().filter(|(index, _)| index % durable.peers() == durable.index()) {
        let (position, watermark) = ledger.resume(name, partition);
        let opened = source.open(partition, position).map_err(failed(Some(partition)))?;
        readings.push(Reading {
            name: partition.clone(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            partition: opened,
            id: ledger.add_partition(name, partition),
            watermark,
            told: None,
            marked: position,
            unacknowledged: [(ledger.open(), position)].into(),
            state: Read::More,
        });
    }
    Ok(Readings {
        source: name.to_owned(),
        number,
        partitions: u32::try_from(names.len()).unwrap_or(u32::MAX),
        readings,
        part,
        began: Instant::now(),
        every: durable.epoch_every(),
        first: ledger.open() + 1,
    })
}

fn read<'scope, S>(
    scope: Scope<'scope, u64>,
    durable: &Durable,
    name: &str,
    source: &S,
    time: Option<EventTime<S::Item>>,
) -> Events<'scope, S::Item>
where
    S: Source,
    S::Item: Clone,
{
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address);
    let (records, record_stream) = builder.new_output::<Vec<S::Item>>();
    let (late, late_stream) = builder.new_output::<Vec<S::Item>>();
    let (watermarks, watermark_stream) = builder.new_output::<Vec<Watermark>>();
    let mut records = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(records);
    let mut late = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(late);
    let mut watermarks = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(watermarks);

    let part = durable.ledger().add_part(scope.activator_for(builder.operator_info().address));
    let number = durable.next_source();
    let opened = open(durable, name, source, number, part);
    let mut readings = opened.map_err(|error| durable.fail(error)).ok();
    let durable = durable.clone();
    builder.build_reschedule(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut buffer = Vec::new();
        move |_| {
            // Where it could not be opened the job has stopped; it has not ended.
            let Some(source) = &mut readings else { return true };
            let mut waits = false;
            durable.run(|ledger| {
                let complete = ledger.complete();
                source.acknowledge(complete)?;
                let Some(held) = &mut capabilities else { return Ok(()) };
                let now = source.time();
                if now > *held[0].time() {
                    let before = *held[0].time();
                    if before >= source.first {
                        source.mark(ledger, before);
                    }
                    held.iter_mut().for_each(|capability: &mut Capability<u64>| capability.downgrade(&now));
                    ledger.report(source.part, now, NEVER);
                    ledger.advance()?;
                }
                let now = *held[0].time();
                waits = true;
                // What waits for its epoch waits in memory.
                if now <= complete.max(source.first - 1) + AHEAD {
                    let (mut records, mut late) = (records.activate(), late.activate());
                    let (mut records, mut late) = (records.session(&held[0]), late.session(&held[1]));
                    for reading in source.readings.iter_mut().filter(|reading| reading.state != Read::End) {
                        let read = reading.partition.read(AT_ONCE, &mut buffer);
                        reading.state = read.map_err(|error| failed(&source.source, &reading.name, error))?;
                        waits &= reading.state != Read::More;
                        let Some((time, lateness)) = &time else {
                            records.give_iterator(buffer.drain(..));
                            continue;
                        };
                        for record in buffer.drain(..) {
                            let time = time(&record);
                            if reading.watermark.is_some_and(|watermark| time < watermark) {
                                late.give(record);
                            } else {
                                let reached = time.saturating_sub(*lateness);
                                reading.watermark =
                                    Some(reading.watermark.map_or(reached, |before| before.max(reached)));
                                records.give(record);
                            }
                        }
                        if reading.state == Read::End {
                            reading.watermark = Some(i64::MAX);
                        }
                    }
                }
                if time.is_some() {
                    let mut watermarks = watermarks.activate();
                    let mut watermarks = watermarks.session(&held[2]);
                    for reading in source.readings.iter_mut().filter(|reading| reading.told != reading.watermark) {
                        reading.told = reading.watermark;
                        watermarks.give(Watermark {
                            source: source.number,
                            partition: reading.index,
                            partitions: source.partitions,
                            time: reading.watermark.expect("it has risen"),
                        });
                    }
                }
                let ended = source.readings.iter().all(|reading| reading.state == Read::End);
                // Who is asked to stop reads no more; time has not come to its end.
                if ended || durable.is_asked_to_stop() {
                    source.mark(ledger, now);
                    capabilities = None;
                    ledger.report(source.part, NEVER, NEVER);
                    ledger.advance()?;
                }
                Ok(())
            });
            let done = capabilities.is_none() && source.is_acknowledged();
            if !done && !durable.is_stopped() {
                if waits || capabilities.is_none() { activator.activate_after(NAP) } else { activator.activate() }
            }
            !done
        }
    });
    let watermarks = Watermarks(watermark_stream.broadcast());
    Events { records: record_stream, late: late_stream, watermarks }
}

fn failed(source: &str, partition: &str, error: crate::source::BoxError) -> Error {
    Error::Source { name: source.to_owned(), partition: Some(partition.to_owned()), source: error }
}

/// How many epochs are over so long after the start. The first lasts a tenth of
/// the others: whoever waits for a job to go on has its output sooner.
fn epochs_over(elapsed: Duration, every: Duration) -> u64 {
    let every = every.as_nanos().max(1);
    let over = (elapsed.as_nanos() + every - every.div_ceil(10)) / every;
    u64::try_from(over).unwrap_or(u64::MAX)
}

impl<P: Partition> Readings<P> {
    /// The epoch by the clock.
    fn time(&self) -> u64 {
        self.first + epochs_over(self.began.elapsed(), self.every)
    }

    /// Notes how far each partition is read by the end of `time`.
    fn mark(&mut self, ledger: &mut Ledger, time: u64) {
        for reading in &mut self.readings {
            let position = reading.partition.position();
            if position != reading.marked {
                reading.marked = position;
                reading.unacknowledged.push_back((time, position));
            } else if reading.state != Read::End {
                continue;
            }
            ledger.mark(reading.id, Mark { time, position, watermark: reading.watermark });
        }
    }

    /// Tells the partitions what is complete.
    fn acknowledge(&mut self, complete: u64) -> Result<()> {
        for reading in &mut self.readings {
            let mut newest = None;
            while reading.unacknowledged.front().is_some_and(|&(time, _)| time <= complete) {
                newest = reading.unacknowledged.pop_front();
            }
            if let Some((_, position)) = newest {
                let told = reading.partition.complete(position);
                told.map_err(|error| failed(&self.source, &reading.name, error))?;
            }
        }
        Ok(())
    }

    fn is_acknowledged(&self) -> bool {
        self.readings.iter().all(|reading| reading.unacknowledged.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_is_short_and_all_others_are_alike() {
        let over = |micros, every| epochs_over(Duration::from_micros(micros), Duration::from_millis(every));
        let at = [0, 9_999, 10_000, 109_999, 110_000, 210_000];
        assert_eq!(at.map(|micros| over(micros, 100)), [0, 0, 1, 1, 2, 3]);
        // Each moment, if epochs take no time.
        assert_eq!(epochs_over(Duration::from_nanos(3), Duration::ZERO), 3);
    }
}
