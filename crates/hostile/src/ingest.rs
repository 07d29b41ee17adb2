//! The parsers of `corewal ingest`.
//!
//! The first bytes say how an input is read; the others are the input.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::bound::within;
use crate::exit::Failure;
use crate::input::{Input, is_set};
use crate::number::Number;
use crate::reduce::Reduce;
use crate::source::{Format, MAX_KEY, Options, Pick, Resume, Source, Step};
use crate::{Outcome, Seed};

const CSV: u8 = 1;
const KEY: u8 = 2;
const NUMBER: u8 = 4;
const WHOLE: u8 = 8;
/// Records may be no longer than the next byte says.
const LIMITED: u8 = 16;

/// Beginning anew at each record takes time: so many ends are tried.
const RESUMED: usize = 4;

/// A key and a value.
type Pair = (Vec<u8>, Vec<u8>);

/// A reason, the raw bytes, and whether there are more of them.
type Unread = (String, Vec<u8>, bool);

/// A step, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    what: Result<Pair, Unread>,
    start: u64,
    end: u64,
}

pub(crate) fn check(input: &[u8]) -> Outcome {
    let mut input = Input(input);
    let (mode, limit, piece) = (input.u8(), input.u8(), usize::from(input.u8()).max(1));
    let data = input.0;
    let field = |bit, name: &str| is_set(mode, bit).then(|| name.to_owned());
    let options = Options {
        format: if is_set(mode, CSV) { Format::Csv } else { Format::Ndjson },
        follow: false,
        pick: Pick { key: field(KEY, "k"), number: field(NUMBER, "n"), whole: is_set(mode, WHOLE) },
        limit: if is_set(mode, LIMITED) { usize::from(limit).max(1) } else { 1 << 16 },
    };
    let whole = read(data, usize::MAX, None, &options);
    // However the bytes arrive, they are the same records, or the same error.
    for piece in [piece, piece % 7 + 1] {
        let pieces = read(data, piece, None, &options);
        assert_eq!(told(&pieces), told(&whole), "in pieces of {piece}");
    }
    let Ok((source, all)) = whole else { return Outcome::Refused };
    for (at, seen) in all.iter().enumerate() {
        judge(seen, all.get(at.wrapping_sub(1)), data, &options);
    }
    fold(&all, &options);
    let step = all.len().div_ceil(RESUMED).max(1);
    for (at, seen) in all.iter().enumerate().step_by(step) {
        let resume = Resume { position: seen.end, fingerprint: source.fingerprint(seen.end) };
        let rest = read(data, piece, Some(&resume), &options).map(|(_, rest)| rest);
        let rest = rest.unwrap_or_else(|failure| panic!("after {seen:?}: {failure}"));
        assert_eq!(rest, all[at + 1..], "after {seen:?}");
    }
    if all.iter().any(|seen| seen.what.is_ok()) { Outcome::Taken } else { Outcome::Refused }
}

/// What can be compared of a reading.
fn told(reading: &Result<(Source, Vec<Seen>), Failure>) -> Result<&[Seen], String> {
    reading.as_ref().map(|(_, all)| all.as_slice()).map_err(ToString::to_string)
}

/// Gives its bytes piece by piece, and before each has nothing to read yet.
struct Pieces {
    data: io::Cursor<Vec<u8>>,
    piece: usize,
    hesitates: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.hesitates = !self.hesitates && self.piece < usize::MAX;
        if self.hesitates {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.piece);
        self.data.read(&mut buffer[..count])
    }
}

fn read(data: &[u8], piece: usize, resume: Option<&Resume>, options: &Options) -> Result<(Source, Vec<Seen>), Failure> {
    within(data.len(), "reading", || {
        let input = Pieces { data: io::Cursor::new(data.to_vec()), piece, hesitates: false };
        let mut source = Source::from_stream(Box::new(input), "input", resume, options)?;
        let mut all = Vec::new();
        loop {
            let (what, place) = match source.next()? {
                Step::End => break,
                Step::Pending => continue,
                Step::Record(record) => (Ok((record.key.to_vec(), record.value.to_vec())), record.place),
                Step::Rejected(rejected) => {
                    (Err((rejected.reason, rejected.raw.to_vec(), rejected.truncated)), rejected.place)
                }
            };
            all.push(Seen { what, start: place.start, end: place.end });
        }
        Ok((source, all))
    })
}

