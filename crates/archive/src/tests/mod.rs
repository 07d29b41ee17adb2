//! Tests that look behind the calls: races, faults, damage.

#[allow(unreachable_pub, reason = "shared with the tests outside the crate")]
#[path = "../../tests/common/mod.rs"]
mod common;
mod damage;
mod faults;
mod plans;
mod race;
mod stepped;
