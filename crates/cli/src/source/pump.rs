//! A stream read on a thread of its own.
//!
//! A read from a pipe or terminal blocks for as long as its writer likes. The
//! one who waits for records must still end epochs, see Ctrl-C and hear of a
//! failed core; so the blocking read is done elsewhere, and here one waits a
//! moment only and then says `WouldBlock`.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// How much one read asks for. A pipe holds 64 KiB unless told otherwise.
const CHUNK: usize = 256 << 10;
/// Chunks on their way, so that neither side waits for the other at once.
const CHUNKS: usize = 4;
/// How long a read waits before it says that there is nothing yet.
const PATIENCE: Duration = Duration::from_millis(20);

/// The reading end of the thread that reads.
pub(super) struct Pump {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    /// How much of `chunk` has been handed out.
    used: usize,
}

impl Pump {
    /// Starts to read. The thread ends with its input; if it blocks there for
    /// good, it ends with the process.
    pub(super) fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (full_in, full) = bounded(CHUNKS);
        let (empty, empty_out) = bounded(CHUNKS + 1);
        thread::Builder::new().name("input".into()).spawn(move || read_on(input, &full_in, &empty_out))?;
        Ok(Self { full, empty, chunk: Vec::new(), used: 0 })
    }
}

fn read_on(mut input: impl Read, full: &Sender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        chunk.resize(CHUNK, 0);
        let read = match input.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Somebody else who shares the pipe has made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(PATIENCE);
                continue;
            }
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        if full.send(read).is_err() || failed {
            return;
        }
    }
}

impl Read for Pump {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            let chunk = match self.full.recv_timeout(PATIENCE) {
                Ok(chunk) => chunk?,
                Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            };
            // No room for it there means that there are enough.
            let _ = self.empty.try_send(std::mem::replace(&mut self.chunk, chunk));
            self.used = 0;
        }
        let count = buffer.len().min(self.chunk.len() - self.used);
        buffer[..count].copy_from_slice(&self.chunk[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Gives what is sent, piece by piece, and blocks in between.
    struct Fed(Receiver<Vec<u8>>);

    impl Read for Fed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Ok(piece) = self.0.recv() else { return Ok(0) };
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn all_bytes_come_through_in_order() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut pump = Pump::start(Cursor::new(data.clone())).unwrap();
        let mut read = Vec::new();
        pump.read_to_end(&mut read).unwrap();
        assert!(read == data);
        assert_eq!(pump.read(&mut [0]).unwrap(), 0, "the end stays the end");
    }

    #[test]
    fn a_silent_stream_would_block_and_goes_on_later() {
        let (feed, fed) = bounded(1);
        let mut pump = Pump::start(Fed(fed)).unwrap();
        let mut buffer = [0; 8];
        for piece in [&b"one"[..], b"two"] {
            assert_eq!(pump.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            feed.send(piece.to_vec()).unwrap();
            let count = loop {
                match pump.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read.unwrap(),
                }
            };
            assert_eq!(&buffer[..count], piece);
        }
        drop(feed);
        let end = loop {
            match pump.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read.unwrap(),
            }
        };
        assert_eq!(end, 0);
    }
}
