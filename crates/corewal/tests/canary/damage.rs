//! The tests of damage that find planted bugs: those that take no minutes.

#[path = "../engine/damage/files.rs"]
mod files;
#[path = "../engine/damage/misdirected.rs"]
mod misdirected;
#[path = "../engine/damage/runs.rs"]
mod runs;
#[allow(dead_code, reason = "the sweeps use more of it")]
#[path = "../engine/damage/world.rs"]
mod world;
