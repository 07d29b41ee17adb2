//! What can go wrong, and what it leaves behind.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::Unrestorable;
use crate::types::{Lineage, Term};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// No error leaves the archive worse than it was: what was acknowledged stays
/// acknowledged and restorable. At most objects remain that nothing refers to;
/// a later push, or [`Archive::gc`](crate::Archive::gc), removes them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A later owner has taken the archive. Nothing of this push counts; this
    /// owner never pushes again.
    Fenced {
        /// The term that took it.
        by: Term,
    },
    /// The archive holds what the caller's store does not: its newest content
    /// was made by another owner, or by the same one after the store was
    /// restored from it. Nothing was changed, but if another owner pushed in the very
    /// moment of the take-over, then a term was taken.
    Diverged {
        /// The newest content; `None` if there is no archive where
        /// one was expected.
        archived: Option<Lineage>,
    },
    /// The archive has no index of this store.
    NoArchive,
    /// An object is not what was written.
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An object that an index refers to is not there.
    Missing {
        /// Its key.
        key: String,
    },
    /// An object was written by a newer version of this crate. It is no damage,
    /// and nothing may be changed.
    Unsupported {
        /// Its key.
        key: String,
        /// The version it states.
        version: u32,
    },
    /// Another write stands where only this owner writes. The push does not
    /// count.
    Conflict {
        /// The key.
        key: String,
    },
    /// The object store does not keep to conditional puts, so there would be
    /// no fence. A claim was left; nothing else was changed.
    Unconditional {
        /// The key that could be put twice.
        key: String,
    },
    /// Files went away under the push, and without them the archive would
    /// reach less far than before. No index was put; a push of a fresh
    /// inventory goes on.
    Vanished {
        /// The names, relative to the store's directory.
        names: Vec<String>,
    },
    /// The inventory contradicts itself. Nothing was changed.
    Inventory {
        /// How.
        detail: String,
    },
    /// The target of a restore can't be reached. Nothing was changed.
    Unrestorable(Unrestorable),
    /// The directory to restore into is not empty. Nothing was changed.
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A file call on this machine failed. A restore can be called again and
    /// keeps what it had.
    File {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store on this machine cannot be read, or what was restored does not
    /// make one.
    Store(Box<corewal::Error>),
    /// The object store refused or failed, after the retries. A write may have
    /// taken effect all the same.
    Object {
        /// What was being done.
        doing: &'static str,
        /// The key.
        key: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object store did not answer in time. A write may have taken effect,
    /// or may still.
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// The key.
        key: String,
        /// How long it was given.
        after: Duration,
    },
    /// The place of the archive can't be understood or reached.
    Place {
        /// The place as given.
        url: String,
        /// Why.
        detail: String,
    },
    /// The archive's thread could not be started or has ended.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { by } => write!(f, "the archive was taken over by a later owner (term {by})"),
            Self::Diverged { archived: Some(lineage) } => {
                write!(f, "the archive holds what this store does not: another copy went on (content {lineage})")
            }
            Self::Diverged { archived: None } => f.write_str("the archive this store goes on from is not there"),
            Self::NoArchive => f.write_str("no archive of this store is there"),
            Self::Damaged { key, detail } => write!(f, "{key} is damaged: {detail}"),
            Self::Missing { key } => write!(f, "{key} is missing"),
            Self::Unsupported { key, version } => write!(f, "{key} has the newer version {version}"),
            Self::Conflict { key } => write!(f, "{key} was written by somebody else"),
            Self::Unconditional { key } => write!(f, "the object store puts {key} twice: it knows no conditional puts"),
            Self::Vanished { names } => {
                write!(f, "files went away while they were archived: {}", names.join(", "))
            }
            Self::Inventory { detail } => write!(f, "the inventory is wrong: {detail}"),
            Self::Unrestorable(why) => why.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::NotEmpty { path } => write!(f, "{} is not empty", path.display()),
            Self::File { doing, path, .. } => write!(f, "can't {doing} {}", path.display()),
            Self::Object { doing, key, .. } => write!(f, "can't {doing} {key}"),
            Self::Timeout { doing, key, after } => {
                write!(f, "can't {doing} {key}: no answer within {} s", after.as_secs_f64())
            }
            Self::Place { url, detail } => write!(f, "{url} is no place for an archive: {detail}"),
            Self::Stopped => f.write_str("the archive's thread has ended"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Object { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl Error {
    pub(crate) fn store(error: corewal::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<Unrestorable> for Error {
    fn from(why: Unrestorable) -> Self {
        Self::Unrestorable(why)
    }
}
