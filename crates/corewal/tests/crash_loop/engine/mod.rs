//! The simulated crash loop: a workload runs on the simulated disk, the disk is
//! crashed at every step of it, every crash is opened, and what comes back is
//! held against the oracle. Then the fork goes on, and crashes again.
//!
//! | module | what is in it |
//! |---|---|
//! | `campaign` | many seeds on all threads, and the report |
//! | `profile` | what a seed decides: sizes, cores, modes |
//! | `probe` | the state under test |
//! | `promise` | the promises, by name |
//! | `oracle` | what may come back, and what must |
//! | `tickets` | waits for commits, held to what the log says |
//! | `life` | one process that has the store open: the operations, its checkpoints, its disk's faults |
//! | `directed` | operations that a caller names, in the place of chance |
//! | `check` | crash, open, compare, go on |
//! | `clock` | the time as the engine sees it |
//! | `archive` | what can be copied, and a store made of copies |
//! | `bare` | the same for bare writers: truncate, release, reset |
//!
//! Everything a seed does is decided by the seed.

#![allow(dead_code, unused_imports, reason = "the crash loop, the canary and the sequences each use a part")]

mod archive;
mod bare;
mod campaign;
mod check;
mod clock;
mod directed;
mod life;
mod oracle;
mod probe;
mod profile;
mod promise;
mod tickets;

/// Every open takes large buffers and frees them, and takes much that is small:
/// with this a state takes a sixth less than with glibc, even where that keeps
/// what was freed and does not have the kernel make it anew each time.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) use campaign::{Campaign, Counts, caught, run_seed, seed_from_environment, states_from_environment};
pub(crate) use check::{Look, Session, compare, open, other, verify};
pub(crate) use life::Life;
pub(crate) use oracle::{Oracle, Recovered};
pub(crate) use profile::{Profile, Workload};
pub(crate) use promise::Promise;

/// What a seed finds: a broken promise, told in a sentence.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Fails the seed with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;
