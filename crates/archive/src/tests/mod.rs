//! Tests that look behind the calls: races, faults, damage.

#[path = "../../tests/common/mod.rs"]
mod common;
mod damage;
mod faults;
mod plans;
mod race;
mod stepped;
