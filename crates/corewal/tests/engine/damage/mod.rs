//! Damage: whatever happens to the files of a store, opening gives the same
//! data or an error that names the place. What cannot be noticed is counted
//! and named, and must be no more than `docs/DURABILITY.md` says.
//!
//! | module | what is in it |
//! |---|---|
//! | `world` | the small store, its files, and the verdict on a damaged copy |
//! | `flips` | every bit, every sector |
//! | `misdirected` | blocks in another file than their own |
//! | `runs` | checkpoints with the runs of another history |
//! | `files` | truncated, missing, swapped, copied, renamed, foreign |
//! | `checkpointed` | a store with a checkpoint, and what its files held before |
//! | `forecast` | what opening has to make of damage |
//! | `sweep` | every bit, sector and length of that store |
//! | `placed` | lengths that say something else, writes that landed elsewhere |

mod checkpointed;
mod files;
mod flips;
mod forecast;
mod misdirected;
mod placed;
mod runs;
mod sweep;
mod world;
