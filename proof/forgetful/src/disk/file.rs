//! A file's content by sectors: what is durable, and each version since.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;

/// What a disk writes at once.
pub(super) const SECTOR: u64 = 512;

/// Its bytes.
type Bytes = [u8; SECTOR as usize];

/// So many versions of a sector, before the newest, may still reach the medium.
const OLDER: usize = 3;

/// A sector that was written since the last sync.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) newest: Box<Bytes>,
    #[allow(clippy::vec_box, reason = "the newest is moved there, without a copy")]
    pub(super) older: Vec<Box<Bytes>>,
    /// When the newest was written.
    stamp: u64,
}

/// What a sync makes durable.
#[derive(Debug)]
pub(crate) struct Covered {
    sectors: Vec<(u64, Pending)>,
    len: u64,
    /// When it began; none for a write, which covers no more than itself.
    stamp: Option<u64>,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    name: OsString,
    pub(super) durable: Vec<u8>,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) len: u64,
    /// What was written last.
    last: Range<u64>,
    /// Counts what changes the file.
    stamp: u64,
    /// When what is durable of a sector was written, and of the length.
    stamps: BTreeMap<u64, u64>,
    len_stamp: u64,
}

impl File {
    pub(super) fn new(name: &OsStr) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// One of which all is durable.
    pub(super) fn of(name: OsString, durable: Vec<u8>) -> Self {
        let len = durable.len() as u64;
        Self { name, durable, len, ..Self::default() }
    }

