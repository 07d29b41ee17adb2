//! A connection as Timely's threads see it: one that does not break.
//!
//! Where a connection breaks, Timely's threads panic, and so do all workers
//! wherever they stand. And where a process gives up, its connections end as if
//! it had come to its end, and the others wait for ever. Here a broken
//! connection stops the process, without a panic, and one that stops breaks its
//! connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use timely::communication::allocator::zero_copy::stream::Stream;

use crate::durable::Stop;
use crate::error::Error;

/// Bytes of the message by which Timely says that nothing follows: a header of
/// zeros.
const LAST: usize = 48;

/// One direction, or both, of a connection to another process.
pub(crate) struct Wire {
    stream: TcpStream,
    stop: Arc<Stop>,
    /// How many of the bytes that were read last are zero.
    zeros: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, stop: Arc<Stop>) -> Self {
        Self { stream, stop, zeros: 0 }
    }

    /// Stops the process, and keeps the thread from going on: what it would do
    /// is to panic.
    fn lost(&self) -> ! {
        self.stop.stop(Error::Lost);
        // The others learn of it by theirs.
        let _ = self.stream.shutdown(Shutdown::Both);
        loop {
            std::thread::park();
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) if read > 0 => {
                    let zeros = buffer[..read].iter().rev().take_while(|&&byte| byte == 0).count();
                    self.zeros = if zeros == read { (self.zeros + zeros).min(LAST) } else { zeros };
                    return Ok(read);
                }
                // The other one has said that nothing follows.
                Ok(_) if self.zeros >= LAST => return Ok(0),
                _ => self.lost(),
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.is_stopped() {
            // Above all not that nothing follows.
            return Ok(bytes.len());
        }
        match self.stream.write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => self.lost(),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.stream.try_clone()?, Arc::clone(&self.stop)))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = if self.stop.is_stopped() { Shutdown::Both } else { how };
        // Where it is broken already, there is nothing to end.
        let _ = self.stream.shutdown(how);
        Ok(())
    }
}
