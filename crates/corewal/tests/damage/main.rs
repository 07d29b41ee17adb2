#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: threads over the cases, small numbers"
)]
//! Damage: whatever happens to the files of a store, opening gives the same
//! data or an error that names the place. What cannot be noticed is counted
//! and named, and must be no more than `docs/DURABILITY.md` says.
//!
//! | module | what is in it |
//! |---|---|
//! | `world` | the small store, its files, and the verdict on a damaged copy |
//! | `flips` | every bit, every sector |
//! | `files` | truncated, missing, swapped, copied, renamed, foreign |

mod files;
mod flips;
mod world;
