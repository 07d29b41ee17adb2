//! Errors: few kinds, each telling the user what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use corewal_format::{CoreId, Epoch, Lsn, SegmentId};

use crate::scan::Verdict;

/// The result of corewal's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file call.
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Durable data is damaged, absent, foreign or of a newer version. Nothing
    /// was changed; opening refuses until `corewal repair` or a copy from
    /// elsewhere has mended it.
    Damaged(Box<Damage>),
    /// The directory holds no store.
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// The store belongs to a newer version of the format.
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// Which version, and which are supported.
        detail: String,
    },
    /// Another process, or another handle of this one, owns the directory.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The store has another number of cores than was asked for.
    CoreCount {
        /// Cores of the store.
        store: u16,
        /// Cores asked for.
        asked: u16,
    },
    /// All buffers are waiting for the disk, or the next segment is still being
    /// made. Nothing was appended: call `submit` and
    /// [`wait`](crate::Writer::wait), then append again. Polling does as well,
    /// but for a segment no descriptor becomes readable.
    Full,
    /// There is no space for the next segment of the log: it would pass the
    /// hard mark of the [budget](crate::Options::budget), or the file system is
    /// full. Nothing was appended, nothing acknowledged is lost, and nothing is
    /// latched: once there is space again, appending goes on.
    ///
    /// A log keeps a little room for deletes, commits and the ends of epochs,
    /// so that a checkpoint can be made and free what it covers.
    OutOfSpace {
        /// Bytes that the store's files take.
        used: u64,
        /// The hard mark, in bytes; `None` if the file system is full.
        budget: Option<u64>,
    },
    /// Something is over its size limit. Nothing was appended.
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A write or a sync failed earlier, so what the medium holds is not
    /// known. All further work is refused; reopening reads the medium again.
    Latched {
        /// The failure.
        cause: String,
        /// Its kind: [`io::ErrorKind::StorageFull`] for a full disk.
        kind: io::ErrorKind,
    },
    /// The shard or writer was dropped before a position that somebody waits
    /// for was durable. Whether it is on the medium only reopening tells.
    WriterGone {
        /// The position.
        lsn: Lsn,
    },
    /// A put or a delete of a key that another core owns. Nothing was appended.
    WrongCore {
        /// The core it was given to.
        core: CoreId,
        /// The core that owns the key.
        owner: CoreId,
    },
    /// Something that ends between batches was asked for within one. Nothing
    /// was appended: commit first.
    OpenBatch {
        /// What was asked for.
        action: &'static str,
    },
    /// The log holds what only the user's state understands (payloads, or the
    /// changes of a state that is not [`State::FOLDS`](crate::State::FOLDS)), so
    /// it cannot be folded into a checkpoint, or one cannot be read. Nothing was
    /// changed.
    NotFoldable,
    /// The number of cores cannot be changed: they know different offsets of one
    /// source, and each new core would need both. Nothing was changed.
    OffsetsDiffer {
        /// The source.
        source: String,
    },
    /// The shard is parked. Nothing was appended: unpark it first.
    Parked,
    /// An epoch that is already over in this core's log.
    EpochOver {
        /// The epoch asked for.
        asked: Epoch,
        /// The first that can still be ended.
        current: Epoch,
    },
    /// A log position that the call cannot work with.
    BadLsn {
        /// The position asked for.
        asked: Lsn,
        /// Why not, and which would do.
        detail: String,
    },
    /// An option has a value that cannot work.
    BadOption {
        /// The option.
        name: &'static str,
        /// What it must be.
        must: String,
    },
}

