#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: real files, threads, small numbers"
)]
//! The tests of the engine, in one program: what takes long is to build the
//! engine once more for each.
//!
//! | module | what is in it |
//! |---|---|
//! | `reopen` | append, crash, open, same state, on real files |
//! | `segments` | segments made ahead, recycled, and what they held before |
//! | `group_commit` | several threads, one sync |
//! | `checkpoint`, `reshard` | checkpoints; other numbers of cores |
//! | `coordinated` | epochs that others have a say in |
//! | `full` | full disks |
//! | `found` | what the crash loop found, as short stories |
//! | `crafted`, `damage`, `hostile`, `hostile_tools` | bytes that are not as they were written |
//! | `repair`, `repair_checkpoint` | what `verify` says and `repair` does |
//! | `matrix` | fault classes that no other test makes on purpose |
//! | `security` | what a store's directory may hold, and what of it is touched |
//! | `allocation`, `recovery_memory` | what memory is taken |
//!
//! Programs of their own are the crash loop, the sequences and the canary.

mod allocation;
mod checkpoint;
mod coordinated;
mod crafted;
mod damage;
mod entries;
mod found;
mod full;
mod group_commit;
mod hostile;
mod hostile_tools;
mod matrix;
mod recovery_memory;
mod reopen;
mod repair;
mod repair_checkpoint;
mod reshard;
#[cfg(unix)]
mod security;
mod segments;
