//! Spreading state anew: where a job goes on with other processes or workers
//! than before, or on other machines, those who have the old stores read them,
//! and a dataflow brings each key to the worker that owns it now.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use corewal::{Commit, CoreView, Keyed, Shard};
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::{Broadcast as _, Input as _};
use timely::dataflow::operators::{Exchange as _, Inspect as _, Probe as _};
use timely::worker::Worker;

use crate::error::Result;
use crate::job::Run;
use crate::places::Place;

/// Keys that are handed over, or taken, before it is looked what has become of
/// them.
const BATCH: usize = 4096;

/// Batches of a reader that may be under way.
const UNDER_WAY: u64 = 16;

/// A worker's part of the state, and the job's offsets.
struct Taken {
    shard: Option<Shard>,
    offsets: BTreeMap<String, Vec<u8>>,
    uncommitted: usize,
    failed: Option<corewal::Error>,
}

impl Taken {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let Some(shard) = self.shard.as_mut().filter(|_| self.failed.is_none()) else { return };
        self.uncommitted += 1;
        let mut done = shard.put(key, value);
        if done.is_ok() && self.uncommitted == BATCH {
            self.uncommitted = 0;
            done = shard.commit(&Commit::new()).map(drop);
        }
        self.failed = done.err();
    }

    /// A partition may be known from several stores, where it has moved before:
    /// the one who reads it is ahead.
    fn know(&mut self, name: &str, value: &[u8]) {
        let number = |value: &[u8]| value.try_into().map_or(i64::MIN, i64::from_le_bytes);
        let known = self.offsets.entry(name.to_owned()).or_insert_with(|| value.to_vec());
        if number(value) > number(known) {
            value.clone_into(known);
        }
    }

    fn check(&mut self) -> Result<()> {
        Ok(self.failed.take().map_or(Ok(()), Err)?)
    }
}

/// Takes part in spreading the state: gives the shard with all keys that are
/// its own, and the offsets of all partitions. `stores` are read by this worker,
/// one after the other. `step` runs the worker until something holds.
pub(crate) fn spread(
    worker: &mut Worker,
    place: Place,
    shard: Shard,
    stores: impl Iterator<Item = Result<Vec<CoreView<Keyed>>>>,
    step: impl Fn(&mut Worker, &dyn Fn() -> bool) -> Run<()>,
) -> Run<(Shard, BTreeMap<String, Vec<u8>>)> {
    let none = Taken { shard: Some(shard), offsets: BTreeMap::new(), uncommitted: 0, failed: None };
    let taken = Rc::new(RefCell::new(none));
    let probe = Handle::new();
    let (mut keys, mut offsets) = worker.dataflow_named::<u64, _, _>("spread", |scope| {
        let (keys, key_stream) = scope.new_input();
        let (offsets, offset_stream) = scope.new_input();
        let own = Rc::clone(&taken);
        key_stream
            .exchange(move |(key, _): &(Vec<u8>, Vec<u8>)| place.worker_of(key) as u64)
            .inspect(move |(key, value)| own.borrow_mut().put(key, value))
            .probe_with(&probe);
        let own = Rc::clone(&taken);
        offset_stream
            .broadcast()
            .inspect(move |(name, value): &(String, Vec<u8>)| own.borrow_mut().know(name, value))
            .probe_with(&probe);
        (keys, offsets)
    });
    let (mut time, mut sent) = (0, 0);
    for views in stores {
        let views = views?;
        for (name, value) in views.iter().flat_map(|view| &view.offsets) {
            offsets.send((name.clone(), value.clone()));
        }
        for (key, value) in views.iter().flat_map(|view| view.state.iter()) {
            keys.send((key.to_vec(), value.to_vec()));
            sent += 1;
            if sent % BATCH == 0 {
                time += 1;
                keys.advance_to(time);
                offsets.advance_to(time);
                // Not more is in memory than the slowest can take.
                step(worker, &|| !probe.less_than(&time.saturating_sub(UNDER_WAY)))?;
                taken.borrow_mut().check()?;
            }
        }
    }
    keys.close();
    offsets.close();
    step(worker, &|| probe.done())?;
    let mut taken = taken.borrow_mut();
    taken.check()?;
    let mut shard = taken.shard.take().expect("nobody else takes it");
    shard.commit(&Commit::new()).map_err(crate::error::Error::from)?;
    Ok((shard, std::mem::take(&mut taken.offsets)))
}
