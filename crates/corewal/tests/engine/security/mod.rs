//! What a store's directory may hold, and what of it is touched.
//!
//! | module | what is in it |
//! |---|---|
//! | `world` | a store on real files with one of everything |
//! | `places` | links, pipes, sockets and devices under the names of a store |
//! | `strangers` | names that are not a store's |
//! | `residue` | bytes of earlier use that must not reach the disk |
//!
//! The rights of files are looked at where all verbs are at hand, in
//! `crates/cli/tests/private.rs`.

mod places;
mod residue;
mod strangers;
mod world;
