//! A moving window over an input: the bytes read and not yet consumed, and
//! where in the input they lie.

use std::io::{self, Read};

use super::fingerprint::PREFIX;

/// How much one read asks for, and the room that is made for it.
const CHUNK: usize = 1 << 20;

/// The window. Its memory is bounded by what its users leave unconsumed, which
/// is at most one record and its limit.
pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The unconsumed bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Input offset of `buffer[start]`.
    offset: u64,
    /// The first bytes of the input, for its fingerprint.
    head: Vec<u8>,
}

impl Window {
    /// A window at the beginning of an input.
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self::resumed(input, 0, Vec::new())
    }

    /// A window over an input that stands at `offset`, after `head` was read
    /// from its beginning: all before `offset`, or its first [`PREFIX`] bytes.
    pub(super) fn resumed(input: Box<dyn Read + Send>, offset: u64, head: Vec<u8>) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, offset, head }
    }

    /// The bytes read and not yet consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The input offset of the first unconsumed byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The input offset just after the last byte read.
    pub(super) fn read_up_to(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// The first bytes of the input, at most [`PREFIX`], as far as read.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Moves past the first `count` unconsumed bytes. Their memory stays as it
    /// is until the next [`Window::fill`]: see [`Window::consumed`].
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// The last `count` bytes that were consumed.
    pub(super) fn consumed(&self, count: usize) -> &[u8] {
        &self.buffer[self.start - count..self.start]
    }

    /// Reads more behind the unconsumed bytes. 0 is the end of the input, for
    /// now at least.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        self.make_room();
        let count = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if self.head.len() < PREFIX {
            debug_assert_eq!(self.read_up_to(), self.head.len() as u64);
            let wanted = count.min(PREFIX - self.head.len());
            self.head.extend_from_slice(&self.buffer[self.end..self.end + wanted]);
        }
        self.end += count;
        Ok(count)
    }

    /// Leaves at least one chunk of room behind the unconsumed bytes.
    fn make_room(&mut self) {
        if self.buffer.len() - self.end >= CHUNK {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() - self.end < CHUNK {
            // Doubling: a long record is not copied once for every chunk. Zeros
            // that the system gives cost nothing until they are used.
            let mut larger = vec![0; (self.end + CHUNK).max(self.buffer.len() * 2)];
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn it_moves_over_the_input_and_remembers_its_head() {
        let data: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut window = Window::new(Box::new(Cursor::new(data.clone())));
        let mut at = 0;
        loop {
            let count = window.bytes().len().min(700_001);
            assert_eq!(window.offset(), at as u64);
            assert_eq!(window.bytes(), &data[at..at + window.bytes().len()]);
            window.consume(count);
            assert_eq!(window.consumed(count), &data[at..at + count]);
            at += count;
            if window.fill().unwrap() == 0 && window.bytes().is_empty() {
                break;
            }
        }
        assert_eq!(at, data.len());
        assert_eq!(window.head(), &data[..PREFIX]);
        assert!(window.buffer.len() <= 4 * CHUNK, "{}", window.buffer.len());
    }

    #[test]
    fn a_short_head_grows_as_the_input_does() {
        let mut window = Window::resumed(Box::new(Cursor::new(b"cd".to_vec())), 2, b"ab".to_vec());
        window.fill().unwrap();
        assert_eq!(window.head(), b"abcd");
        assert_eq!(window.read_up_to(), 4);
    }
}
