//! The write path by blocking system calls.

use std::io;

use super::OsFile;
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait, write};

/// The write path of [`FileStorage`](crate::FileStorage) by plain system
/// calls: [`submit`](StorageIo::submit) performs the operation before it
/// returns, and [`poll`](StorageIo::poll) hands out what it has queued.
///
/// An error of the operation is in its completion, never in what `submit`
/// returns; `submit` refuses only a write that breaks the rules of
/// [`Operation::Write`]. Writes are never short: they go on until all is
/// written or an error ends them.
#[derive(Debug, Default)]
pub struct BlockingIo {
    next_token: u64,
    completed: Vec<Completion>,
}

/// Performs an operation by plain system calls. The error is that of a write
/// that breaks the rules; how the operation ended is in the completion.
pub(super) fn perform(operation: Operation<OsFile>, token: Token) -> io::Result<Completion> {
    match operation {
        Operation::Write { file, offset, buffer, range, data_sync } => {
            write::check(offset, &buffer, &range)?;
            let written = range.len();
            assert!(written > 0);
            let result = file.write_at(offset, &buffer[range], data_sync).map(|()| written);
            Ok(Completion { token, result, buffer: Some(buffer) })
        }
        Operation::Sync { file } => Ok(Completion { token, result: file.sync_data().map(|()| 0), buffer: None }),
    }
}

impl StorageIo for BlockingIo {
    type File = OsFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        AlignedBuf::new(capacity)
    }

    fn submit(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        let token = Token(self.next_token);
        self.completed.push(perform(operation, token)?);
        self.next_token += 1;
        Ok(token)
    }

    fn poll(&mut self, _wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.completed);
        assert_eq!(self.in_flight(), 0);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.completed.len()
    }
}
