//! The rules of the simulated disk, each with the story that needs it.

mod common;

#[path = "sim/crash.rs"]
mod crash;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/images.rs"]
mod images;
#[path = "sim/names.rs"]
mod names;
#[path = "sim/power.rs"]
mod power;
#[path = "sim/steps.rs"]
mod steps;
#[path = "sim/sync.rs"]
mod sync;
#[path = "sim/world.rs"]
mod world;
