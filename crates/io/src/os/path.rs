//! The write path of one core on real files: by a ring or by plain calls.

use std::io;

use super::{BlockingIo, OsFile};
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait};

/// The write path that [`FileStorage::io`](crate::Storage::io) makes.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileIo {
    /// By `io_uring(7)`.
    #[cfg(target_os = "linux")]
    Uring(super::UringIo),
    /// By plain system calls.
    Blocking(BlockingIo),
}

/// Calls the method of whichever it is.
macro_rules! whichever {
    ($path:expr, $io:ident => $call:expr) => {
        match $path {
            #[cfg(target_os = "linux")]
            FileIo::Uring($io) => $call,
            FileIo::Blocking($io) => $call,
        }
    };
}

impl StorageIo for FileIo {
    type File = OsFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        whichever!(self, io => io.buffer(capacity))
    }

    fn submit(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        whichever!(self, io => io.submit(operation))
    }

    fn queue(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        whichever!(self, io => io.queue(operation))
    }

    fn begin(&mut self) -> io::Result<()> {
        whichever!(self, io => io.begin())
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        whichever!(self, io => io.poll(wait, completions))
    }

    fn in_flight(&self) -> usize {
        whichever!(self, io => io.in_flight())
    }

    fn perform(&mut self, operation: Operation<OsFile>) -> io::Result<Completion> {
        whichever!(self, io => io.perform(operation))
    }

    #[cfg(unix)]
    fn event_fd(&mut self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        whichever!(self, io => io.event_fd())
    }
}
