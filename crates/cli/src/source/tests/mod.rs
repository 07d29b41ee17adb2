//! Tests of reading: what is a record, where it ends, and going on from there.

mod csv;
mod files;
mod ndjson;
mod resume;

use std::io::{self, Read};

use super::*;
use crate::exit::Failure;

/// A step, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Key and value, or the reason and the raw bytes.
    pub(super) what: Result<(String, String), (String, Vec<u8>)>,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Seen {
    pub(super) fn key(&self) -> &str {
        &self.what.as_ref().unwrap().0
    }

    pub(super) fn value(&self) -> &str {
        &self.what.as_ref().unwrap().1
    }

    pub(super) fn reason(&self) -> &str {
        &self.what.as_ref().unwrap_err().0
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.what.as_ref().unwrap_err().1
    }
}

pub(super) fn options(format: Format, key: Option<&str>, number: Option<&str>) -> Options {
    let pick = Pick { key: key.map(Into::into), number: number.map(Into::into), whole: number.is_none() };
    Options { format, follow: false, pick, limit: MAX_RECORD }
}

/// Gives its bytes in pieces of at most `piece`.
pub(super) struct Pieces {
    pub(super) data: io::Cursor<Vec<u8>>,
    pub(super) piece: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.piece);
        self.data.read(&mut buffer[..count])
    }
}

pub(super) fn pieces(data: &[u8], piece: usize) -> Box<Pieces> {
    Box::new(Pieces { data: io::Cursor::new(data.to_vec()), piece })
}

/// Has nothing to read yet before each of its pieces.
struct Hesitant {
    pieces: Box<Pieces>,
    ready: bool,
}

impl Read for Hesitant {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ready = !self.ready;
        if self.ready { Err(io::ErrorKind::WouldBlock.into()) } else { self.pieces.read(buffer) }
    }
}

pub(super) fn hesitant(data: &[u8], piece: usize) -> Box<dyn Read + Send> {
    Box::new(Hesitant { pieces: pieces(data, piece), ready: false })
}

/// Everything until there is no more for now.
pub(super) fn drain(source: &mut Source) -> Result<Vec<Seen>, Failure> {
    drain_until(source, |step| matches!(step, Step::Pending | Step::End))
}

/// Everything until the end, however often there is nothing yet.
pub(super) fn drain_to_end(source: &mut Source) -> Result<Vec<Seen>, Failure> {
    drain_until(source, |step| matches!(step, Step::End))
}

fn drain_until(source: &mut Source, done: impl Fn(&Step<'_>) -> bool) -> Result<Vec<Seen>, Failure> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all: Vec<Seen> = Vec::new();
    loop {
        let step = source.next()?;
        if done(&step) {
            return Ok(all);
        }
        let (what, place) = match step {
            Step::Record(record) => (Ok((text(record.key), text(record.value))), record.place),
            Step::Rejected(rejected) => (Err((rejected.reason, rejected.raw.to_vec())), rejected.place),
            Step::Pending | Step::End => continue,
        };
        if let Some(before) = all.last() {
            assert!(before.end <= place.start, "{before:?} overlaps {place:?}");
        }
        all.push(Seen { what, start: place.start, end: place.end });
    }
}

pub(super) fn read(data: &[u8], options: &Options) -> Vec<Seen> {
    let whole = drain(&mut Source::from_stream(pieces(data, usize::MAX), "test", None, options).unwrap()).unwrap();
    for piece in [1, 2, 7] {
        let again = drain(&mut Source::from_stream(pieces(data, piece), "test", None, options).unwrap()).unwrap();
        assert_eq!(again, whole, "in pieces of {piece}");
        let mut source = Source::from_stream(hesitant(data, piece), "test", None, options).unwrap();
        assert_eq!(drain_to_end(&mut source).unwrap(), whole, "hesitantly in pieces of {piece}");
    }
    whole
}
