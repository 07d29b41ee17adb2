//! The record of a virtual disk: what QEMU's `blklogwrites` writes, in the
//! format of the kernel's dm-log-writes.
//!
//! Little-endian. A superblock in the first sector: magic, version, number of
//! entries (kept up to date at each flush only), sector size. Then the entries:
//! a sector with the head, and the data behind it. An entry is written when its
//! request has completed, so whatever a flush must cover stands before it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Bytes of a sector, of the disk and of its record.
pub(crate) const SECTOR: u64 = 512;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// A request that the disk has carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The first sector of the disk that it wrote.
    pub(crate) sector: u64,
    /// How many it wrote.
    pub(crate) sectors: u64,
    flags: u64,
    /// Where in the record its data is.
    data: u64,
}

impl Entry {
    /// Whether it made durable what had been written before.
    pub(crate) fn flushes(&self) -> bool {
        self.flags & FLUSH != 0
    }

    /// Whether it was durable itself when it completed.
    pub(crate) fn forced(&self) -> bool {
        self.flags & FUA != 0
    }

    /// Its first byte on the disk.
    pub(crate) fn offset(&self) -> u64 {
        self.sector * SECTOR
    }

    #[cfg(test)]
    pub(crate) fn write(sector: u64, sectors: u64) -> Self {
        Self { sector, sectors, flags: 0, data: 0 }
    }

    #[cfg(test)]
    pub(crate) fn flush() -> Self {
        Self { sector: 0, sectors: 0, flags: FLUSH, data: 0 }
    }

    #[cfg(test)]
    pub(crate) fn forced_write(sector: u64, sectors: u64) -> Self {
        Self { flags: FUA, ..Self::write(sector, sectors) }
    }
}

/// A record, read.
#[derive(Debug)]
pub(crate) struct WriteLog {
    file: File,
    /// The requests, in the order in which they completed.
    pub(crate) entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads the record of a disk of `disk` bytes. It must be whole: the machine
    /// was stopped in order, with nothing under way.
    pub(crate) fn open(path: &Path, disk: u64) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        let len = file.metadata()?.len();
        let mut superblock = [0; 28];
        file.read_exact_at(&mut superblock, 0).context("the record has no superblock: the disk was never flushed")?;
        let [magic, version, counted] = [0, 8, 16].map(|at| number(&superblock, at));
        let sector = u64::from(u32::from_le_bytes(superblock[24..].try_into().expect("four bytes")));
        ensure!(magic == MAGIC && version == VERSION, "no record of dm-log-writes: {magic:#x}, version {version}");
        ensure!(sector == SECTOR, "the record has sectors of {sector} bytes");

        let mut entries = Vec::new();
        let mut at = SECTOR;
        while at < len {
            let entry = read_entry(&file, at, len, disk).with_context(|| format!("entry {} at {at}", entries.len()))?;
            at = entry.data + entry.sectors * SECTOR;
            entries.push(entry);
        }
        let found = entries.len() as u64;
        ensure!(found >= counted, "the record speaks of {counted} entries and has {found}");
        Ok(Self { file, entries })
    }

    /// The data of an entry, or a part of it.
    pub(crate) fn read(&self, entry: &Entry, from: u64, to: u64) -> Result<Vec<u8>> {
        assert!(from <= to && to <= entry.sectors, "within the entry");
        let mut bytes = vec![0; usize::try_from((to - from) * SECTOR)?];
        self.file.read_exact_at(&mut bytes, entry.data + from * SECTOR)?;
        Ok(bytes)
    }
}

fn read_entry(file: &File, at: u64, len: u64, disk: u64) -> Result<Entry> {
    let mut head = [0; 32];
    file.read_exact_at(&mut head, at)?;
    let [sector, sectors, flags] = [0, 8, 16].map(|at| number(&head, at));
    if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
        bail!("unknown flags {flags:#x}");
    }
    // The disk offers no discards, and QEMU makes no marks.
    ensure!(flags & (DISCARD | MARK) == 0, "a discard or a mark, flags {flags:#x}");
    ensure!(sectors > 0 || flags & FLUSH != 0, "nothing was written and nothing flushed: the record is cut short");
    let within = |end: Option<u64>, limit: u64| end.is_some_and(|end| end <= limit);
    let end = sector.checked_add(sectors).and_then(|end| end.checked_mul(SECTOR));
    ensure!(within(end, disk), "{sectors} sectors from {sector} on leave the disk");
    let data = at + SECTOR;
    ensure!(within(data.checked_add(sectors * SECTOR), len), "its data is cut short");
    Ok(Entry { sector, sectors, flags, data })
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(numbers: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.resize(SECTOR as usize, 0);
        bytes
    }

    fn record(parts: &[Vec<u8>]) -> (tempfile::NamedTempFile, Result<WriteLog>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), parts.concat()).unwrap();
        let log = WriteLog::open(file.path(), 1 << 20);
        (file, log)
    }

    #[test]
    fn writes_flushes_and_what_follows_the_last_flush_are_read() {
        let parts = [
            sector(&[MAGIC, 1, 2, 512]),
            sector(&[8, 2, 0, 0]),
            vec![1; 512],
            vec![2; 512],
            sector(&[0, 0, FLUSH, 0]),
            sector(&[3, 1, FUA, 0]),
            vec![3; 512],
        ];
        let (_file, log) = record(&parts);
        let log = log.unwrap();
        let kinds: Vec<_> = log.entries.iter().map(|e| (e.sector, e.sectors, e.flushes(), e.forced())).collect();
        assert_eq!(kinds, [(8, 2, false, false), (0, 0, true, false), (3, 1, false, true)]);
        assert_eq!(log.read(&log.entries[0], 1, 2).unwrap(), vec![2; 512]);
        assert_eq!(log.read(&log.entries[2], 0, 1).unwrap(), vec![3; 512]);
    }

    #[test]
    fn a_record_that_is_cut_short_or_something_else_is_refused() {
        let head = sector(&[MAGIC, 1, 1, 512]);
        let wrong: [&[Vec<u8>]; 7] = [
            &[],
            &[sector(&[MAGIC + 1, 1, 1, 512])],
            std::slice::from_ref(&head),
            &[head.clone(), sector(&[8, 2, 0, 0]), vec![1; 512]],
            &[head.clone(), sector(&[0; 4])],
            &[head.clone(), sector(&[u64::MAX, 2, 0, 0]), vec![1; 1024]],
            &[head.clone(), sector(&[1 << 12, 1, 0, 0]), vec![1; 512]],
        ];
        for parts in wrong {
            assert!(record(parts).1.is_err(), "{parts:?}");
        }
    }
}
