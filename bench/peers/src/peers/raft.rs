//! raft-engine: batches of key-value pairs of one Raft group, written with `sync`. Its own compression is off: nobody
//! else's log compresses.

use std::path::Path;

use anyhow::Result;
use raft_engine::{Config, Engine, LogBatch, ReadableSize};

use super::{Keeps, Kind, Log, Peer, Shared};
use crate::data::Check;

const GROUP: u64 = 1;
/// A batch so large is written without a sync, so that a stream does not gather in memory.
const BATCH_BYTES: usize = 64 << 10;

pub(super) fn peer() -> Peer {
    Peer {
        name: "raft-engine",
        version: "0.4.2",
        kind: Kind::Peer,
        sync_call: "Engine::write(batch, sync)",
        log: |dir, _| Ok(Box::new(Raft { engine: open(dir)?, batch: LogBatch::default() })),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: Some(|dir| Ok(Box::new(open(dir)?))),
        store: None,
    }
}

fn open(dir: &Path) -> Result<Engine> {
    let dir = dir.to_str().expect("a path in UTF-8").to_owned();
    Ok(Engine::open(Config { dir, batch_compression_threshold: ReadableSize(0), ..Config::default() })?)
}

struct Raft {
    engine: Engine,
    batch: LogBatch,
}

impl Log for Raft {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // Before and not after: an empty batch is not synced, so one record must be left for the sync.
        if self.batch.approximate_size() > BATCH_BYTES {
            self.engine.write(&mut self.batch, false)?;
        }
        Ok(self.batch.put(GROUP, key.to_vec(), value.to_vec())?)
    }

    fn sync(&mut self) -> Result<()> {
        self.engine.write(&mut self.batch, true)?;
        Ok(())
    }
}

impl Shared for Engine {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut batch = LogBatch::default();
        batch.put(GROUP, key.to_vec(), value.to_vec())?;
        self.write(&mut batch, true)?;
        Ok(())
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    open(dir)?.scan_raw_messages(GROUP, None, None, false, |key, value| {
        check.record(key, value);
        true
    })?;
    Ok(check)
}
