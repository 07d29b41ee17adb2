//! The operations, and what a sequence is.

use std::fmt;
use std::str::FromStr;

use crate::engine::{Life, Outcome};

/// The cores of every case.
pub(crate) const CORES: usize = 2;

/// The size of every segment: four blocks, of which two take frames.
pub(crate) const SEGMENT_BYTES: u64 = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A commit whose frame lies within one sector.
    One(usize),
    /// A commit whose frame takes several sectors.
    Several(usize),
    /// A commit whose frame takes several and ends at an odd byte.
    Unaligned(usize),
    Sync(usize),
    /// Small commits until the log goes on in the next segment.
    Rotate(usize),
    /// Gives back what the checkpoints cover.
    Release(usize),
    CloseEpoch,
    Checkpoint,
    Reopen,
}

impl Operation {
    /// All of them, each on each core.
    pub(crate) fn all() -> Vec<Self> {
        let on_a_core = [Self::One, Self::Several, Self::Unaligned, Self::Sync, Self::Rotate, Self::Release];
        let each = (0..CORES).flat_map(|core| on_a_core.map(|operation| operation(core)));
        each.chain([Self::CloseEpoch, Self::Checkpoint, Self::Reopen]).collect()
    }

    pub(crate) fn run(self, life: &mut Life<'_>) -> Outcome {
        match self {
            Self::One(core) => life.append(core, 40),
            Self::Several(core) => life.append(core, 1500),
            Self::Unaligned(core) => life.append(core, 701),
            Self::Sync(core) => life.sync(core),
            Self::Rotate(core) => life.rotate(core, SEGMENT_BYTES),
            Self::Release(core) => life.release(core),
            Self::CloseEpoch => life.close_epoch(),
            Self::Checkpoint => life.make_checkpoint(),
            Self::Reopen => life.restart(),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(core) => write!(f, "one{core}"),
            Self::Several(core) => write!(f, "several{core}"),
            Self::Unaligned(core) => write!(f, "unaligned{core}"),
            Self::Sync(core) => write!(f, "sync{core}"),
            Self::Rotate(core) => write!(f, "rotate{core}"),
            Self::Release(core) => write!(f, "release{core}"),
            Self::CloseEpoch => write!(f, "epoch"),
            Self::Checkpoint => write!(f, "checkpoint"),
            Self::Reopen => write!(f, "reopen"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::all().into_iter().find(|operation| operation.to_string() == text);
        named.ok_or_else(|| format!("`{text}` is no operation"))
    }
}

/// All sequences of `len` operations, in order.
pub(crate) fn sequences(len: usize) -> Vec<Vec<Operation>> {
    let longer = |before: Vec<Vec<Operation>>| {
        let one_more = |before: Vec<Operation>| {
            Operation::all().into_iter().map(move |operation| [&before[..], &[operation]].concat())
        };
        before.into_iter().flat_map(one_more).collect()
    };
    (0..len).fold(vec![Vec::new()], |all, _| longer(all))
}
