//! okaywal: an entry is committed with one fdatasync; what one sync covers is one entry with a chunk a record.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use okaywal::{Configuration, Entry, EntryId, EntryWriter, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};

use super::{Keeps, Kind, Log, Peer, Setup, Shared};
use crate::data::{Check, KEY_BYTES};

pub(super) fn peers() -> [Peer; 2] {
    let peer = Peer {
        name: "okaywal",
        version: "0.3.1",
        kind: Kind::Peer,
        sync_call: "EntryWriter::commit",
        log: |dir, _| Ok(Box::new(Okay::open(Configuration::default_for(dir))?)),
        read: Some(|dir, check| read(Configuration::default_for(dir), check)),
        keeps: Keeps::Tail,
        rust: true,
        shared: Some(|dir| Ok(Box::new(Configuration::default_for(dir).open(Forget)?))),
        store: None,
    };
    let large = Peer {
        name: "okaywal, one segment",
        log: |dir, setup| Ok(Box::new(Okay::open(one_segment(dir, setup.room))?)),
        read: Some(|dir, check| read(one_segment(dir, 0), check)),
        keeps: Keeps::All,
        rust: true,
        shared: Some(|dir| {
            let wal = one_segment(dir, Setup::SHARED_ROOM).open(Forget)?;
            wal.begin_entry()?.commit()?;
            Ok(Box::new(wal))
        }),
        ..peer
    };
    [peer, large]
}

/// A segment that holds everything, so that nothing is recycled.
fn one_segment(dir: &Path, room: u64) -> Configuration {
    let bytes = u32::try_from(room + room / 4 + (1 << 20)).unwrap_or(u32::MAX);
    Configuration::default_for(dir).preallocate_bytes(bytes).checkpoint_after_bytes(u64::MAX)
}

/// Takes checkpoints for done, as a store would that has the records elsewhere already.
#[derive(Debug)]
struct Forget;

impl LogManager for Forget {
    fn recover(&mut self, _: &mut Entry<'_>) -> io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

struct Okay {
    /// Lent to the entry at hand. Leaked for that: the process measures one log and ends.
    wal: &'static WriteAheadLog,
    entry: Option<EntryWriter<'static>>,
    record: Vec<u8>,
}

impl Okay {
    fn open(configuration: Configuration) -> Result<Self> {
        let wal = Box::leak(Box::new(configuration.open(Forget)?));
        // Laying out a large segment leaves much for the first sync to write, which is not what is measured.
        wal.begin_entry()?.commit()?;
        Ok(Self { wal, entry: None, record: Vec::new() })
    }
}

impl Log for Okay {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.entry.is_none() {
            self.entry = Some(self.wal.begin_entry()?);
        }
        self.record.clear();
        self.record.extend_from_slice(key);
        self.record.extend_from_slice(value);
        self.entry.as_mut().expect("begun above").write_chunk(&self.record)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if let Some(entry) = self.entry.take() {
            entry.commit()?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.wal.clone().shutdown()?)
    }
}

impl Shared for WriteAheadLog {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut entry = self.begin_entry()?;
        entry.write_chunk(&[key, value].concat())?;
        entry.commit()?;
        Ok(())
    }
}

/// Recovery hands the records to the check.
struct Checking(Arc<Mutex<Check>>);

impl fmt::Debug for Checking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checking")
    }
}

impl LogManager for Checking {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut check = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            let record = chunk.read_all()?;
            if !chunk.check_crc()? {
                return Err(io::Error::other("a chunk does not match its checksum"));
            }
            let (key, value) = record.split_at(KEY_BYTES);
            check.record(key, value);
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

fn read(configuration: Configuration, check: Check) -> Result<Check> {
    let check = Arc::new(Mutex::new(check));
    configuration.open(Checking(Arc::clone(&check)))?.shutdown()?;
    let check = check.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(check)
}