/// Holds one record to the bytes that it was read from.
fn judge(seen: &Seen, before: Option<&Seen>, data: &[u8], options: &Options) {
    assert!(seen.start < seen.end && seen.end <= data.len() as u64, "{seen:?}");
    assert!(before.is_none_or(|before| before.end <= seen.start), "{before:?} {seen:?}");
    let bytes = &data[seen.start as usize..seen.end as usize];
    match &seen.what {
        Ok((key, value)) => {
            assert!(!key.is_empty() && key.len() <= MAX_KEY, "{seen:?}");
            if options.pick.number.is_some() {
                number_reads_back(value);
            }
            match options.format {
                Format::Ndjson => judge_line(key, value, bytes, options),
                // A record that is whole becomes an object.
                Format::Csv if options.pick.key.is_none() => assert_is_object(key),
                Format::Csv if options.pick.number.is_none() && options.pick.whole => assert_is_object(value),
                Format::Csv => {}
            }
        }
        Err((reason, raw, truncated)) => {
            assert!(!reason.is_empty() && bytes.starts_with(raw), "{seen:?}");
            // Nothing is passed over unseen but the end of the line.
            let rest = &bytes[raw.len()..];
            assert!(*truncated || rest.iter().all(|byte| matches!(byte, b'\n' | b'\r')), "{seen:?}");
        }
    }
}

/// The key and the value, as another reader of JSON finds them.
fn judge_line(key: &[u8], value: &[u8], line: &[u8], options: &Options) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match options.pick.key.as_ref() {
        None => assert_eq!(key, line),
        Some(name) => {
            // A field that holds half a surrogate pair is no key, but no other
            // reader takes the line.
            if let Ok(object) = serde_json::from_slice::<serde_json::Map<_, _>>(line) {
                match &object[name] {
                    serde_json::Value::String(text) => assert_eq!(key, text.as_bytes()),
                    serde_json::Value::Bool(truth) => assert_eq!(key, truth.to_string().as_bytes()),
                    other => assert!(other.is_number(), "{other}"),
                }
            }
        }
    }
    if options.pick.number.is_none() {
        assert_eq!(value, if options.pick.whole { line } else { b"" });
    }
}

fn assert_is_object(text: &[u8]) {
    // Names may come twice: all columns count, and a map would keep the last.
    let read: Result<BTreeMap<String, String>, _> = serde_json::from_slice(text);
    assert!(read.is_ok(), "{}", String::from_utf8_lossy(text));
}

fn number_reads_back(text: &[u8]) {
    let number = Number::parse(text).unwrap_or_else(|| panic!("{} was taken for a number", text.escape_ascii()));
    let mut once = Vec::new();
    number.write(&mut once);
    let mut twice = Vec::new();
    Number::parse(&once).expect("what is written is a number").write(&mut twice);
    assert_eq!(once, twice, "{}", text.escape_ascii());
}

/// All reductions take what the parsers give, and keep what they can read.
fn fold(all: &[Seen], options: &Options) {
    let numeric = [Reduce::Sum("n".into()), Reduce::Min("n".into()), Reduce::Max("n".into())];
    let reductions = if options.pick.number.is_some() { &numeric[..] } else { &[Reduce::Count, Reduce::Last] };
    for reduce in reductions {
        let mut kept: Option<Vec<u8>> = None;
        for (_, value) in all.iter().filter_map(|seen| seen.what.as_ref().ok()) {
            let mut new = Vec::new();
            reduce.fold(kept.as_deref(), value, &mut new).expect("it takes what it has made");
            kept = Some(new);
        }
        if let Some(kept) = kept.filter(|_| *reduce != Reduce::Last) {
            number_reads_back(&kept);
        }
    }
}

pub(crate) fn seeds() -> Vec<Seed> {
    let seed = |mode: u8, limit: u8, piece: u8, text: &str| [&[mode, limit, piece][..], text.as_bytes()].concat();
    let lines = "{\"k\":\"a\",\"n\":1}\r\n{\"n\":2.5e3,\"k\":true,\"x\":[1,{\"k\":2}]}\n\n{\"k\":\"\\u00e9\\n\",\"n\":\"-7\"}\n\
                 nonsense\n{\"k\":null}\n{\"k\":3,\"k\":4,\"n\":99999999999999999999}";
    let table = "\u{feff}k,n,x\n1,2,\"x\ny\"\r\n\"q\"\"q\",-3.5,\n\r\nonly\n,4,5\né,+.5,\"open\n7,8,9\n";
    vec![
        ("lines", seed(KEY | WHOLE, 0, 3, lines)),
        ("lines_numbers", seed(KEY | NUMBER, 0, 1, lines)),
        ("lines_own_key", seed(0, 0, 200, lines)),
        ("lines_limited", seed(KEY | LIMITED, 20, 5, lines)),
        ("table", seed(CSV | KEY | WHOLE, 0, 3, table)),
        ("table_numbers", seed(CSV | KEY | NUMBER, 0, 1, table)),
        ("table_own_key", seed(CSV, 0, 200, table)),
        ("no_such_column", seed(CSV | KEY, 0, 2, "a,b\n1,2\n")),
        ("table_limited", seed(CSV | KEY | LIMITED, 9, 5, table)),
    ]
}
