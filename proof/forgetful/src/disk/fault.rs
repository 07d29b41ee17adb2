//! What goes wrong on demand.

use std::ffi::{OsStr, OsString};
use std::ops::Range;

use fuser::Errno;

use super::{Disk, Inode};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// A write.
    Write,
    /// A sync of a file.
    Sync,
    /// A sync of a directory.
    SyncDir,
}

/// Of which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// Of any.
    Any,
    /// Of those that are a log's: `*.wal`. What is to become one has another
    /// name until it is durable.
    Log,
}

/// What becomes of the pages that a failed sync was for. The kernel's cache
/// goes on showing all of them until it is told to drop them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// They stay pending, and another sync would make them durable.
    Kept,
    /// They are forgotten, and another sync says that it is done (as ext4 does).
    Dropped,
    /// Some became durable, the others are forgotten.
    Half,
}

/// A fault to be armed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) on: On,
    pub(crate) of: Where,
    /// So many go well before.
    pub(crate) skip: u64,
    /// So many fail, or are short, from there on.
    pub(crate) times: u64,
    /// Writes that are only short, and no error.
    pub(crate) short: bool,
    pub(crate) errno: Errno,
    pub(crate) pages: Pages,
}

/// What a fault has struck first.
#[derive(Clone, Debug)]
pub(crate) struct Struck {
    pub(crate) inode: Inode,
    pub(crate) on: On,
    /// The file's name at that moment, and its directory's.
    pub(crate) name: OsString,
    pub(crate) parent: OsString,
    /// What would have been left by a power loss at that moment.
    pub(crate) durable: Disk,
    /// What was being written, or had been written last.
    pub(crate) range: Range<u64>,
    /// How often something of it was written once more.
    pub(crate) written_again: u64,
    /// How often the same file was synced after it.
    pub(crate) synced_again: u64,
}

/// What is to be done with an operation.
pub(super) enum Verdict {
    Fine,
    Short,
    Fail(Fault),
}

/// The armed fault, and what it has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    armed: Option<Fault>,
    struck: Option<Box<Struck>>,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        *self = Self { armed: Some(fault), struck: None };
    }

    pub(super) fn struck(&self) -> Option<&Struck> {
        self.struck.as_deref()
    }

    pub(super) fn strike(&mut self, struck: Struck) {
        self.struck = Some(Box::new(struck));
    }

    /// Counts an operation.
    pub(super) fn next(&mut self, on: On, name: &OsStr) -> Verdict {
        let Some(fault) = &mut self.armed else { return Verdict::Fine };
        let is_log = name.to_str().is_some_and(|name| name.ends_with(".wal"));
        if fault.on != on || (fault.of == Where::Log && !is_log) {
            return Verdict::Fine;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            return Verdict::Fine;
        }
        let fault = *fault;
        self.armed = (fault.times > 1).then_some(Fault { times: fault.times - 1, ..fault });
        if fault.short { Verdict::Short } else { Verdict::Fail(fault) }
    }

    /// A range of a file is written.
    pub(super) fn written(&mut self, inode: Inode, range: &Range<u64>) {
        if let Some(struck) = &mut self.struck {
            let overlaps = struck.range.start < range.end && range.start < struck.range.end;
            struck.written_again += u64::from(struck.inode == inode && overlaps);
        }
    }

    /// A file is synced, and that goes well.
    pub(super) fn synced(&mut self, inode: Inode) {
        if let Some(struck) = &mut self.struck {
            struck.synced_again += u64::from(struck.inode == inode);
        }
    }
}
