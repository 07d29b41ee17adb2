//! RocksDB as a store, the one that the system has: batches written with `sync`.

use std::path::Path;

use anyhow::Result;
use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};

use super::{Keeps, Kind, Log, Peer, Shared};
use crate::data::Check;

/// A batch of so many bytes is written without a sync, so that a stream does not gather in memory.
const BATCH_BYTES: usize = 64 << 10;

pub(super) fn peer() -> Peer {
    Peer {
        name: "RocksDB",
        version: "of the system",
        kind: Kind::Peer,
        sync_call: "DB::Write with sync",
        log: |dir, _| Ok(Box::new(Rocks { db: open(dir)?, batch: WriteBatch::default() })),
        read: Some(read),
        keeps: Keeps::All,
        rust: false,
        shared: Some(|dir| Ok(Box::new(open(dir)?))),
        store: Some((|dir, _| Ok(Box::new(Rocks { db: open(dir)?, batch: WriteBatch::default() })), read)),
    }
}

fn open(dir: &Path) -> Result<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    Ok(DB::open(&options, dir)?)
}

fn synced(synced: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(synced);
    options
}

struct Rocks {
    db: DB,
    batch: WriteBatch,
}

impl Log for Rocks {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.batch.size_in_bytes() > BATCH_BYTES {
            self.db.write_opt(std::mem::take(&mut self.batch), &synced(false))?;
        }
        self.batch.put(key, value);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.db.write_opt(std::mem::take(&mut self.batch), &synced(true))?)
    }
}

impl Shared for DB {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.put_opt(key, value, &synced(true))?)
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    for entry in open(dir)?.iterator(IteratorMode::Start) {
        let (key, value) = entry?;
        check.record(&key, &value);
    }
    Ok(check)
}
