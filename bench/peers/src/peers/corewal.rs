//! corewal itself. One row for each way its storage reaches the disk.

use std::path::Path;

use anyhow::Result;
use corewal::io::{Backend, FileStorage};
use corewal::{Change, Commit, Options, Recover, Shard, State, Writer};

use super::{Keeps, Kind, Log, Peer, Pipeline};
use crate::data::Check;

/// How bytes reach the disk.
#[derive(Clone, Copy)]
enum Way {
    /// What a user gets who asks for nothing: io_uring, past the page cache.
    Default,
    /// Plain calls, past the page cache.
    Blocking,
    /// Plain calls, through the page cache: as most peers write.
    Buffered,
}

fn storage(way: Way) -> FileStorage {
    match way {
        Way::Default => FileStorage::new(),
        Way::Blocking => FileStorage::new().backend(Backend::Blocking),
        Way::Buffered => FileStorage::new().backend(Backend::Blocking).direct(false),
    }
}

pub(super) fn peers() -> Vec<Peer> {
    let default = Peer {
        name: "corewal",
        version: "this tree",
        kind: Kind::Corewal,
        sync_call: "Writer::sync, Writer::request_sync",
        log: |dir, _| Ok(Box::new(open(Way::Default, dir)?)),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: None,
        store: Some((|dir, _| Ok(Box::new(Store { shard: keyed(Way::Default, dir)? })), read_store)),
    };
    let blocking = Peer {
        name: "corewal, blocking",
        log: |dir, _| Ok(Box::new(open(Way::Blocking, dir)?)),
        store: Some((|dir, _| Ok(Box::new(Store { shard: keyed(Way::Blocking, dir)? })), read_store)),
        ..default.clone()
    };
    let buffered = Peer {
        name: "corewal, buffered",
        log: |dir, _| Ok(Box::new(open(Way::Buffered, dir)?)),
        store: Some((|dir, _| Ok(Box::new(Store { shard: keyed(Way::Buffered, dir)? })), read_store)),
        ..default.clone()
    };
    vec![default, blocking, buffered]
}

fn options() -> Options {
    Options::new().cores(1).recover(Recover::Latest)
}

struct CoreLog {
    writer: Writer,
}

fn open(way: Way, dir: &Path) -> Result<CoreLog> {
    let (mut writers, _) = options().open_writers(storage(way), dir)?;
    Ok(CoreLog { writer: writers.remove(0) })
}

impl CoreLog {
    fn commit(&mut self) -> Result<u64> {
        loop {
            match self.writer.commit(&Commit::new()) {
                Err(error) if error.is_full() => self.make_room()?,
                other => return Ok(other?.get()),
            }
        }
    }

    #[cold]
    fn make_room(&mut self) -> Result<()> {
        self.writer.submit()?;
        self.writer.wait()?;
        Ok(())
    }
}

impl Log for CoreLog {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        loop {
            match self.writer.put(key, value) {
                Err(error) if error.is_full() => self.make_room()?,
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.commit()?;
        self.writer.sync()?;
        Ok(())
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        Some(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let complete = corewal::Epoch(self.writer.epoch().0 - 1);
        Ok(self.writer.close(complete)?)
    }
}

impl Pipeline for CoreLog {
    fn request(&mut self) -> Result<u64> {
        let position = self.commit()?;
        self.writer.request_sync()?;
        Ok(position)
    }

    fn durable(&mut self, wait: bool) -> Result<u64> {
        Ok(if wait { self.writer.wait()? } else { self.writer.poll()? }.get())
    }
}

/// Recovery hands the records to the check as it would hand them to a state.
struct Checking(Check);

impl State for Checking {
    fn apply(&mut self, change: Change<'_>) {
        if let Change::Put { key, value } = change {
            self.0.record(key, value);
        }
    }
}

fn read(dir: &Path, check: Check) -> Result<Check> {
    let opened = options().open_with(dir, |_| Checking(check.clone()))?;
    Ok(opened.shards[0].state().0.clone())
}

struct Store {
    shard: Shard,
}

fn keyed(way: Way, dir: &Path) -> Result<Shard> {
    Ok(options().open_on(storage(way), dir, |_| corewal::Keyed::default())?.shards.remove(0))
}

impl Log for Store {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.shard.put(key, value)?)
    }

    fn sync(&mut self) -> Result<()> {
        self.shard.commit(&Commit::new())?;
        self.shard.sync()?;
        Ok(())
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        Some(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.shard.close()?)
    }
}

impl Pipeline for Store {
    fn request(&mut self) -> Result<u64> {
        let position = self.shard.commit(&Commit::new())?;
        self.shard.request_sync()?;
        Ok(position.get())
    }

    fn durable(&mut self, wait: bool) -> Result<u64> {
        if wait {
            self.shard.sync()?;
        }
        Ok(self.shard.poll()?.get())
    }
}

fn read_store(dir: &Path, mut check: Check) -> Result<Check> {
    let mut shard = keyed(Way::Default, dir)?;
    for (key, value) in shard.scan(b"") {
        check.record(key, value);
    }
    Ok(check)
}
