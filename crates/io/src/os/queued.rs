//! Writes that wait for those that come with them.

use std::io;
use std::ops::Range;

use super::OsFile;
use crate::{AlignedBuf, Completion, Token};

/// A write that waits; it keeps the rules of [`Operation::Write`](crate::Operation::Write).
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) token: Token,
    pub(super) file: OsFile,
    pub(super) offset: u64,
    pub(super) buffer: AlignedBuf,
    pub(super) range: Range<usize>,
    pub(super) data_sync: bool,
}

impl Queued {
    /// Whether `next` goes on where this one ends, in the same file.
    pub(super) fn leads_to(&self, next: &Self) -> bool {
        let end = self.offset + self.range.len() as u64;
        end == next.offset && self.data_sync == next.data_sync && self.file.is(&next.file)
    }

    /// How it ended, if of it and what follows it `done` bytes were written, and
    /// then `result`. What is left of `done` is of those that follow.
    pub(super) fn complete(self, done: &mut usize, result: &io::Result<()>) -> Completion {
        let len = self.range.len();
        let whole = *done >= len;
        *done = done.saturating_sub(len);
        let result = match result {
            Err(error) if !whole => Err(same(error)),
            _ => Ok(len),
        };
        Completion { token: self.token, result, buffer: Some(self.buffer) }
    }
}

/// An error once more.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
