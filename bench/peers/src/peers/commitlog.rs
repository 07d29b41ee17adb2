//! spacetimedb-commitlog.

use std::path::Path;

use anyhow::Result;
use spacetimedb_commitlog::{Commitlog, Encode, Options, commits};
use spacetimedb_paths::FromPathUnchecked;
use spacetimedb_paths::server::CommitLogDir;
use spacetimedb_sats::buffer::BufWriter;

use super::{Keeps, Kind, Log, Peer};
use crate::data::{Check, KEY_BYTES};

pub(super) fn peer() -> Peer {
    Peer {
        name: "spacetimedb-commitlog",
        version: "1.3.0",
        kind: Kind::Peer,
        sync_call: "Commitlog::flush_and_sync",
        log: |dir, _| Ok(Box::new(Stdb { log: Commitlog::open(root(dir), Options::default())? })),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        // Its lock is held over the sync, so threads cannot share one.
        shared: None,
        store: None,
    }
}

fn root(dir: &Path) -> CommitLogDir {
    CommitLogDir::from_path_unchecked(dir)
}

/// Key and value, one behind the other.
struct Bytes(Vec<u8>);

impl Encode for Bytes {
    fn encode_record<W: BufWriter>(&self, writer: &mut W) {
        writer.put_slice(&self.0);
    }
}

struct Stdb {
    log: Commitlog<Bytes>,
}

impl Log for Stdb {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.log.append_maybe_flush(Bytes([key, value].concat())).map_err(|error| error.source)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.log.flush_and_sync()?;
        Ok(())
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    for commit in commits(root(dir))? {
        let commit = commit?;
        // Records of a commit stand side by side, and here they are all of one size.
        for record in commit.records.chunks_exact(commit.records.len() / usize::from(commit.n)) {
            let (key, value) = record.split_at(KEY_BYTES);
            check.record(key, value);
        }
    }
    Ok(check)
}
