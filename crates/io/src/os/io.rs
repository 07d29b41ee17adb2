//! The write path of the blocking backend.

use std::io;
use std::ops::Range;

use super::OsFile;
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait, write};

/// The write path of [`FileStorage`](crate::FileStorage):
/// [`submit`](StorageIo::submit) performs the operation before it returns, and
/// [`poll`](StorageIo::poll) hands out what it has queued.
///
/// An error of the operation is in its completion, never in what `submit`
/// returns; `submit` refuses only a write that breaks the rules of
/// [`Operation::Write`]. Writes are never short: they go on until all is
/// written or an error ends them.
#[derive(Debug, Default)]
pub struct BlockingIo {
    next_token: u64,
    completed: Vec<Completion>,
    /// The system has refused `RWF_DSYNC` once: do not ask at every write.
    durable_write_refused: bool,
}

impl BlockingIo {
    fn write(&mut self, file: &OsFile, offset: u64, bytes: &[u8], data_sync: bool) -> io::Result<()> {
        if !data_sync {
            return file.write_at(offset, bytes);
        }
        if !self.durable_write_refused {
            match file.write_at_durably(offset, bytes) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.durable_write_refused = true;
                }
                result => return result,
            }
        }
        assert!(self.durable_write_refused);
        file.write_at(offset, bytes)?;
        file.sync_data()
    }

    fn complete(&mut self, result: io::Result<usize>, buffer: Option<AlignedBuf>) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.completed.push(Completion { token, result, buffer });
        token
    }

    fn submit_write(
        &mut self,
        file: &OsFile,
        offset: u64,
        buffer: AlignedBuf,
        range: Range<usize>,
        data_sync: bool,
    ) -> io::Result<Token> {
        write::check(offset, &buffer, &range)?;
        let written = range.len();
        assert!(written > 0);
        let result = self.write(file, offset, &buffer[range], data_sync);
        Ok(self.complete(result.map(|()| written), Some(buffer)))
    }
}

impl StorageIo for BlockingIo {
    type File = OsFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        AlignedBuf::new(capacity)
    }

    fn submit(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        match operation {
            Operation::Write { file, offset, buffer, range, data_sync } => {
                self.submit_write(&file, offset, buffer, range, data_sync)
            }
            Operation::Sync { file } => {
                let result = file.sync_data();
                Ok(self.complete(result.map(|()| 0), None))
            }
        }
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
