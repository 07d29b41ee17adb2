//! State: what a log is for. The same [`State::apply`] runs live, in recovery
//! and in the tools.

mod changes;
mod keyed;

pub(crate) use changes::{Changes, TOGETHER, put_new};
pub use keyed::Keyed;
pub(crate) use keyed::{Found, GROUP, key_prefix};

use crate::error::Result;

/// One change of one core's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A key takes a value.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// A key is removed.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Bytes whose meaning is the state's own.
    Payload(&'a [u8]),
}

/// A key and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The state of one core. Implement it to keep state in a form of your own;
/// [`Keyed`] is the one that comes along.
///
/// `apply` must be a function of the state and the change alone: recovery calls
/// it with the same changes in the same order as they were made live, on a
/// state that is fresh, and expects to end where the live state was. It sees
/// the changes of committed batches only.
///
/// ```
/// use corewal::{Change, Options, State};
///
/// /// Counts what it sees.
/// #[derive(Default)]
/// struct Count(u64);
///
/// impl State for Count {
///     fn apply(&mut self, _: Change<'_>) {
///         self.0 += 1;
///     }
/// }
///
/// # fn main() -> corewal::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let mut opened = Options::new().cores(1).open_with(dir.path(), |_| Count::default())?;
/// opened.shards[0].payload(b"something happened")?;
/// assert_eq!(opened.shards[0].state().0, 1);
/// # Ok(())
/// # }
/// ```
pub trait State: Send {
    /// Whether the last put or delete of a key says all there is to say of it,
    /// and the order between keys means nothing. Then the log can be folded
    /// into checkpoints, and recovery may show the state one put for each key
    /// that is there instead of all that led to it. Payloads are never folded:
    /// a log that holds any cannot be checkpointed.
    const FOLDS: bool = false;

    /// Makes one change.
    fn apply(&mut self, change: Change<'_>);

    /// Recovery is about to put up to `keys` keys: a hint to make room.
    fn reserve(&mut self, keys: u64) {
        let _ = keys;
    }

    /// Gives changes that no log has to `log`, before a commit. Only the built-in
    /// state has any, of [`Shard::entry`](crate::Shard::entry).
    #[doc(hidden)]
    fn log_all(&mut self, log: &mut dyn FnMut(Change<'_>) -> Result<()>) -> Result<()> {
        let _ = log;
        Ok(())
    }

    /// Makes changes one after the other. Recovery calls it, with some of the
    /// changes that stand together in the log; where it cuts between two calls
    /// means nothing. Override it if there is something to gain from seeing
    /// several changes at once: it must do the same as [`State::apply`] for each
    /// in turn, which is what it does unless overridden.
    fn apply_all(&mut self, changes: &[Change<'_>]) {
        for &change in changes {
            self.apply(change);
        }
    }

    /// Puts keys that the state does not have, no two of them alike, with their
    /// values. Recovery calls it, on a fresh state, with some of the keys of a
    /// checkpoint; where it cuts between two calls means nothing. Override it if
    /// there is something to gain from not having to look for each key first: it
    /// must do the same as [`State::apply_all`] with their puts, which is what it
    /// does unless overridden.
    fn put_new(&mut self, pairs: &[Pair<'_>]) {
        for group in pairs.chunks(TOGETHER) {
            let mut puts = [Change::Payload(&[]); TOGETHER];
            for (put, &(key, value)) in puts.iter_mut().zip(group) {
                *put = Change::Put { key, value };
            }
            self.apply_all(&puts[..group.len()]);
        }
    }
}

/// No state: for those who keep it elsewhere.
impl State for () {
    const FOLDS: bool = true;

    fn apply(&mut self, _: Change<'_>) {}
}
