//! Reading a file of a store beside its live owner.
//!
//! A run may be deleted while it is read: what is open stays readable. A
//! segment may be renamed away and then written over. The rename always comes
//! first, and a segment's name is never used again; so if the name still leads
//! to a file with the same header after the last byte was read, then every
//! byte was the segment's.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use corewal_format::BLOCK_LEN;

use crate::error::{Error, Result};
use crate::inventory::{Kind, Wanted};
use crate::private;

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    path: &'a Path,
    kind: Kind,
    file: File,
    /// The first block, as it was when the file was opened.
    head: Vec<u8>,
    left: u64,
    hasher: blake3::Hasher,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// It was there to the end.
    Whole(T),
    /// It went away, or made way for another.
    Vanished,
}

impl<'a> Source<'a> {
    /// Opens a file of the inventory.
    pub(crate) fn open(wanted: &Wanted<'a>) -> Result<Outcome<Self>> {
        let path = wanted.file.path.as_path();
        let Outcome::Whole((file, head)) = begin(path)? else { return Ok(Outcome::Vanished) };
        let source =
            Self { path, kind: wanted.kind, file, head, left: wanted.file.bytes, hasher: blake3::Hasher::new() };
        Ok(Outcome::Whole(source))
    }

    /// The next bytes, at most `most` and fewer only at the end; empty at the
    /// end.
    pub(crate) fn next(&mut self, most: usize) -> Result<Bytes> {
        let want = usize::try_from(self.left).map_or(most, |left| left.min(most));
        let mut bytes = vec![0; want];
        let mut filled = 0;
        while filled < want {
            match self.file.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(file_error("read", self.path, error)),
            }
        }
        bytes.truncate(filled);
        self.left = if filled < want { 0 } else { self.left - filled as u64 };
        self.hasher.update(&bytes);
        Ok(bytes.into())
    }

    /// The hash of what was read, if that was `length` bytes of the file that
    /// was asked for.
    pub(crate) fn finish(self, length: u64) -> Result<Outcome<String>> {
        let whole = self.hasher.count() == length;
        let still = match self.kind {
            Kind::Run => true,
            Kind::Segment => match begin(self.path)? {
                Outcome::Whole((_, head)) => head == self.head,
                Outcome::Vanished => false,
            },
        };
        match (still, whole) {
            (true, true) => Ok(Outcome::Whole(self.hasher.finalize().to_hex().to_string())),
            (false, _) => Ok(Outcome::Vanished),
            (true, false) => {
                let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "shorter than the inventory says");
                Err(file_error("read", self.path, cause))
            }
        }
    }
}

/// Opens a file and reads its first block.
fn begin(path: &Path) -> Result<Outcome<(File, Vec<u8>)>> {
    let file = match private::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Vanished),
        Err(error) => return Err(file_error("open", path, error)),
    };
    let mut head = Vec::new();
    (&file).take(BLOCK_LEN as u64).read_to_end(&mut head).map_err(|error| file_error("read", path, error))?;
    io::Seek::rewind(&mut &file).map_err(|error| file_error("read", path, error))?;
    Ok(Outcome::Whole((file, head)))
}

pub(crate) fn file_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::inventory::FilePart;

    fn part(path: PathBuf, bytes: u64) -> FilePart {
        FilePart { name: "x".to_owned(), path, bytes }
    }

    fn wanted(file: &FilePart, kind: Kind) -> Wanted<'_> {
        Wanted { file, kind, stands_at: (0, 0) }
    }

    fn opened<'a>(file: &'a FilePart, kind: Kind) -> Source<'a> {
        match Source::open(&wanted(file, kind)).unwrap() {
            Outcome::Whole(source) => source,
            Outcome::Vanished => panic!("it is there"),
        }
    }

    #[test]
    fn a_segment_that_was_renamed_and_written_over_has_vanished() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("3.wal"), dir.path().join("4.spare"));
        fs::write(&path, vec![3; 10_000]).unwrap();
        let file = part(path.clone(), 10_000);

        let mut source = opened(&file, Kind::Segment);
        assert_eq!(source.next(6_000).unwrap().len(), 6_000);
        fs::rename(&path, &away).unwrap();
        fs::write(&away, vec![4; 10_000]).unwrap();
        assert_eq!(source.next(6_000).unwrap(), vec![4; 4_000], "the file changed under the open descriptor");
        assert_eq!(source.finish(10_000).unwrap(), Outcome::Vanished);

        // Another file under the name is not the segment either.
        fs::write(&path, vec![3; 10_000]).unwrap();
        let mut source = opened(&file, Kind::Segment);
        source.next(10_000).unwrap();
        fs::write(&path, vec![5; 10_000]).unwrap();
        assert_eq!(source.finish(10_000).unwrap(), Outcome::Vanished);
    }

    #[test]
    fn a_run_that_is_deleted_after_opening_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.run");
        fs::write(&path, vec![1; 5_000]).unwrap();
        let file = part(path.clone(), 5_000);
        let mut source = opened(&file, Kind::Run);
        fs::remove_file(&path).unwrap();
        assert_eq!(source.next(8_000).unwrap().len(), 5_000);
        assert!(source.next(8_000).unwrap().is_empty());
        let hash = blake3::hash(&[1; 5_000]).to_hex().to_string();
        assert_eq!(source.finish(5_000).unwrap(), Outcome::Whole(hash));
        assert!(matches!(Source::open(&wanted(&file, Kind::Run)).unwrap(), Outcome::Vanished));
    }

    #[test]
    fn a_file_that_is_shorter_than_it_should_be_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.run");
        fs::write(&path, [1; 10]).unwrap();
        let file = part(path, 20);
        let mut source = opened(&file, Kind::Run);
        assert_eq!(source.next(100).unwrap().len(), 10);
        assert!(matches!(source.finish(20), Err(Error::File { .. })));
    }
}
