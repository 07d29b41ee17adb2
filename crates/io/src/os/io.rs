//! The write path by blocking system calls.

use std::io::{self, IoSlice};

use super::OsFile;
use super::queued::Queued;
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait, write};

/// The write path of [`FileStorage`](crate::FileStorage) by plain system
/// calls: [`submit`](StorageIo::submit) performs the operation before it
/// returns, and [`poll`](StorageIo::poll) hands out what it has queued. Writes
/// that were [queued](StorageIo::queue) and follow each other in a file are
/// performed by one call, and so with one sync.
///
/// An error of the operation is in its completion, never in what `submit`
/// returns; `submit` refuses only a write that breaks the rules of
/// [`Operation::Write`]. Writes are never short: they go on until all is
/// written or an error ends them.
#[derive(Debug, Default)]
pub struct BlockingIo {
    next_token: u64,
    queued: Vec<Queued>,
    completed: Vec<Completion>,
}

/// Most writes that wait, and so of one call. (`IOV_MAX` is 1,024.)
const TOGETHER_MAX: usize = 64;

/// Performs an operation by plain system calls. The error is that of a write
/// that breaks the rules; how the operation ended is in the completion.
pub(super) fn perform(operation: Operation<OsFile>, token: Token) -> io::Result<Completion> {
    match operation {
        Operation::Write { file, offset, buffer, range, data_sync } => {
            write::check(offset, &buffer, &range)?;
            let written = range.len();
            let (_, result) = file.write_at(offset, &mut [IoSlice::new(&buffer[range])], data_sync);
            Ok(Completion { token, result: result.map(|()| written), buffer: Some(buffer) })
        }
        Operation::Sync { file } => Ok(Completion { token, result: file.sync_data().map(|()| 0), buffer: None }),
    }
}

/// How many of these, from the first on, go out by one call.
fn together(queued: &[Queued]) -> usize {
    1 + queued.windows(2).take_while(|pair| pair[0].leads_to(&pair[1])).count()
}

impl BlockingIo {
    /// Performs what is queued: what follows each other in a file by one call.
    /// Those that an error leaves unwritten complete with it.
    fn write_queued(&mut self) {
        while let Some(Queued { file, offset, data_sync, .. }) = self.queued.first() {
            let count = together(&self.queued);
            let mut parts = [IoSlice::new(&[]); TOGETHER_MAX];
            for (part, write) in parts.iter_mut().zip(&self.queued[..count]) {
                *part = IoSlice::new(&write.buffer[write.range.clone()]);
            }
            let (mut done, result) = file.write_at(*offset, &mut parts[..count], *data_sync);
            self.completed.extend(self.queued.drain(..count).map(|write| write.complete(&mut done, &result)));
        }
    }
}

impl StorageIo for BlockingIo {
    type File = OsFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        AlignedBuf::new(capacity)
    }

    fn submit(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        self.write_queued();
        let token = Token(self.next_token);
        self.completed.push(perform(operation, token)?);
        self.next_token += 1;
        Ok(token)
    }

    fn queue(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        let Operation::Write { file, offset, buffer, range, data_sync } = operation else {
            return self.submit(operation);
        };
        write::check(offset, &buffer, &range)?;
        if self.queued.len() == TOGETHER_MAX {
            self.write_queued();
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        self.queued.push(Queued { token, file, offset, buffer, range, data_sync });
        Ok(token)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.write_queued();
        Ok(())
    }

    fn poll(&mut self, _wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.write_queued();
        completions.append(&mut self.completed);
        assert_eq!(self.in_flight(), 0);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.queued.len() + self.completed.len()
    }
}

impl Drop for BlockingIo {
    fn drop(&mut self) {
        self.write_queued();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCK_SIZE, Backend, FileStorage, OpenMode, Storage as _};

    const COUNT: usize = TOGETHER_MAX + 20;

    fn queue(io: &mut BlockingIo, file: &OsFile, number: usize, data_sync: bool) {
        let mut buffer = io.buffer(2 * BLOCK_SIZE);
        buffer.fill(u8::try_from(number).unwrap() + 1);
        let (offset, range) = ((number * BLOCK_SIZE) as u64, BLOCK_SIZE..2 * BLOCK_SIZE);
        let token = io.queue(Operation::Write { file: file.clone(), offset, buffer, range, data_sync }).unwrap();
        assert_eq!(token, Token(number as u64));
    }

    #[test]
    fn writes_that_follow_each_other_go_out_together_and_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::new().backend(Backend::Blocking);
        let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
        let mut io = BlockingIo::default();
        let mut completions = Vec::new();
        for number in 0..COUNT {
            queue(&mut io, &file, number, number % 30 < 20);
        }
        // No more than the system takes in a call.
        assert_eq!(file.len().unwrap(), (TOGETHER_MAX * BLOCK_SIZE) as u64);
        // Numbers 64 to 79 are to be durable, the four behind them, from 80 on, not.
        assert_eq!((together(&io.queued), together(&io.queued[16..]), io.queued.len()), (16, 4, 20));
        io.begin().unwrap();
        assert_eq!(file.len().unwrap(), (COUNT * BLOCK_SIZE) as u64);
        assert_eq!(io.in_flight(), COUNT);
        io.poll(Wait::No, &mut completions).unwrap();
        for (done, number) in completions.iter().zip(0..) {
            assert_eq!((done.token, done.result.as_ref().unwrap()), (Token(number), &BLOCK_SIZE));
            assert!(done.buffer.as_ref().unwrap().iter().all(|&byte| u64::from(byte) == number + 1));
        }
        assert_eq!((completions.len(), io.in_flight()), (COUNT, 0));
        let mut found = vec![0; COUNT * BLOCK_SIZE];
        file.read_at(0, &mut found).unwrap();
        assert!(found.chunks(BLOCK_SIZE).zip(1..).all(|(block, number)| block.iter().all(|&byte| byte == number)));
    }

    /// None of them is said to be written.
    #[test]
    fn a_failure_is_that_of_each_write_that_it_kept_from_the_medium() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let storage = FileStorage::new().backend(Backend::Blocking);
        let file = storage.open(&path, OpenMode::CreateNew).unwrap();
        let read_only = storage.open(&path, OpenMode::Read).unwrap();
        let mut io = BlockingIo::default();
        let mut completions = Vec::new();
        for number in 0..9 {
            queue(&mut io, if number / 3 == 1 { &read_only } else { &file }, number, true);
        }
        io.poll(Wait::No, &mut completions).unwrap();
        let failed: Vec<_> = completions.iter().map(|done| done.result.is_err()).collect();
        assert_eq!(failed, [false, false, false, true, true, true, false, false, false]);
        let numbers = completions[3..6].iter().map(|done| done.result.as_ref().unwrap_err().raw_os_error());
        assert!(
            numbers
                .into_iter()
                .all(|number| number.is_some() && number == completions[3].result.as_ref().unwrap_err().raw_os_error())
        );
    }
}
