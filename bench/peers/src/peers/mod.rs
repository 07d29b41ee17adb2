//! Those that are measured, one file each, behind one small interface.

mod commitlog;
mod corewal;
mod disk;
mod fjall;
mod nodedb;
mod okaywal;
mod raft;
mod reference;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sqlite;
mod wal_db;
mod walrus;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use anyhow::Result;

use crate::data::Check;

/// A log (or a store used as one), open for writing by one thread.
pub(crate) trait Log: Send {
    /// Appends a record. It need not survive anything yet.
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Makes everything appended durable and waits for it.
    fn sync(&mut self) -> Result<()>;

    /// Brings a log that is new to where it is after a while, before the clock starts.
    fn warm_up(&mut self) -> Result<()> {
        Ok(())
    }

    /// The first record that must come back when the log is opened anew, where the log knows that: those before may be
    /// gone.
    fn kept_from(&self) -> Option<u64> {
        None
    }

    /// The same without waiting, where the log can do that.
    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        None
    }

    /// Commits that many tasks of one thread wait for, where the log can do that.
    fn turns(&mut self) -> Option<&mut dyn Turns> {
        None
    }

    /// Ends in order.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A log with which one thread keeps several commits in flight.
pub(crate) trait Pipeline {
    /// Asks for everything appended to become durable; returns the position that [`Pipeline::durable`] then reaches.
    fn request(&mut self) -> Result<u64>;

    /// How far the log is durable. Waits for progress if asked to.
    fn durable(&mut self, wait: bool) -> Result<u64>;
}

/// A log to which the tasks of one thread commit, each waiting for its own commit. What they have committed in a turn
/// of the thread's loop becomes durable at its end.
pub(crate) trait Turns {
    /// Ends a batch; the future is ready when it is durable.
    fn commit(&mut self) -> Result<Acknowledged>;

    /// Ends the turn.
    fn end(&mut self) -> Result<()>;
}

pub(crate) type Acknowledged = Pin<Box<dyn Future<Output = Result<()>>>>;

/// A log that many threads commit to.
pub(crate) trait Shared: Sync {
    /// Appends a record and returns when it is durable.
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()>;
}

/// How a log is opened.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// An upper bound of what will be written, in bytes of records. For those that lay space out beforehand.
    pub(crate) room: u64,
    /// Whether anything will have to be durable. For those that decide that when they are opened.
    pub(crate) durable: bool,
}

impl Setup {
    /// Room for what many threads commit one by one, which is never much.
    pub(crate) const SHARED_ROOM: u64 = 64 << 20;
}

/// What of a log comes back when it is opened anew.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keeps {
    /// All of it.
    All,
    /// Its end: the beginning is recycled, as far as [`Log::kept_from`] says or at the peer's own discretion.
    Tail,
}

/// What a row of the table is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Corewal,
    /// corewal in a log whose beginning is released as it goes: only where that makes a difference.
    Steady,
    /// Somebody else's log or store.
    Peer,
    /// What could be had: no log, a measure.
    Measure,
}

type OpenLog = fn(&Path, Setup) -> Result<Box<dyn Log>>;
type ReadLog = fn(&Path, Check) -> Result<Check>;
pub(crate) type OpenShared = fn(&Path) -> Result<Box<dyn Shared>>;

/// One row of the table.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: Kind,
    /// The call that makes records durable.
    pub(crate) sync_call: &'static str,
    /// Opens an empty directory.
    pub(crate) log: OpenLog,
    /// Opens a directory anew and reads all that is in it.
    pub(crate) read: Option<ReadLog>,
    pub(crate) keeps: Keeps,
    /// Whether it allocates through Rust, so that it can be counted.
    pub(crate) rust: bool,
    /// For many threads.
    pub(crate) shared: Option<OpenShared>,
    /// As a keyed store.
    pub(crate) store: Option<(OpenLog, ReadLog)>,
}

/// All, in the order of the table.
pub(crate) fn all() -> Vec<Peer> {
    let mut peers = corewal::peers();
    peers.extend(okaywal::peers());
    peers.extend([
        raft::peer(),
        wal_db::peer(),
        nodedb::peer(),
        commitlog::peer(),
        walrus::peer(),
        fjall::peer(),
        sqlite::peer(),
        #[cfg(feature = "rocksdb")]
        rocks::peer(),
        reference::peer(),
        disk::peer(),
    ]);
    peers
}