    /// The name that it was given last.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(super) fn called(&mut self, name: &OsStr) {
        self.name = name.to_owned();
    }

    /// Its length, as its process sees it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// A sector as its process sees it.
    fn sector(&self, number: u64) -> Bytes {
        match self.pending.get(&number) {
            Some(pending) => *pending.newest,
            None => sector_of(&self.durable, number),
        }
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(len as u64));
        let mut data = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (number, within) = (at / SECTOR, at % SECTOR);
            let part = (SECTOR - within).min(end - at);
            data.extend_from_slice(&self.sector(number)[within as usize..(within + part) as usize]);
            at += part;
        }
        data
    }

    /// What was written last.
    pub(super) fn last_written(&self) -> Range<u64> {
        self.last.clone()
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.last = offset..offset + data.len() as u64;
        self.stamp += 1;
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, within) = (at / SECTOR, (at % SECTOR) as usize);
            let part = (SECTOR as usize - within).min(data.len() - done);
            let mut bytes = self.sector(number);
            bytes[within..within + part].copy_from_slice(&data[done..done + part]);
            self.set_sector(number, bytes);
            done += part;
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    fn set_sector(&mut self, number: u64, bytes: Bytes) {
        let (bytes, stamp) = (Box::new(bytes), self.stamp);
        match self.pending.get_mut(&number) {
            None => drop(self.pending.insert(number, Pending { newest: bytes, older: Vec::new(), stamp })),
            Some(pending) => {
                pending.stamp = stamp;
                pending.older.push(std::mem::replace(&mut pending.newest, bytes));
                if pending.older.len() > OLDER {
                    pending.older.remove(0);
                }
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.stamp += 1;
        // What was cut off reads as zeros when the file grows again.
        let end = self.len;
        let mut at = len;
        while at < end {
            let (number, within) = (at / SECTOR, (at % SECTOR) as usize);
            let mut bytes = self.sector(number);
            bytes[within..].fill(0);
            self.set_sector(number, bytes);
            at = (number + 1) * SECTOR;
        }
        self.len = len;
    }

    /// What a sync that begins now covers.
    pub(super) fn covered(&self) -> Covered {
        let sectors = self.pending.iter().map(|(number, pending)| (*number, pending.clone()));
        Covered { sectors: sectors.collect(), len: self.len, stamp: Some(self.stamp) }
    }

    /// What a write that is to be durable covers: itself, and the length that
    /// it needs.
    pub(super) fn covered_by(&self, offset: u64, len: u64) -> Covered {
        let numbers = offset / SECTOR..(offset + len).div_ceil(SECTOR);
        let sectors = self.pending.range(numbers).map(|(number, pending)| (*number, pending.clone()));
        Covered { sectors: sectors.collect(), len: (offset + len).min(self.len), stamp: None }
    }

    /// What is covered is durable. What was written meanwhile is not, and what
    /// a later sync made durable meanwhile stays so.
    pub(super) fn settle(&mut self, covered: Covered) {
        for (number, settled) in covered.sectors {
            let durable = self.stamps.entry(number).or_default();
            if settled.stamp > *durable {
                *durable = settled.stamp;
                put(&mut self.durable, number, &settled.newest);
            }
            if let Some(pending) = self.pending.get_mut(&number) {
                if pending.stamp <= settled.stamp {
                    self.pending.remove(&number);
                } else {
                    pending.older.clear();
                }
            }
        }
        match covered.stamp {
            None => self.durable.resize(self.durable.len().max(covered.len as usize), 0),
            Some(stamp) if stamp >= self.len_stamp => {
                self.len_stamp = stamp;
                self.durable.resize(covered.len as usize, 0);
            }
            Some(_) => {}
        }
        // Sectors are whole, lengths need not be.
        self.durable.truncate(self.durable.len().min(self.len.max(covered.len) as usize));
    }

    /// What is pending is forgotten. The length stays what the process knows.
    pub(super) fn drop_pending(&mut self) {
        self.pending.clear();
    }

    /// Some of what is pending becomes durable, and the rest is forgotten.
    pub(super) fn half_settle(&mut self, random: &mut fastrand::Rng) {
        for (number, pending) in std::mem::take(&mut self.pending) {
            if random.bool() {
                self.stamps.insert(number, pending.stamp);
                put(&mut self.durable, number, &pending.newest);
            }
        }
        self.durable.truncate(self.len as usize);
    }
}

/// A sector of a content; what lies behind its end is zeros.
pub(super) fn sector_of(content: &[u8], number: u64) -> Bytes {
    let mut bytes = [0; SECTOR as usize];
    let begin = ((number * SECTOR) as usize).min(content.len());
    let end = (begin + SECTOR as usize).min(content.len());
    bytes[..end - begin].copy_from_slice(&content[begin..end]);
    bytes
}

/// Puts a sector into a content, which grows as needed.
pub(super) fn put(content: &mut Vec<u8>, number: u64, bytes: &Bytes) {
    let begin = (number * SECTOR) as usize;
    let end = begin + SECTOR as usize;
    if content.len() < end {
        content.resize(end, 0);
    }
    content[begin..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of what the process sees: plain bytes.
    #[test]
    fn a_file_reads_as_it_was_written_whatever_is_durable() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..200 {
            let (mut file, mut model) = (File::default(), Vec::new());
            for _ in 0..30 {
                let at = random.usize(0..3000);
                match random.u8(0..6) {
                    0 => {
                        file.set_len(at as u64);
                        model.resize(at, 0);
                    }
                    1 => file.settle(file.covered()),
                    2 => file.settle(file.covered_by(at as u64, 700)),
                    _ => {
                        let data: Vec<u8> = (0..random.usize(1..1500)).map(|_| random.u8(1..)).collect();
                        file.write(at as u64, &data);
                        model.resize(model.len().max(at + data.len()), 0);
                        model[at..at + data.len()].copy_from_slice(&data);
                    }
                }
                assert_eq!(file.len(), model.len() as u64);
                assert!(file.read(0, 10_000) == model);
                let (from, len) = (random.usize(0..4000), random.usize(0..2000));
                let expected = &model[from.min(model.len())..(from + len).min(model.len())];
                assert!(file.read(from as u64, len) == expected);
            }
            file.settle(file.covered());
            assert!(file.durable == model);
        }
    }

    #[test]
    fn a_durable_write_makes_itself_durable_and_no_other() {
        let mut file = File::default();
        file.write(0, &[1; 512]);
        file.write(1024, &[2; 512]);
        file.settle(file.covered_by(1024, 512));
        assert_eq!(file.durable.len(), 1536);
        assert!(file.durable[..1024].iter().all(|byte| *byte == 0));
        assert!(file.durable[1024..].iter().all(|byte| *byte == 2));
        assert!(file.pending.contains_key(&0));
    }

    #[test]
    fn a_sync_covers_what_was_written_when_it_began() {
        let mut file = File::default();
        file.write(0, &[1; 1024]);
        let covered = file.covered();
        file.write(512, &[2; 1024]);
        file.settle(covered);
        assert!(file.durable == [1; 1024]);
        assert_eq!(file.pending.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert!(file.read(0, 4096)[512..] == [2; 1024]);
    }

    #[test]
    fn what_a_failed_sync_drops_is_not_made_durable_by_the_next() {
        let mut file = File::default();
        file.write(0, &[1; 512]);
        file.settle(file.covered());
        file.write(0, &[2; 1024]);
        file.drop_pending();
        assert_eq!(file.len(), 1024, "the process knows its length");
        file.settle(file.covered());
        assert!(file.durable[..512].iter().all(|byte| *byte == 1));
        assert!(file.durable[512..].iter().all(|byte| *byte == 0));
    }
}
