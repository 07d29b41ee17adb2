//! The tests of damage that find planted bugs: those that take no minutes.

#[path = "../damage/files.rs"]
mod files;
#[path = "../damage/misdirected.rs"]
mod misdirected;
#[path = "../damage/runs.rs"]
mod runs;
#[allow(dead_code, reason = "the sweeps use more of it")]
#[path = "../damage/world.rs"]
mod world;
