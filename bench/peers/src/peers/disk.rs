//! The disk without a log: whole blocks, direct and data-synchronous, over a file of zeros. What stands between two
//! syncs goes out in one write.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};

use super::reference::zeros;
use super::{Keeps, Kind, Log, Peer, Setup, Shared};

const BLOCK: usize = 4096;
/// The largest write.
const BUFFER: usize = (1 << 20) + 4 * BLOCK;

pub(super) fn peer() -> Peer {
    Peer {
        name: "disk: direct, data-sync",
        version: "",
        kind: Kind::Measure,
        sync_call: "write with O_DSYNC",
        log: |dir, setup| Ok(Box::new(Disk::create(dir, setup)?)),
        // Nothing says where records end, so there is nothing to read back.
        read: None,
        keeps: Keeps::All,
        rust: true,
        shared: Some(|dir| Ok(Box::new(Blocks::create(dir)?))),
        store: None,
    }
}

fn open(dir: &Path, setup: Setup) -> Result<(File, u64)> {
    let path = dir.join("blocks");
    let end = zeros(&path, setup)?;
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    Ok((OpenOptions::new().write(true).custom_flags(flags).open(path)?, end))
}

/// Memory that starts at a block's boundary, as direct I/O wants it.
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + BLOCK];
        let from = bytes.as_ptr().align_offset(BLOCK);
        Self { bytes, from }
    }

    fn get(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + len]
    }
}

struct Disk {
    file: File,
    buffer: Aligned,
    len: usize,
    at: u64,
    end: u64,
}

impl Disk {
    fn create(dir: &Path, setup: Setup) -> Result<Self> {
        // A block for each record at worst.
        let (file, end) = open(dir, setup)?;
        Ok(Self { file, buffer: Aligned::new(BUFFER), len: 0, at: 0, end })
    }
}

impl Log for Disk {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.len + key.len() + value.len() > BUFFER {
            self.sync()?;
        }
        let (len, to) = (self.len, self.len + key.len() + value.len());
        let room = &mut self.buffer.get(BUFFER)[len..to];
        room[..key.len()].copy_from_slice(key);
        room[key.len()..].copy_from_slice(value);
        self.len = to;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let len = self.len.next_multiple_of(BLOCK);
        // Around and around: it is the disk that is measured.
        if self.at + len as u64 > self.end {
            self.at = 0;
        }
        self.file.write_all_at(self.buffer.get(len), self.at)?;
        self.at += len as u64;
        self.len = 0;
        Ok(())
    }
}

/// A block for each commit, from as many threads as there are.
struct Blocks {
    file: File,
    end: u64,
    at: AtomicU64,
}

impl Blocks {
    fn create(dir: &Path) -> Result<Self> {
        let (file, end) = open(dir, Setup { room: Setup::SHARED_ROOM, durable: true })?;
        Ok(Self { file, end, at: AtomicU64::new(0) })
    }
}

impl Shared for Blocks {
    fn commit(&self, key: &[u8], value: &[u8]) -> Result<()> {
        ensure!(key.len() + value.len() <= BLOCK, "one block a commit");
        let mut block = Aligned::new(BLOCK);
        let bytes = block.get(BLOCK);
        bytes[..key.len()].copy_from_slice(key);
        bytes[key.len()..key.len() + value.len()].copy_from_slice(value);
        let at = self.at.fetch_add(BLOCK as u64, Ordering::Relaxed) % self.end;
        Ok(self.file.write_all_at(bytes, at)?)
    }
}
