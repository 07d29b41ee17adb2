//! Keyed state in a dataflow: operators whose state is durable.

use std::collections::BTreeMap;

use corewal::{Entry, Shard};
use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator as _;

use crate::durable::Durable;
use crate::events::{Watermark, Watermarks};
use crate::ledger::{Ledger, NEVER, PartId};

/// The value of one key, to be read and changed. It is logged with what it is at
/// the end of the epoch; before that only where very many keys change.
#[derive(Debug)]
pub struct Slot<'a> {
    entry: Entry<'a>,
    failed: &'a mut Option<corewal::Error>,
}

impl Slot<'_> {
    /// The value; `None` if the key is not there.
    #[must_use]
    pub fn get(&self) -> Option<&[u8]> {
        self.entry.get()
    }

    /// The value as a number, if it has one of eight bytes; 0 if it is not there.
    #[must_use]
    pub fn get_u64(&self) -> u64 {
        self.get().and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Sets the value.
    pub fn put(&mut self, value: &[u8]) {
        let put = self.entry.put(value);
        keep_first(self.failed, put);
    }

    /// Sets the value to a number, of eight bytes, the least first.
    pub fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Removes the key.
    pub fn delete(&mut self) {
        let deleted = self.entry.delete();
        keep_first(self.failed, deleted);
    }
}

/// The keys of one operator that are this worker's, in byte order.
#[derive(Debug)]
pub struct Keys<'a> {
    shard: &'a mut Shard,
    prefix: &'a [u8],
    failed: &'a mut Option<corewal::Error>,
}

impl Keys<'_> {
    /// Calls `visit` with each key and its value, in order, until it says that
    /// it has seen enough, and removes those for which it says so.
    pub fn take_while(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Take) {
        let mut taken = Vec::new();
        for (key, value) in self.shard.scan(self.prefix) {
            match visit(&key[self.prefix.len()..], value) {
                Take::Remove => taken.push(key.to_vec()),
                Take::Keep => {}
                Take::Stop => break,
            }
        }
        for key in taken {
            let deleted = self.shard.entry(&key).and_then(|mut entry| entry.delete());
            keep_first(self.failed, deleted);
        }
    }
}

/// What becomes of a key that was visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is removed.
    Remove,
    /// It stays.
    Keep,
    /// It stays, and no more are visited.
    Stop,
}

/// Moves nothing where nothing failed: it is called for each update.
#[inline]
fn keep_first(failed: &mut Option<corewal::Error>, result: corewal::Result<()>) {
    if let Err(error) = result {
        failed.get_or_insert(error);
    }
}

