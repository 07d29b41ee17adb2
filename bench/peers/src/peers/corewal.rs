//! corewal itself. One row for each way its storage reaches the disk.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Result;
use corewal::io::{Backend, FileStorage};
use corewal::{Change, Commit, Lsn, Options, Recover, Shard, State, Writer};

use super::{Acknowledged, Keeps, Kind, Log, Peer, Pipeline, Turns};
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
        sync_call: "Writer::sync, Writer::queue_sync",
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
    let steady = Peer {
        name: "corewal (steady)",
        kind: Kind::Steady,
        log: |dir, _| Ok(Box::new(Steady::new(open(Way::Default, dir)?))),
        keeps: Keeps::Tail,
        store: None,
        ..default.clone()
    };
    let buffered_steady = Peer {
        name: "corewal, buffered (steady)",
        log: |dir, _| Ok(Box::new(Steady::new(open(Way::Buffered, dir)?))),
        ..steady.clone()
    };
    vec![default, steady, blocking, buffered, buffered_steady]
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
                other => {
                    other?;
                    return Ok(self.writer.submit_full()?);
                }
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

    fn turns(&mut self) -> Option<&mut dyn Turns> {
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
        self.writer.queue_sync()?;
        Ok(position)
    }

    fn durable(&mut self, wait: bool) -> Result<u64> {
        Ok(if wait { self.writer.wait()? } else { self.writer.poll()? }.get())
    }
}

impl Turns for CoreLog {
    fn commit(&mut self) -> Result<Acknowledged> {
        let end = Lsn(Self::commit(self)?);
        let ticket = self.writer.ticket(end);
        Ok(Box::pin(async move { Ok(ticket.await.map(drop)?) }))
    }

    fn end(&mut self) -> Result<()> {
        self.writer.sync()?;
        Ok(())
    }
}

/// A log whose old segments are released behind it, as by a program that has what is in them in a checkpoint elsewhere:
/// files that were written before are written again.
struct Steady {
    log: CoreLog,
    /// How many records lay before these positions, oldest first; none of them is released.
    marks: VecDeque<(Lsn, u64)>,
    records: u64,
}

impl Steady {
    /// So many bytes behind what is durable are kept: a segment of the usual size.
    const KEPT: u64 = 64 << 20;
    /// The log is shortened when it is so long.
    const LONG: u64 = 2 * Self::KEPT;
    /// So much is written beforehand: files of the first, smaller segments are gone, those that go round are whole.
    const WARM: u64 = 8 * Self::KEPT;

    fn new(log: CoreLog) -> Self {
        let marks = VecDeque::from([(log.writer.appended_lsn(), 0)]);
        Self { log, marks, records: 0 }
    }

    /// Releases what lies behind, between batches.
    fn trim(&mut self) -> Result<()> {
        let writer = &self.log.writer;
        let (start, durable) = (writer.start_lsn().get(), writer.durable_lsn().get());
        if durable - start < Self::LONG {
            return Ok(());
        }
        let start = loop {
            match self.log.writer.release_below(Lsn(durable - Self::KEPT)) {
                Err(error) if error.is_full() => self.log.make_room()?,
                other => break other?,
            }
        };
        while self.marks.pop_front_if(|(position, _)| *position < start).is_some() {}
        Ok(())
    }

    /// A batch ends here.
    fn mark(&mut self, end: u64) -> Result<()> {
        self.marks.push_back((Lsn(end), self.records));
        self.trim()
    }
}

impl Log for Steady {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.records += 1;
        self.log.append(key, value)
    }

    fn sync(&mut self) -> Result<()> {
        self.log.sync()?;
        self.mark(self.log.writer.appended_lsn().get())
    }

    /// Fills the log with what is no record and does not come back.
    fn warm_up(&mut self) -> Result<()> {
        let payload = vec![9; 32 << 10];
        let begin = self.log.writer.appended_lsn().get();
        while self.log.writer.appended_lsn().get() - begin < Self::WARM {
            match self.log.writer.payload(&payload) {
                Err(error) if error.is_full() => self.log.make_room()?,
                other => drop(other?),
            }
            self.request()?;
        }
        self.sync()
    }

    fn kept_from(&self) -> Option<u64> {
        self.marks.front().map(|(_, records)| *records)
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        Some(self)
    }

    fn turns(&mut self) -> Option<&mut dyn Turns> {
        Some(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Box::new(self.log).close()
    }
}

impl Turns for Steady {
    fn commit(&mut self) -> Result<Acknowledged> {
        Turns::commit(&mut self.log)
    }

    fn end(&mut self) -> Result<()> {
        self.sync()
    }
}

impl Pipeline for Steady {
    fn request(&mut self) -> Result<u64> {
        let position = self.log.request()?;
        self.mark(position)?;
        Ok(position)
    }

    fn durable(&mut self, wait: bool) -> Result<u64> {
        self.log.durable(wait)
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
