//! Windows of time by key, with states of one's own type.

use std::hash::Hash;

use timely::ExchangeData;
use timely::dataflow::StreamVec;

use super::operator::{Work, operator};
use super::states::{KEPT_MAX, States};
use super::stored::Stored;
use super::window::Window;
use crate::durable::Durable;
use crate::error::Result;
use crate::events::Watermarks;
use crate::ledger::Ledger;

/// A state of one's own type for each key and window of time, that survives until the
/// window is over.
pub trait DurableWindowMachine<'scope, K, V>
where
    K: ExchangeData + Hash + Eq + Clone + Stored,
    V: ExchangeData,
{
    /// Sends each pair to the worker that owns its window and key, and has `fold`
    /// change the state there, which is `S::default()` in the beginning. When the
    /// least watermark of all partitions has come to the end of a window, `close` is
    /// given the window with its last state, once; then the state is removed. Both
    /// may make output.
    ///
    /// Windows are closed at the end of the epoch in which the watermark has risen,
    /// those that end first before others. What comes for a window that is over opens
    /// it anew, until the watermark rises again; records that are not late
    /// ([`Events::records`](crate::Events::records)) have none such, as long as the
    /// window's end is later than their time.
    ///
    /// In all else it is as
    /// [`durable_state_machine`](crate::DurableStateMachine::durable_state_machine). In
    /// the store the key stands as `<name>/<end>/<key>`, the end in 19 digits.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use corewal_timely::{
    ///     DurableSink as _, DurableSource as _, DurableWindowMachine as _, Files, Job, Lines, Window, execute,
    /// };
    /// use timely::dataflow::operators::vec::Map as _;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (state, output) = (dir.path().join("state"), dir.path().join("output"));
    /// # let input = dir.path().join("departures");
    /// # std::fs::write(&input, "5 LAX\n8 JFK\n9 LAX\n12 LAX\n")?;
    /// # let out = output.clone();
    /// let lines = Lines::new([input])?; // such as `12 LAX`
    /// execute(Job::new(state, "departures"), timely::Config::process(2), move |worker, durable| {
    ///     worker.dataflow::<u64, _, _>(|scope| {
    ///         let parse = |text: &str| {
    ///             let (time, airport) = text.split_once(' ')?;
    ///             Some((time.parse().ok()?, airport.to_owned()))
    ///         };
    ///         let time = move |line: &corewal_timely::Line| parse(&line.text).map_or(i64::MIN, |(time, _)| time);
    ///         let events = scope.durable_events(durable, "lines", &lines, time, Duration::ZERO);
    ///         events
    ///             .records
    ///             .flat_map(move |line| parse(&line.text))
    ///             .map(|(time, airport)| (Window::tumbling(time, Duration::from_millis(10), airport), ()))
    ///             .durable_window_machine(
    ///                 events.watermarks,
    ///                 durable,
    ///                 "counts",
    ///                 |_, (), count: &mut u64| {
    ///                     *count += 1;
    ///                     None
    ///                 },
    ///                 |Window { end, key }, count| Some(format!("until {end} {key} {count}").into_bytes()),
    ///             )
    ///             .durable_sink(durable, "out", Files::new(&output));
    ///     });
    /// })?;
    /// # let mut rows = Vec::new();
    /// # for file in std::fs::read_dir(out)? {
    /// #     rows.extend(std::fs::read_to_string(file?.path())?.lines().map(str::to_owned));
    /// # }
    /// # rows.sort();
    /// # assert_eq!(rows, ["until 10 JFK 1", "until 10 LAX 2", "until 20 LAX 1"]);
    /// # Ok(())
    /// # }
    /// ```
    fn durable_window_machine<R, S, I, J, F, C>(
        self,
        watermarks: Watermarks<'scope>,
        durable: &Durable,
        name: &str,
        fold: F,
        close: C,
    ) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        S: Stored + Default + 'static,
        I: IntoIterator<Item = R>,
        J: IntoIterator<Item = R>,
        F: FnMut(&Window<K>, V, &mut S) -> I + 'static,
        C: FnMut(Window<K>, S) -> J + 'static;
}

impl<'scope, K, V> DurableWindowMachine<'scope, K, V> for StreamVec<'scope, u64, (Window<K>, V)>
where
    K: ExchangeData + Hash + Eq + Clone + Stored,
    V: ExchangeData,
{
    fn durable_window_machine<R, S, I, J, F, C>(
        self,
        watermarks: Watermarks<'scope>,
        durable: &Durable,
        name: &str,
        fold: F,
        close: C,
    ) -> StreamVec<'scope, u64, R>
    where
        R: 'static,
        S: Stored + Default + 'static,
        I: IntoIterator<Item = R>,
        J: IntoIterator<Item = R>,
        F: FnMut(&Window<K>, V, &mut S) -> I + 'static,
        C: FnMut(Window<K>, S) -> J + 'static,
    {
        let key = |(window, _): &(Window<K>, V), bytes: &mut Vec<u8>| window.write(bytes);
        let work = WindowMachine { states: States::new(name, KEPT_MAX), fold, close };
        operator(self, watermarks, durable, name, key, work)
    }
}

/// States of windows, how they change, and what becomes of them.
struct WindowMachine<K, S, F, C> {
    states: States<Window<K>, S>,
    fold: F,
    close: C,
}

impl<K, V, S, R, I, J, F, C> Work<(Window<K>, V), R> for WindowMachine<K, S, F, C>
where
    K: Stored + Hash + Eq + Clone,
    S: Stored + Default,
    I: IntoIterator<Item = R>,
    J: IntoIterator<Item = R>,
    F: FnMut(&Window<K>, V, &mut S) -> I,
    C: FnMut(Window<K>, S) -> J,
{
    fn apply(&mut self, ledger: &mut Ledger, records: &mut Vec<(Window<K>, V)>, made: &mut Vec<R>) -> Result<()> {
        self.states.apply(&mut ledger.shard, records, |window, value, state| {
            made.extend((self.fold)(window, value, state));
            false
        })
    }

    fn end(&mut self, ledger: &mut Ledger, risen: Option<i64>, made: &mut Vec<R>) -> Result<()> {
        self.states.write(&mut ledger.shard)?;
        let Some(time) = risen else { return Ok(()) };
        self.states.take_while(
            &mut ledger.shard,
            |window| window.end <= time,
            |window, state| made.extend((self.close)(window, state)),
        )
    }
}
