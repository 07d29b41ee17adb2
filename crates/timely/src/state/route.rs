//! The way of records to the workers that own their keys.

use timely::communication::Push;
use timely::container::{CapacityContainerBuilder, ContainerBuilder as _, PushInto as _};
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::progress::Stamp;

use super::group::{AT_ONCE, Group};
use crate::durable::Durable;

/// Sends each record to the worker that owns its key; `key` adds that to what
/// each key of the operator begins with.
pub(super) fn by_key<D, F>(
    durable: &Durable,
    prefix: &[u8],
    key: F,
) -> DistributorPact<impl FnOnce(usize) -> ByKey<D, F> + use<D, F>>
where
    D: 'static,
    F: FnMut(&D, &mut Vec<u8>) + 'static,
{
    let (durable, group) = (durable.clone(), Group::new(prefix));
    DistributorPact(move |peers| {
        let builders = std::iter::repeat_with(CapacityContainerBuilder::default).take(peers).collect();
        ByKey { durable, group, key, builders }
    })
}

/// Timely's own would do, but asks for one record's worker at a time. Here some
/// keys are written before the first is hashed: to read what was written only
/// just, in other pieces than it was, took longer than the hash itself.
pub(super) struct ByKey<D: 'static, F> {
    durable: Durable,
    group: Group,
    key: F,
    builders: Vec<CapacityContainerBuilder<Vec<D>>>,
}

impl<D, F> Distributor<Vec<D>> for ByKey<D, F>
where
    D: 'static,
    F: FnMut(&D, &mut Vec<u8>),
{
    fn partition<T: Clone, P: Push<Message<T, Vec<D>>>>(
        &mut self,
        records: &mut Vec<D>,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let mut records = records.drain(..);
        while !records.as_slice().is_empty() {
            self.group.clear();
            for record in records.as_slice().iter().take(AT_ONCE) {
                self.group.add(|bytes| (self.key)(record, bytes));
            }
            let (mut workers, count) = ([0; AT_ONCE], self.group.keys().len());
            for (worker, key) in workers.iter_mut().zip(self.group.keys()) {
                *worker = self.durable.worker_of(key);
            }
            for &worker in &workers[..count] {
                let record = records.next().expect("one for each key");
                self.builders[worker].push_into(record);
                while let Some(full) = self.builders[worker].extract() {
                    Message::push_at(full, stamp.clone(), &mut pushers[worker]);
                }
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Vec<D>>>>(&mut self, stamp: &Stamp<T>, pushers: &mut [P]) {
        for (builder, pusher) in self.builders.iter_mut().zip(pushers) {
            while let Some(rest) = builder.finish() {
                Message::push_at(rest, stamp.clone(), pusher);
            }
        }
    }

    fn relax(&mut self) {
        self.builders.iter_mut().for_each(|builder| builder.relax());
    }
}