/// State by key that survives.
pub trait DurableState<'scope, D: ExchangeData> {
    /// Sends each record to the worker that owns its key, and has `update` change
    /// the value there and make output of it.
    ///
    /// `key` writes a record's key into a buffer that is empty. Within an epoch,
    /// records are taken as they arrive; those of later epochs wait. The changes
    /// are part of the record's epoch: all of them survive, or none.
    ///
    /// In the store the key stands as `<name>/<key>`. The name is what the state
    /// is found by when the job is started again.
    fn durable_update<R, K, L>(self, durable: &Durable, name: &str, key: K, update: L) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        K: Fn(&D, &mut Vec<u8>) + 'static,
        L: FnMut(&D, Slot<'_>, &mut Vec<R>) + 'static;

    /// As [`DurableState::durable_update`], and at the end of each epoch in which
    /// the watermark has risen, `rise` may make output of keys and remove them:
    /// those of windows that are over, say. It is given the least watermark of
    /// all partitions, in milliseconds; of what comes from them later nothing
    /// has an earlier time.
    fn durable_windows<R, K, L, C>(
        self,
        watermarks: Watermarks<'scope>,
        durable: &Durable,
        name: &str,
        key: K,
        update: L,
        rise: C,
    ) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        K: Fn(&D, &mut Vec<u8>) + 'static,
        L: FnMut(&D, Slot<'_>, &mut Vec<R>) + 'static,
        C: FnMut(i64, Keys<'_>, &mut Vec<R>) + 'static;
}

/// Records that wait for their epoch, by time.
type Stash<D> = BTreeMap<u64, (Capability<u64>, Vec<D>)>;

/// What both kinds of operators do with records.
struct Updates<D, R, K, L> {
    durable: Durable,
    part: PartId,
    full_key: FullKey<K>,
    update: L,
    stash: Stash<D>,
    /// Buffers that are used again and again.
    keys: Vec<u8>,
    made: Vec<R>,
}

/// Records whose keys are looked for at once: the waits for memory overlap. It
/// halved the time of an update of one key out of a million.
const AT_ONCE: usize = 32;

/// A record's key as it stands in the store.
struct FullKey<K> {
    prefix: Vec<u8>,
    key: std::rc::Rc<K>,
    own: Vec<u8>,
}

impl<K> FullKey<K> {
    fn new(name: &str, key: std::rc::Rc<K>) -> Self {
        Self { prefix: format!("{name}/").into_bytes(), key, own: Vec::new() }
    }

    /// Adds the key of a record.
    fn of<D>(&mut self, record: &D, into: &mut Vec<u8>)
    where
        K: Fn(&D, &mut Vec<u8>),
    {
        self.own.clear();
        (self.key)(record, &mut self.own);
        into.extend_from_slice(&self.prefix);
        into.extend_from_slice(&self.own);
    }
}

impl<D, R, K, L> Updates<D, R, K, L>
where
    K: Fn(&D, &mut Vec<u8>),
    L: FnMut(&D, Slot<'_>, &mut Vec<R>),
{
    fn apply(&mut self, ledger: &mut Ledger, records: &[D]) -> corewal::Result<()> {
        let mut failed = None;
        for group in records.chunks(AT_ONCE) {
            let mut ends = [0; AT_ONCE + 1];
            self.keys.clear();
            for (at, record) in group.iter().enumerate() {
                self.full_key.of(record, &mut self.keys);
                ends[at + 1] = self.keys.len();
            }
            let mut keys = [&[][..]; AT_ONCE];
            for (key, ends) in keys.iter_mut().zip(ends.windows(2)).take(group.len()) {
                *key = &self.keys[ends[0]..ends[1]];
            }
            let mut entries = ledger.shard.entries(&keys[..group.len()]);
            for record in group {
                let entry = entries.next_entry().expect("one for each")?;
                (self.update)(record, Slot { entry, failed: &mut failed }, &mut self.made);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The first time that waits.
    fn waits(&self) -> u64 {
        self.stash.first_key_value().map_or(NEVER, |(&time, _)| time)
    }

    fn wait(&mut self, capability: Capability<u64>, mut records: Vec<D>) {
        let (_, waiting) = self.stash.entry(*capability.time()).or_insert_with(|| (capability, Vec::new()));
        if waiting.is_empty() {
            *waiting = records;
        } else {
            waiting.append(&mut records);
        }
    }
}

impl<'scope, D: ExchangeData> DurableState<'scope, D> for StreamVec<'scope, u64, D> {
    fn durable_update<R, K, L>(self, durable: &Durable, name: &str, key: K, update: L) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        K: Fn(&D, &mut Vec<u8>) + 'static,
        L: FnMut(&D, Slot<'_>, &mut Vec<R>) + 'static,
    {
        let none = timely::dataflow::operators::generic::operator::empty(self.scope());
        self.durable_windows(Watermarks(none), durable, name, key, update, |_, _, _| {})
    }

    fn durable_windows<R, K, L, C>(
        self,
        watermarks: Watermarks<'scope>,
        durable: &Durable,
        name: &str,
        key: K,
        update: L,
        mut rise: C,
    ) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        K: Fn(&D, &mut Vec<u8>) + 'static,
        L: FnMut(&D, Slot<'_>, &mut Vec<R>) + 'static,
        C: FnMut(i64, Keys<'_>, &mut Vec<R>) + 'static,
    {
        let scope = self.scope();
        let durable = durable.clone();
        durable.declare("state", name, "");
        let key = std::rc::Rc::new(key);
        let full_key = FullKey::new(name, std::rc::Rc::clone(&key));
        let route = {
            let (durable, mut full_key, mut buffer) = (durable.clone(), FullKey::new(name, key), Vec::new());
            move |record: &D| {
                buffer.clear();
                full_key.of(record, &mut buffer);
                durable.worker_of(&buffer)
            }
        };
        self.binary_frontier::<_, CapacityContainerBuilder<Vec<R>>, _, _, _, _>(
            watermarks.0,
            Exchange::new(route),
            Pipeline,
            name,
            move |capability, info| {
                let part = durable.ledger().add_part(scope.activator_for(info.address));
                let (stash, keys, made) = (Stash::new(), Vec::new(), Vec::new());
                let mut updates = Updates { durable, part, full_key, update, stash, keys, made };
                let mut marks: BTreeMap<u64, Vec<Watermark>> = BTreeMap::new();
                let mut least = Least::default();
                // For what is made at an epoch's end.
                let mut held = Some(capability);
                move |(records, of_records), (watermarks, of_watermarks), output| {
                    let durable = updates.durable.clone();
                    durable.run(|ledger| {
                        records.for_each(|capability, records| {
                            let records = std::mem::take(records);
                            let time = *capability.least().expect("a message has a time");
                            if time > ledger.open() || updates.waits() <= time {
                                updates.wait(capability.delayed(&time, 0), records);
                            } else if let Err(error) = updates.apply(ledger, &records) {
                                durable.fail(error.into());
                            } else if !updates.made.is_empty() {
                                output.session(&capability.delayed(&time, 0)).give_iterator(updates.made.drain(..));
                            }
                        });
                        watermarks.for_each(|capability, watermarks| {
                            let time = *capability.least().expect("a message has a time");
                            marks.entry(time).or_default().append(watermarks);
                        });
                        let first = |frontier: &timely::progress::frontier::MutableAntichain<u64>| {
                            frontier.frontier().first().copied().unwrap_or(NEVER)
                        };
                        let frontier = first(of_records).min(first(of_watermarks));
                        loop {
                            while updates.waits() <= ledger.open() {
                                let (_, (capability, records)) = updates.stash.pop_first().expect("one waits");
                                updates.apply(ledger, &records)?;
                                output.session(&capability).give_iterator(updates.made.drain(..));
                            }
                            // All of the epoch is here and applied: then it is known how
                            // far time has come in it.
                            let over = frontier > ledger.open();
                            if over
                                && let Some(now) = marks.remove(&ledger.open())
                                && let Some(time) = least.rise(&now)
                            {
                                let mut failed = None;
                                let keys = Keys {
                                    shard: &mut ledger.shard,
                                    prefix: &updates.full_key.prefix,
                                    failed: &mut failed,
                                };
                                rise(time, keys, &mut updates.made);
                                failed.map_or(Ok(()), Err)?;
                                if !updates.made.is_empty() {
                                    let capability = held.as_ref().expect("held up to here");
                                    let capability = capability.delayed(&ledger.open());
                                    output.session(&capability).give_iterator(updates.made.drain(..));
                                }
                            }
                            let waits = marks.first_key_value().map_or(NEVER, |(&time, _)| time);
                            let frontier = if over { frontier } else { ledger.open() };
                            let pending = updates.waits().min(if over { waits } else { NEVER });
                            ledger.report(updates.part, frontier, pending);
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
}

/// The least watermark of all partitions.
#[derive(Debug, Default)]
struct Least {
    /// By source and partition.
    known: BTreeMap<(u32, u32), i64>,
    /// How many partitions there are, by source.
    partitions: BTreeMap<u32, u32>,
    least: Option<i64>,
}

impl Least {
    /// Takes what came, and gives the least if it has risen by it.
    fn rise(&mut self, watermarks: &[Watermark]) -> Option<i64> {
        for mark in watermarks {
            self.partitions.insert(mark.source, mark.partitions);
            let known = self.known.entry((mark.source, mark.partition)).or_insert(mark.time);
            *known = mark.time.max(*known);
        }
        // One that has said nothing yet may be far behind.
        if self.known.len() < self.partitions.values().map(|&partitions| partitions as usize).sum() {
            return None;
        }
        let least = self.known.values().copied().min()?;
        let risen = self.least.is_none_or(|before| least > before);
        self.least = Some(least);
        risen.then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(source: u32, partition: u32, time: i64) -> Watermark {
        Watermark { source, partition, partitions: 2, time }
    }

    #[test]
    fn time_has_come_as_far_as_in_the_partition_that_is_behind() {
        let mut least = Least::default();
        assert_eq!(least.rise(&[mark(0, 0, 50)]), None, "the other has said nothing");
        assert_eq!(least.rise(&[mark(0, 1, 10)]), Some(10));
        assert_eq!(least.rise(&[mark(0, 0, 70)]), None);
        assert_eq!(least.rise(&[mark(0, 1, 60), mark(0, 0, 65)]), Some(60), "it never falls");
        assert_eq!(least.rise(&[mark(1, 0, 99)]), None);
        assert_eq!(least.rise(&[mark(1, 1, 99)]), None, "not risen");
    }
}
