//! Keyed state in a dataflow: operators whose state is durable.

mod group;
mod least;
mod machine;
mod operator;
mod route;
mod states;
mod stored;
mod window;
mod window_machine;
mod working_set;

use std::rc::Rc;

use corewal::{Entry, Shard};
use timely::ExchangeData;
use timely::dataflow::StreamVec;

use self::group::{AT_ONCE, Group};
pub use self::machine::DurableStateMachine;
use self::operator::{Work, operator};
pub use self::stored::Stored;
pub use self::window::Window;
pub use self::window_machine::DurableWindowMachine;
use crate::durable::Durable;
use crate::error::Result;
use crate::events::Watermarks;
use crate::ledger::Ledger;

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
    ///
    /// For states of a type of one's own there is
    /// [`durable_state_machine`](crate::DurableStateMachine::durable_state_machine), and for
    /// those of windows
    /// [`durable_window_machine`](crate::DurableWindowMachine::durable_window_machine).
    ///
    /// ```
    /// use corewal_timely::{DurableSink as _, DurableSource as _, DurableState as _, Files, Job, Lines, execute};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (state, output) = (dir.path().join("state"), dir.path().join("output"));
    /// # let input = dir.path().join("lines");
    /// # std::fs::write(&input, "to be\nor not\nto be\n")?;
    /// let lines = Lines::new([input])?;
    /// execute(Job::new(state, "lines"), timely::Config::process(2), move |worker, durable| {
    ///     worker.dataflow::<u64, _, _>(|scope| {
    ///         scope
    ///             .durable_source(durable, "lines", &lines)
    ///             .durable_update(durable, "counts", |line, key| key.extend(line.text.as_bytes()), |line, mut count, out| {
    ///                 let now = count.get_u64() + 1;
    ///                 count.put_u64(now);
    ///                 out.push(format!("{} {now}", line.text).into_bytes());
    ///             })
    ///             .durable_sink(durable, "out", Files::new(&output));
    ///     });
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
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

/// Records whose keys and updates are the caller's closures.
struct Updates<K, L, C> {
    prefix: Vec<u8>,
    key: Rc<K>,
    update: L,
    rise: C,
    /// Buffers that are used again and again.
    own: Vec<u8>,
    group: Group,
}

/// Adds a record's key, which the caller writes into a buffer that is empty.
#[inline]
fn add_key<D>(key: &impl Fn(&D, &mut Vec<u8>), record: &D, own: &mut Vec<u8>, bytes: &mut Vec<u8>) {
    own.clear();
    key(record, own);
    bytes.extend_from_slice(own);
}

impl<D, R, K, L, C> Work<D, R> for Updates<K, L, C>
where
    K: Fn(&D, &mut Vec<u8>),
    L: FnMut(&D, Slot<'_>, &mut Vec<R>),
    C: FnMut(i64, Keys<'_>, &mut Vec<R>),
{
    fn apply(&mut self, ledger: &mut Ledger, records: &mut Vec<D>, made: &mut Vec<R>) -> Result<()> {
        let mut failed = None;
        for records in records.chunks(AT_ONCE) {
            self.group.clear();
            for record in records {
                self.group.add(|bytes| add_key(&*self.key, record, &mut self.own, bytes));
            }
            let mut entries = ledger.shard.entries(self.group.keys());
            for record in records {
                let entry = entries.next_entry().expect("one for each")?;
                (self.update)(record, Slot { entry, failed: &mut failed }, made);
            }
        }
        records.clear();
        Ok(failed.map_or(Ok(()), Err)?)
    }

    fn end(&mut self, ledger: &mut Ledger, risen: Option<i64>, made: &mut Vec<R>) -> Result<()> {
        let Some(time) = risen else { return Ok(()) };
        let mut failed = None;
        let keys = Keys { shard: &mut ledger.shard, prefix: &self.prefix, failed: &mut failed };
        (self.rise)(time, keys, made);
        Ok(failed.map_or(Ok(()), Err)?)
    }
}

/// What the keys of an operator begin with in the store.
fn prefix(name: &str) -> Vec<u8> {
    format!("{name}/").into_bytes()
}

impl<'scope, D: ExchangeData> DurableState<'scope, D> for StreamVec<'scope, u64, D> {
    fn durable_update<R, K, L>(self, durable: &Durable, name: &str, key: K, update: L) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        K: Fn(&D, &mut Vec<u8>) + 'static,
        L: FnMut(&D, Slot<'_>, &mut Vec<R>) + 'static,
    {
        let none = Watermarks::none(self.scope());
        self.durable_windows(none, durable, name, key, update, |_, _, _| {})
    }

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
        C: FnMut(i64, Keys<'_>, &mut Vec<R>) + 'static,
    {
        let key = Rc::new(key);
        let route = {
            let (key, mut own) = (Rc::clone(&key), Vec::new());
            move |record: &D, bytes: &mut Vec<u8>| add_key(&*key, record, &mut own, bytes)
        };
        let prefix = prefix(name);
        let work = Updates { group: Group::new(&prefix), prefix, key, update, rise, own: Vec::new() };
        operator(self, watermarks, durable, name, route, work)
    }
}
