//! wal-db: a write per append, a `sync` that concurrent callers share.

use std::path::Path;

use anyhow::Result;
use wal_db::Wal;

use super::{Keeps, Kind, Log, Peer, Shared};
use crate::data::{Check, KEY_BYTES};

pub(super) fn peer() -> Peer {
    Peer {
        name: "wal-db",
        version: "1.1.0",
        kind: Kind::Peer,
        sync_call: "Wal::sync",
        log: |dir, _| Ok(Box::new(WalDb { wal: Wal::open(dir.join("wal"))?, record: Vec::new() })),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: Some(|dir| Ok(Box::new(Wal::open(dir.join("wal"))?))),
        store: None,
    }
}

struct WalDb {
    wal: Wal,
    record: Vec<u8>,
}

impl Log for WalDb {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.record.clear();
        self.record.extend_from_slice(key);
        self.record.extend_from_slice(value);
        let _lsn = self.wal.append(&self.record)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.wal.sync()?)
    }
}

impl Shared for Wal {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let _lsn = self.append_and_sync(&[key, value].concat())?;
        Ok(())
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    let wal = Wal::open(dir.join("wal"))?;
    for record in wal.iter()? {
        let record = record?;
        let (key, value) = record.data().split_at(KEY_BYTES);
        check.record(key, value);
    }
    Ok(check)
}
