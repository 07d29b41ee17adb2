//! Records that can't be taken: counted, told, and kept in a file.
//!
//! The file has each rejected record exactly once, whatever crashes: before a
//! barrier goes out its content is durable and its length goes into the
//! commit, and the next run cuts it back to the committed length.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::committed::{Committed, rejects_name};
use crate::exit::Failure;

/// So much is held back before it is written.
const BUFFER: usize = 64 << 10;

/// The rejects file.
#[derive(Debug)]
pub(super) struct Rejects {
    shown: PathBuf,
    /// The name its length is committed under.
    name: String,
    file: File,
    /// Bytes in the file that count.
    written: u64,
    /// Bytes still to be written.
    buffer: Vec<u8>,
    /// The length that the last commit carries; none if no commit ever did.
    committed: Option<u64>,
    /// A commit that carries a length is durable.
    known: bool,
}

impl Rejects {
    /// Opens the file, or creates it. Does not change one that is there.
    pub(super) fn open<'s>(path: &Path, mut sources: impl Iterator<Item = &'s Path>) -> Result<Self, Failure> {
        let trouble = |error: std::io::Error| Failure::from(error).context(format!("can't write {}", path.display()));
        let same = |source: &Path| match (source.canonicalize(), path.canonicalize()) {
            (Ok(source), Ok(path)) => source == path,
            _ => false,
        };
        if sources.any(same) {
            return Err(Failure::usage(format!("{} is a source: name another file with --rejects", path.display())));
        }
        let created = !path.exists();
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(trouble)?;
        if !file.metadata().map_err(trouble)?.is_file() {
            return Err(Failure::usage(format!("--rejects needs a regular file, and {} is none", path.display())));
        }
        let canonical = path.canonicalize().map_err(trouble)?;
        if created {
            sync_dir(&canonical);
        }
        let written = file.seek(SeekFrom::End(0)).map_err(trouble)?;
        let name = rejects_name(&canonical);
        Ok(Self { shown: path.to_owned(), name, file, written, buffer: Vec::new(), committed: None, known: false })
    }

    /// Cuts off what earlier runs wrote and did not commit. To be called with
    /// the store open, so that no other run writes to the file.
    pub(super) fn take_up(&mut self, committed: &Committed) -> Result<(), Failure> {
        self.written = self.file.seek(SeekFrom::End(0)).map_err(|error| self.trouble(error))?;
        match committed.rejects_length(&self.name)? {
            Some(length) if length <= self.written => {
                self.file.set_len(length).map_err(|error| self.trouble(error))?;
                self.written = length;
                self.committed = Some(length);
                self.known = true;
            }
            // Somebody has taken lines out, or the file away: it goes on at
            // its end, whatever that is.
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Whether a durable commit knows the file. Only then may records be added:
    /// otherwise a crash could leave lines that nobody knows to be in excess. A
    /// commit that is only on its way is not enough: it may never arrive.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// To be called when all commits of what [`settle`](Self::settle) gave are
    /// durable.
    pub(super) fn now_durable(&mut self) {
        self.known = self.committed.is_some();
    }

    /// Adds a record.
    pub(super) fn add(&mut self, raw: &[u8]) -> Result<(), Failure> {
        debug_assert!(self.is_known());
        self.buffer.extend_from_slice(raw);
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Makes all that was added durable. Gives what the next commit must
    /// carry: the name and the length, if it has changed.
    pub(super) fn settle(&mut self) -> Result<Option<(&str, u64)>, Failure> {
        self.flush()?;
        if self.committed == Some(self.written) {
            return Ok(None);
        }
        self.file.sync_data().map_err(|error| self.trouble(error))?;
        self.committed = Some(self.written);
        Ok(Some((&self.name, self.written)))
    }

    /// Writes at the place where it counts, so that trying again after an
    /// error writes nothing twice.
    fn flush(&mut self) -> Result<(), Failure> {
        let mut write = || {
            self.file.seek(SeekFrom::Start(self.written))?;
            self.file.write_all(&self.buffer)
        };
        write().map_err(|error| self.trouble(error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn trouble(&self, error: std::io::Error) -> Failure {
        Failure::from(error).context(format!("can't write {}", self.shown.display()))
    }
}

/// A new file's name must survive a power loss too. Where a directory can't be
/// synced there is nothing better to do.
fn sync_dir(file: &Path) {
    if let Some(Ok(dir)) = file.parent().map(File::open) {
        let _ = dir.sync_all();
    }
}
