//! walrus-rust: a topic; what one sync covers is one batch of at most 2,000 entries with `FsyncSchedule::SyncEach`.

use std::path::Path;

use anyhow::Result;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::{Keeps, Kind, Log, Peer, Setup};
use crate::data::{Check, KEY_BYTES};

const TOPIC: &str = "records";
const BATCH_MAX: usize = 2000;

pub(super) fn peer() -> Peer {
    Peer {
        name: "walrus-rust",
        version: "0.2.0",
        kind: Kind::Peer,
        sync_call: "append_for_topic, batch_append_for_topic with SyncEach",
        log: |dir, setup| Ok(Box::new(Topic::open(dir, setup)?)),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: None,
        store: None,
    }
}

fn open(dir: &Path, schedule: FsyncSchedule) -> Result<Walrus> {
    // It keeps its files in a directory of the working directory, named by a key.
    let key = dir.file_name().and_then(|name| name.to_str()).expect("a directory with a name");
    let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Ok(Walrus::with_consistency_and_schedule_for_key(key, consistency, schedule)?)
}

struct Topic {
    walrus: Walrus,
    durable: bool,
    /// With `SyncEach` every call syncs, so what comes between two syncs is gathered.
    pending: Vec<Vec<u8>>,
}

impl Topic {
    fn open(dir: &Path, setup: Setup) -> Result<Self> {
        let schedule = if setup.durable { FsyncSchedule::SyncEach } else { FsyncSchedule::NoFsync };
        Ok(Self { walrus: open(dir, schedule)?, durable: setup.durable, pending: Vec::new() })
    }
}

impl Log for Topic {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let record = [key, value].concat();
        if self.durable {
            self.pending.push(record);
            Ok(())
        } else {
            Ok(self.walrus.append_for_topic(TOPIC, &record)?)
        }
    }

    fn sync(&mut self) -> Result<()> {
        if let [record] = self.pending.as_slice() {
            self.walrus.append_for_topic(TOPIC, record)?;
        } else {
            for batch in self.pending.chunks(BATCH_MAX) {
                let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
                self.walrus.batch_append_for_topic(TOPIC, &batch)?;
            }
        }
        self.pending.clear();
        Ok(())
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    let walrus = open(dir, FsyncSchedule::NoFsync)?;
    loop {
        let entries = walrus.batch_read_for_topic(TOPIC, 1 << 20, true)?;
        if entries.is_empty() {
            return Ok(check);
        }
        for entry in entries {
            let (key, value) = entry.data.split_at(KEY_BYTES);
            check.record(key, value);
        }
    }
}
