//! Hostile bytes: what any input is held to, by a fuzzer that makes it up
//! (`fuzz/`) and by a test that replays the inputs that were kept
//! (`tests/corpus.rs`).
//!
//! | module | what is in it |
//! |---|---|
//! | `segment`, `run`, `manifest`, `directory`, `ingest` | the [`TARGETS`]: an input's meaning, what must hold, seeds |
//! | `store` | real stores, from which inputs are made |
//! | `hold` | what looking, verifying, opening and repairing must keep whatever the files hold |
//! | `frames` | what decodes must encode to the same bytes |
//! | `seal` | mends checksums, so that an input gets past the door |
//! | `bound` | the bound of memory |
//! | `input` | an input as a list of choices |
//! | `forge`, `counting` | shared with the tests of the engine |
//! | `source`, `number`, `reduce`, `exit` | the program's own parsers |

#![forbid(unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "inputs are short")]

mod bound;
mod directory;
mod frames;
mod hold;
mod ingest;
mod input;
mod manifest;
mod run;
mod seal;
mod segment;
mod store;

#[path = "../../corewal/tests/engine/hostile/counting.rs"]
mod counting;
#[allow(dead_code, reason = "the tests of the engine use more of it")]
#[path = "../../corewal/tests/engine/hostile/forge.rs"]
mod forge;

// The program has no library; its parsers know nothing of the rest of it.
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../cli/src/exit.rs"]
mod exit;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../cli/src/number.rs"]
mod number;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../cli/src/reduce.rs"]
mod reduce;
#[allow(dead_code, clippy::disallowed_methods, reason = "the program uses more of it, and reads files")]
#[path = "../../cli/src/source/mod.rs"]
mod source;

/// The libraries whose errors have codes of their own are no part of this.
mod causes {
    pub(crate) fn exit_of(_: &anyhow::Error) -> crate::exit::Exit {
        crate::exit::Exit::Io
    }
}

/// What became of an input, so that a test can tell whether a target still
/// lets anything in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// An error, as it should be.
    Refused,
    /// Data.
    Taken,
}

/// An input and what it is made of.
pub type Seed = (&'static str, Vec<u8>);

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name; also that of its fuzz target and its corpus.
    pub name: &'static str,
    /// Panics if the input breaks what must hold.
    pub check: fn(&[u8]) -> Outcome,
    /// Inputs to begin with, made of real stores.
    pub seeds: fn() -> Vec<Seed>,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target { name: "segment", check: segment::check, seeds: segment::seeds },
    Target { name: "run", check: run::check, seeds: run::seeds },
    Target { name: "manifest", check: manifest::check, seeds: manifest::seeds },
    Target { name: "directory", check: directory::check, seeds: directory::seeds },
    Target { name: "ingest", check: ingest::check, seeds: ingest::seeds },
];

/// Checks one input.
///
/// # Panics
/// If there is no such target, or the input breaks what must hold.
pub fn check(target: &str, input: &[u8]) -> Outcome {
    let target = TARGETS.iter().find(|known| known.name == target).expect("a target");
    (target.check)(input)
}
