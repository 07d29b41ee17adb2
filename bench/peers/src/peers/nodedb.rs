//! nodedb-wal through the page cache, for what it writes in its direct mode could not be read back, and without its
//! double-write buffer, which writes everything a second time and which no other log here has.

use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;
use nodedb_wal::DwbMode;
use nodedb_wal::group_commit::{GroupCommitter, PendingWrite};
use nodedb_wal::reader::WalReader;
use nodedb_wal::record::RecordType;
use nodedb_wal::writer::{WalWriter, WalWriterConfig};

use super::{Keeps, Kind, Log, Peer, Shared};
use crate::data::{Check, KEY_BYTES};

pub(super) fn peer() -> Peer {
    Peer {
        name: "nodedb-wal",
        version: "0.4.0",
        kind: Kind::Peer,
        sync_call: "WalWriter::sync",
        log: |dir, _| Ok(Box::new(Nodedb { wal: open(dir)?, record: Vec::new() })),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: Some(|dir| Ok(Box::new(Group { wal: Mutex::new(open(dir)?), committer: GroupCommitter::new() }))),
        store: None,
    }
}

fn open(dir: &Path) -> Result<WalWriter> {
    let config = WalWriterConfig { use_direct_io: false, dwb_mode: Some(DwbMode::Off), ..WalWriterConfig::default() };
    Ok(WalWriter::open(&dir.join("wal"), config)?)
}

struct Nodedb {
    wal: WalWriter,
    record: Vec<u8>,
}

impl Log for Nodedb {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.record.clear();
        self.record.extend_from_slice(key);
        self.record.extend_from_slice(value);
        self.wal.append(RecordType::Put as u32, 1, 0, 0, &self.record)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.wal.sync()?)
    }
}

struct Group {
    wal: Mutex<WalWriter>,
    committer: GroupCommitter,
}

impl Shared for Group {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let payload = [key, value].concat();
        let record_type = RecordType::Put as u32;
        let write = PendingWrite { record_type, tenant_id: 1, vshard_id: 0, database_id: 0, payload };
        let done = self.committer.submit(&self.wal, write)?;
        anyhow::ensure!(done.durable, "submitted, and not durable");
        Ok(())
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    for record in WalReader::open(&dir.join("wal"))?.records() {
        let record = record?;
        let (key, value) = record.payload.split_at(KEY_BYTES);
        check.record(key, value);
    }
    Ok(check)
}
