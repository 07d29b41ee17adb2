//! A copy of a corewal store in object storage, from which any machine
//! restores, and to which an owner that was replaced can do no harm.
//!
//! `docs/ARCHIVE.md` in the repository describes the objects and argues why the
//! fence holds. This crate knows nothing of the engine: it is told what there
//! is to archive as plain data ([`Inventory`]), and gives back files.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use corewal_archive::{Archive, Inventory, Options, Result, Takeover, Target};
//!
//! fn there_and_back(inventory: &Inventory) -> Result<()> {
//!     let archive = Archive::open("s3://bucket/stores", Options::default())?;
//!     let mut owner = archive.own(inventory.log_id, Takeover::First)?;
//!     // Here `owner.lineage()` is written down beside the store.
//!     owner.push(inventory)?;
//!
//!     let dir = Path::new("restored");
//!     archive.restore(inventory.log_id, Target::Latest, dir, |_dir, _restored| Ok(()))?;
//!     Ok(())
//! }
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | `inventory` | what a store has to archive |
//! | `source`, `upload`, `fetch` | files into the bucket and back, hashed on the way |
//! | `key`, `sealed`, `index`, `claim`, `wire` | the objects: names, bytes, values |
//! | `bucket`, `place` | calls on the object store; where it is |
//! | `current` | which index is the newest |
//! | `owner` | taking over and pushing: the fence |
//! | `retain`, `plan` | what is kept; which files a restore needs: pure |
//! | `sweep`, `verify`, `list`, `restore` | what anybody may do |
//! | `numbered` | objects that several machines agree by |
//! | `archive`, `archiver`, `worker` | blocking calls, pushing in the background, the thread they run on |

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the archive is outside the simulated engine")]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "small numbers"))]

// The fixtures of the tests use the crate by its name.
#[cfg(test)]
extern crate self as corewal_archive;

mod archive;
mod archiver;
mod bucket;
mod claim;
mod current;
mod error;
mod fetch;
mod index;
mod inventory;
mod key;
mod list;
mod moment;
mod numbered;
mod options;
mod owner;
mod place;
mod plan;
mod private;
mod restore;
mod retain;
mod sealed;
mod source;
pub mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod types;
mod upload;
mod verify;
mod wire;
mod worker;

pub use archive::{Archive, Owner};
pub use archiver::{Archiver, Status};
pub use error::{Error, Result};
pub use inventory::{
    CheckpointFacts, CheckpointPart, FIRST_GENERATION, FilePart, Inventory, SegmentFacts, SegmentPart,
};
pub use list::{Coverage, Overview, Owner as Claimant};
pub use numbered::Numbered;
pub use options::Options;
pub use owner::Pushed;
pub use plan::{Target, Unrestorable};
pub use restore::Restored;
pub use sweep::Collected;
pub use types::{Lineage, Takeover, Term};
pub use verify::{Finding, Verified, Wrong};
