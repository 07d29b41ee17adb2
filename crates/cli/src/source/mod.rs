//! Where records come from: files and standard input, as NDJSON or CSV.
//!
//! A [`Source`] is opened at a byte offset and hands out records one by one,
//! each with the offset just after it. Opening at any of those offsets gives
//! exactly the records that were still to come; that, and nothing else, is
//! what counting each input record once rests on.

mod csv;
mod fingerprint;
mod input;
mod json;
mod ndjson;
mod pump;
mod skip;
mod window;

use std::path::Path;

pub(crate) use fingerprint::Fingerprint;
pub(crate) use input::Source;

/// The longest record taken. A longer one is rejected, and never in memory as
/// a whole.
pub(crate) const MAX_RECORD: usize = 16 << 20;
/// The longest key taken: what a store accepts.
pub(crate) const MAX_KEY: usize = 65_535;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line
    Ndjson,
    /// A header line, then records; quoted fields may hold commas and newlines
    Csv,
}

impl Format {
    /// Guesses from the name's extension; NDJSON where that says nothing.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("csv") => Self::Csv,
            _ => Self::Ndjson,
        }
    }
}

/// What to take from each record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pick {
    /// The field that is the key; without one the whole record is its own key.
    pub(crate) key: Option<String>,
    /// The field whose number becomes the record's value.
    pub(crate) number: Option<String>,
    /// Whether the whole record becomes its value, if there is no number.
    pub(crate) whole: bool,
}

/// How to read a source.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The format.
    pub(crate) format: Format,
    /// Whether the end of a file is only the end for now.
    pub(crate) follow: bool,
    /// What to take from each record.
    pub(crate) pick: Pick,
    /// The longest record in bytes: [`MAX_RECORD`], less in tests.
    pub(crate) limit: usize,
}

/// Where to go on, as it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The offset just after the last committed record.
    pub(crate) position: u64,
    /// The input's fingerprint for that offset.
    pub(crate) fingerprint: Fingerprint,
}

/// Where a record lies in its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number, counted from 1 where this reading began, rejected ones too.
    pub(crate) number: u64,
    /// The offset of its first byte.
    pub(crate) start: u64,
    /// The offset just after it and its newline: the one to commit.
    pub(crate) end: u64,
}

/// A record that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// The key's bytes: never empty, at most [`MAX_KEY`].
    pub(crate) key: &'a [u8],
    /// The number's text or the whole record as JSON, as [`Pick`] says; or
    /// nothing.
    pub(crate) value: &'a [u8],
    /// Where it lies.
    pub(crate) place: Place,
}

/// A record that can't be taken.
#[derive(Debug)]
pub(crate) struct Rejected<'a> {
    /// Why.
    pub(crate) reason: String,
    /// Its bytes as in the input, without the newline at its end.
    pub(crate) raw: &'a [u8],
    /// Whether `raw` is only the beginning of an overlong record.
    pub(crate) truncated: bool,
    /// Where it lies.
    pub(crate) place: Place,
}

/// What [`Source::next`] found.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A record.
    Record(Record<'a>),
    /// Something that is no record, or one without what was asked for.
    Rejected(Rejected<'a>),
    /// No whole record is there yet: ask again later. (A stream has waited a
    /// moment; a followed file has not.)
    Pending,
    /// The end of the input.
    End,
}

/// What a reader found and the window has moved past.
enum Found {
    /// A record in the last so many consumed bytes.
    Record(usize),
    /// A line in the last so many consumed bytes that is no record.
    Broken(usize),
    /// An overlong line: see the reader's `skip`.
    Skipped,
    /// The bytes ended, and not with a whole record.
    Pending,
    /// The bytes ended.
    End,
}

/// The fields that make a record's key and value.
struct Fields<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

/// Why a record is rejected.
#[derive(Debug)]
struct Trouble(String);

fn key_trouble(name: &str, what: &str) -> Trouble {
    Trouble(format!("key field `{name}` is {what}"))
}

fn number_trouble(name: &str, what: &str) -> Trouble {
    Trouble(format!("field `{name}` is {what}"))
}

/// Checks the length of a key: of the field `name`, or of the record itself.
fn check_length<'a>(key: &'a [u8], name: Option<&str>) -> Result<&'a [u8], Trouble> {
    if key.len() <= MAX_KEY {
        return Ok(key);
    }
    let length = key.len();
    Err(Trouble(match name {
        Some(name) => format!("key field `{name}` has {length} bytes, more than {MAX_KEY}"),
        None => {
            format!("the record is its own key and has {length} bytes, more than {MAX_KEY}; name a field with --key")
        }
    }))
}

/// At most the beginning of a text, for a message.
fn shorten(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests;
