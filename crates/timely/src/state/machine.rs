//! State machines by key, as Timely has had them, with states that survive.

use std::hash::Hash;

use timely::ExchangeData;
use timely::dataflow::StreamVec;

use super::operator::{Work, operator};
use super::states::{KEPT_MAX, States};
use super::stored::Stored;
use crate::durable::Durable;
use crate::error::Result;
use crate::events::Watermarks;
use crate::ledger::Ledger;

/// A state of one's own type for each key, that survives.
pub trait DurableStateMachine<'scope, K, V>
where
    K: ExchangeData + Hash + Eq + Clone + Stored,
    V: ExchangeData,
{
    /// Sends each pair to the worker that owns its key, and has `fold` change the
    /// state there: it is given the key, the value and the state, `S::default()`
    /// if the key has none, and gives whether the state is to be removed, and
    /// output.
    ///
    /// Within an epoch, pairs are taken as they arrive; those of later epochs
    /// wait. The changes are part of the pair's epoch: all of them survive, or
    /// none.
    ///
    /// In the store the key stands as `<name>/<key>`, key and state as [`Stored`]
    /// writes them. The name is what the states are found by when the job is
    /// started again; what stands there then and is no `S` stops the job, with
    /// [`Error::State`](crate::Error::State). Up to 262,144 states are kept in
    /// memory as they are, by each worker, and written once an epoch, as far as
    /// they have changed: for them a change costs about what it does in a hash map.
    ///
    /// ```
    /// use corewal_timely::{
    ///     DurableSink as _, DurableSource as _, DurableStateMachine as _, Files, Job, Lines, execute,
    /// };
    /// use timely::dataflow::operators::vec::Map as _;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (state, output) = (dir.path().join("state"), dir.path().join("output"));
    /// # let input = dir.path().join("words");
    /// # std::fs::write(&input, "to be or not to be\n")?;
    /// # let out = output.clone();
    /// let lines = Lines::new([input])?;
    /// execute(Job::new(state, "words"), timely::Config::process(2), move |worker, durable| {
    ///     worker.dataflow::<u64, _, _>(|scope| {
    ///         scope
    ///             .durable_source(durable, "lines", &lines)
    ///             .flat_map(|line| line.text.split(' ').map(|word| (word.to_owned(), 1)).collect::<Vec<_>>())
    ///             .durable_state_machine(durable, "counts", |word, more, count: &mut u64| {
    ///                 *count += more;
    ///                 (false, Some(format!("{word} {count}").into_bytes()))
    ///             })
    ///             .durable_sink(durable, "out", Files::new(&output));
    ///     });
    /// })?;
    /// # let mut rows = Vec::new();
    /// # for file in std::fs::read_dir(out)? {
    /// #     rows.extend(std::fs::read_to_string(file?.path())?.lines().map(str::to_owned));
    /// # }
    /// # rows.sort();
    /// # assert_eq!(rows, ["be 1", "be 2", "not 1", "or 1", "to 1", "to 2"]);
    /// # Ok(())
    /// # }
    /// ```
    fn durable_state_machine<R, S, I, F>(self, durable: &Durable, name: &str, fold: F) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        S: Stored + Default + 'static,
        I: IntoIterator<Item = R>,
        F: FnMut(&K, V, &mut S) -> (bool, I) + 'static;
}

impl<'scope, K, V> DurableStateMachine<'scope, K, V> for StreamVec<'scope, u64, (K, V)>
where
    K: ExchangeData + Hash + Eq + Clone + Stored,
    V: ExchangeData,
{
    fn durable_state_machine<R, S, I, F>(self, durable: &Durable, name: &str, fold: F) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        S: Stored + Default + 'static,
        I: IntoIterator<Item = R>,
        F: FnMut(&K, V, &mut S) -> (bool, I) + 'static,
    {
        let key = |(key, _): &(K, V), bytes: &mut Vec<u8>| key.write(bytes);
        let none = Watermarks::none(self.scope());
        operator(self, none, durable, name, key, Machine { states: States::new(name, KEPT_MAX), fold })
    }
}

/// States, and how they change.
struct Machine<K, S, F> {
    states: States<K, S>,
    fold: F,
}

impl<K, V, S, R, I, F> Work<(K, V), R> for Machine<K, S, F>
where
    K: Stored + Hash + Eq + Clone,
    S: Stored + Default,
    I: IntoIterator<Item = R>,
    F: FnMut(&K, V, &mut S) -> (bool, I),
{
    fn apply(&mut self, ledger: &mut Ledger, records: &mut Vec<(K, V)>, made: &mut Vec<R>) -> Result<()> {
        self.states.apply(&mut ledger.shard, records, |key, value, state| {
            let (remove, output) = (self.fold)(key, value, state);
            made.extend(output);
            remove
        })
    }

    fn end(&mut self, ledger: &mut Ledger, _: Option<i64>, _: &mut Vec<R>) -> Result<()> {
        self.states.write(&mut ledger.shard)
    }
}
