//! fjall, as a store: batches with `PersistMode::SyncData`.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::{Keeps, Kind, Log, Peer, Shared};
use crate::data::Check;

/// A batch of so many records is written without a sync, so that a stream does not gather in memory.
const BATCH_RECORDS: usize = 1024;

pub(super) fn peer() -> Peer {
    Peer {
        name: "fjall",
        version: "3.1.13",
        kind: Kind::Peer,
        sync_call: "WriteBatch::commit with SyncData",
        log: |dir, _| Ok(Box::new(Fjall::open(dir)?)),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: Some(|dir| Ok(Box::new(Fjall::open(dir)?))),
        store: Some((|dir, _| Ok(Box::new(Fjall::open(dir)?)), read)),
    }
}

struct Fjall {
    database: Database,
    records: Keyspace,
    batch: Option<OwnedWriteBatch>,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir).open()?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
        Ok(Self { database, records, batch: None })
    }
}

impl Log for Fjall {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(full) = self.batch.take_if(|batch| batch.len() == BATCH_RECORDS) {
            full.commit()?;
        }
        self.batch.get_or_insert_with(|| self.database.batch()).insert(&self.records, key, value);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if let Some(batch) = self.batch.take() {
            batch.durability(Some(PersistMode::SyncData)).commit()?;
        }
        Ok(())
    }
}

impl Shared for Fjall {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.records, key, value);
        Ok(batch.commit()?)
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    for entry in Fjall::open(dir)?.records.iter() {
        let (key, value) = entry.into_inner()?;
        check.record(&key, &value);
    }
    Ok(check)
}
