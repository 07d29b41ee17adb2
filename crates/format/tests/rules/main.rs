//! Each rule of the decoders at its edge: what is still accepted, and what is
//! refused though its checksum matches. (Damage is refused by the checksum, so
//! no flipped bit ever comes to these rules: a hostile or faulty writer does.)
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod commits;
mod frames;
mod limits;
mod manifests;
mod records;
mod segments;