/// A damaged place of a core's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The core.
    pub core: CoreId,
    /// The segment, if the damage lies in one.
    pub segment: Option<SegmentId>,
    /// Position in the segment's file, in bytes.
    pub offset: u64,
    /// Position in the log, if it is known.
    pub lsn: Option<Lsn>,
    /// Corrupt, missing, foreign or unsupported.
    pub verdict: Verdict,
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong there.
    pub detail: String,
    /// What would be lost if the log were cut there.
    pub loss: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}", self.core)?;
        if let Some(segment) = self.segment {
            write!(f, ", segment {segment}, offset {}", self.offset)?;
        }
        if let Some(lsn) = self.lsn {
            write!(f, " (LSN {lsn})")?;
        }
        write!(f, ": {}: {} [{}]; at stake: {}", self.verdict, self.detail, self.path.display(), self.loss)
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether something stands under a name of the store's that is not what the
    /// name says: a link, a pipe, a directory.
    pub(crate) fn is_misplaced(&self) -> bool {
        let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::NotADirectory];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }

    /// Whether the store is owned by somebody else at this moment.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Whether the call was refused for want of a free buffer or of the next
    /// segment, and can be repeated after `submit` and `wait`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }

    /// Whether the call was refused for want of space, and can be repeated once
    /// there is some.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::OutOfSpace { .. })
    }

    /// Whether a failed write or sync stands behind it, so that only reopening
    /// helps.
    #[must_use]
    pub fn is_latched(&self) -> bool {
        matches!(self, Self::Latched { .. })
    }

    /// The damaged place, if damage is what it is.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Damaged(damage) => Some(damage),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {source}", path.display())?;
                if source.kind() == io::ErrorKind::StorageFull {
                    write!(f, " (free some space, then try again; nothing acknowledged is lost)")?;
                }
                Ok(())
            }
            Self::Damaged(damage) => {
                write!(f, "{damage}; nothing was changed: run `corewal verify`, then `corewal repair`")
            }
            Self::NotAStore { path, why } => write!(f, "{} is not a corewal store: {why}", path.display()),
            Self::Unsupported { path, detail } => {
                write!(f, "{}: {detail}; use a newer corewal", path.display())
            }
            Self::Locked { path } => {
                write!(f, "the store is in use by another process (it holds {}); stop it first", path.display())
            }
            Self::CoreCount { store, asked } => write!(
                f,
                "the store has {store} core(s), {asked} asked for; open it with {store}, or `corewal reshard --cores \
                 {asked}` first (Options::reshard)"
            ),
            Self::Full => write!(
                f,
                "all buffers are waiting for the disk, or the next segment is being made; submit, wait, then append again"
            ),
            Self::OutOfSpace { used, budget: Some(budget) } => write!(
                f,
                "out of space: the store's files take {used} bytes, and with what a checkpoint needs another segment \
                 would pass the budget of {budget}; nothing acknowledged is lost: commit and end an epoch, so that a \
                 checkpoint can free space, delete keys, or open the store with a larger budget"
            ),
            Self::OutOfSpace { used, budget: None } => write!(
                f,
                "out of space: the file system is full (the store's files take {used} bytes); nothing acknowledged is \
                 lost: free some space, or commit and end an epoch, so that a checkpoint can; then go on"
            ),
            Self::TooLarge { what, len, limit } => write!(f, "{what} is {len} long, the limit is {limit}"),
            Self::Latched { cause, kind } => {
                let first = if *kind == io::ErrorKind::StorageFull { "free some space, then " } else { "" };
                write!(
                    f,
                    "the log refuses further work after a failure ({cause}); nothing acknowledged is lost: \
                     {first}open the store again"
                )
            }
            Self::WriterGone { lsn } => write!(
                f,
                "the writer was dropped before LSN {lsn} was durable; open the store again to see whether it is there"
            ),
            Self::WrongCore { core, owner } => {
                write!(f, "the key belongs to core {owner}, not to core {core}; ask the router")
            }
            Self::OpenBatch { action } => write!(f, "{action} stands between batches, and one is open; commit first"),
            Self::NotFoldable => write!(
                f,
                "no checkpoint: the state is one of the user's own, whose changes cannot be folded; \
                 write it aside and release the log below (Writer::release_below)"
            ),
            Self::OffsetsDiffer { source } => write!(
                f,
                "the cores have different offsets of the source `{source}`, so their number cannot be changed: \
                 commit the same offset on all of them, or give each core's part a name of its own"
            ),
            Self::Parked => write!(f, "the shard is parked; unpark it first"),
            Self::EpochOver { asked, current } => {
                write!(f, "epoch {asked} is over in this log; the first that can still end is {current}")
            }
            Self::BadLsn { asked, detail } => write!(f, "LSN {asked}: {detail}"),
            Self::BadOption { name, must } => write!(f, "option `{name}` must be {must}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
