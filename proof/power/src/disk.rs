//! Images of a disk: sparse files, changed by what a record says.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use crate::cut::Piece;
use crate::log::{SECTOR, WriteLog};

const CHUNK: usize = 1 << 20;

/// An image, open for changes.
#[derive(Debug)]
pub(crate) struct Image {
    file: File,
    len: u64,
}

impl Image {
    /// A copy of the first `len` bytes of another.
    pub(crate) fn copy_of(from: &Path, to: &Path, len: u64) -> Result<Self> {
        let from = File::open(from).with_context(|| format!("can't read {}", from.display()))?;
        let to = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(to)?;
        to.set_len(len)?;
        each_chunk_of_data(&from, len, |at, bytes| to.write_all_at(bytes, at))?;
        Ok(Self { file: to, len })
    }

    /// A copy of this one.
    pub(crate) fn copy(&self, to: &Path) -> Result<Self> {
        let to = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(to)?;
        to.set_len(self.len)?;
        each_chunk_of_data(&self.file, self.len, |at, bytes| to.write_all_at(bytes, at))?;
        Ok(Self { file: to, len: self.len })
    }

    /// Writes what the record says, as far as it is within the image.
    pub(crate) fn apply(&self, log: &WriteLog, piece: &Piece) -> Result<()> {
        let entry = &log.entries[piece.entry];
        let at = entry.offset() + piece.sectors.start * SECTOR;
        let bytes = log.read(entry, piece.sectors.start, piece.sectors.end)?;
        if at >= self.len || bytes.is_empty() {
            return Ok(());
        }
        ensure!(at + bytes.len() as u64 <= self.len, "a write across the end of the file system");
        if bytes.iter().all(|byte| *byte == 0) {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.file, hole, at, bytes.len() as u64)?;
        } else {
            self.file.write_all_at(&bytes, at)?;
        }
        Ok(())
    }

    /// The same for a whole entry.
    pub(crate) fn apply_whole(&self, log: &WriteLog, entry: usize) -> Result<()> {
        self.apply(log, &Piece { entry, sectors: 0..log.entries[entry].sectors })
    }

    /// Whether it holds the same bytes as another file does at its beginning.
    pub(crate) fn equals(&self, other: &Path) -> Result<bool> {
        let other = File::open(other)?;
        let mut same = true;
        let mut compare = |one: &File, another: &File| {
            let mut theirs = vec![0; CHUNK];
            each_chunk_of_data(one, self.len, |at, bytes| {
                let theirs = &mut theirs[..bytes.len()];
                another.read_exact_at(theirs, at)?;
                same &= theirs == bytes;
                Ok(())
            })
        };
        compare(&self.file, &other)?;
        compare(&other, &self.file)?;
        Ok(same)
    }
}

/// Goes over what a sparse file has, up to `len`.
fn each_chunk_of_data(file: &File, len: u64, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < len {
        at = match seek(file, SeekFrom::Data(at)) {
            Ok(at) => at,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(file, SeekFrom::Hole(at))?.min(len);
        while at < hole {
            let part = usize::try_from((hole - at).min(CHUNK as u64))?;
            file.read_exact_at(&mut chunk[..part], at)?;
            each(at, &chunk[..part])?;
            at += part as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_sparse_image_is_the_same_and_a_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let file = File::create(&one).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(&[7; 5000], 3 << 20).unwrap();
        file.write_all_at(&[8; 100], (8 << 20) - 100).unwrap();
        let copy = Image::copy_of(&one, &two, 8 << 20).unwrap();
        assert!(copy.equals(&one).unwrap());
        for (at, byte) in [(3 << 20, 6), (0, 1)] {
            let copy = copy.copy(&two.with_extension("again")).unwrap();
            copy.file.write_all_at(&[byte], at).unwrap();
            assert!(!copy.equals(&one).unwrap(), "{at}");
        }
    }
}
