//! SQLite as a store: one table, write-ahead log, `synchronous = FULL`; what one sync covers is one transaction.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, params};

use super::{Keeps, Kind, Log, Peer};
use crate::data::Check;

pub(super) fn peer() -> Peer {
    Peer {
        name: "SQLite",
        version: "bundled with rusqlite 0.41.1",
        kind: Kind::Peer,
        sync_call: "COMMIT, synchronous = FULL",
        log: |dir, _| Ok(Box::new(Sqlite { connection: open(dir)? })),
        read: Some(read),
        keeps: Keeps::All,
        rust: false,
        // One writer at a time, and it holds the lock over the sync.
        shared: None,
        store: Some((|dir, _| Ok(Box::new(Sqlite { connection: open(dir)? })), read)),
    }
}

fn open(dir: &Path) -> Result<Connection> {
    let connection = Connection::open(dir.join("records.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS records (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    )?;
    Ok(connection)
}

struct Sqlite {
    connection: Connection,
}

impl Log for Sqlite {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.connection.is_autocommit() {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2)")?
            .execute(params![key, value])?;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.connection.is_autocommit() {
            self.connection.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(())
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    let connection = open(dir)?;
    let mut statement = connection.prepare("SELECT key, value FROM records ORDER BY key")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        check.record(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
    }
    Ok(check)
}
