//! CSV: a header line, then records. Quoted fields may hold anything.
//!
//! Parsing is csv-core's; here are the offsets, the limits and what happens
//! after a quote that is never closed: the line it stands in is rejected, and
//! reading goes on with the next line instead of losing all that follows.

use csv_core::ReadRecordResult;

use super::skip::Skip;
use super::window::Window;
use super::{Fields, Found, MAX_RECORD, Pick, Trouble, check_length, key_trouble, number_trouble, shorten};
use crate::exit::Failure;
use crate::number::Number;

/// Splits records and picks their fields.
pub(super) struct Reader {
    pick: Pick,
    header: Option<Header>,
    record: Fieldset,
    /// How many of the window's bytes the parser has seen.
    fed: usize,
    /// The record is parsed, and what follows its carriage return is awaited.
    taking: bool,
    json: Vec<u8>,
    skip: Option<Skip>,
    skipping: bool,
}

impl Reader {
    pub(super) fn new(pick: Pick) -> Self {
        Self {
            pick,
            header: None,
            record: Fieldset::new(),
            fed: 0,
            taking: false,
            json: Vec::new(),
            skip: None,
            skipping: false,
        }
    }

    /// Reads the header, if it was not read and is there.
    pub(super) fn pass_header(
        &mut self,
        window: &mut Window,
        last: bool,
        limit: usize,
        name: &str,
    ) -> Result<bool, Failure> {
        if self.header.is_some() {
            return Ok(true);
        }
        match self.split(window, last, limit)? {
            Found::Pending | Found::End => Ok(false),
            Found::Record(_) => {
                self.header = Some(Header::new(&self.record, &self.pick, name)?);
                Ok(true)
            }
            Found::Broken(_) | Found::Skipped => Err(Failure::data(format!(
                "{name} has no header line that can be read: a quote in it is not closed, or it is longer than {limit} bytes"
            ))),
        }
    }

    /// The next record, the header apart. `last` says that the end of the bytes
    /// is the end of the input, so that it ends a record too.
    pub(super) fn find(&mut self, window: &mut Window, last: bool, limit: usize, name: &str) -> Result<Found, Failure> {
        if !self.pass_header(window, last, limit, name)? {
            return Ok(if last { Found::End } else { Found::Pending });
        }
        self.split(window, last, limit)
    }

    /// The overlong line that was found last.
    pub(super) fn skip(&self) -> &Skip {
        self.skip.as_ref().expect("asked for only after it was found")
    }

    /// The key and value of the record that was found last.
    pub(super) fn fields(&mut self) -> Result<Fields<'_>, Trouble> {
        let header = self.header.as_ref().expect("no record is found before the header");
        let count = self.record.count();
        if count != header.names.len() {
            return Err(Trouble(format!("{count} fields where the header has {}", header.names.len())));
        }
        let text = self.record.text().ok_or_else(|| Trouble("not UTF-8".to_owned()))?;
        let field = |at: usize| &text[self.record.range(at)];

        let whole = header.key.is_none() || (header.number.is_none() && self.pick.whole);
        if whole {
            self.json.clear();
            for (at, label) in header.labels.iter().enumerate() {
                self.json.extend_from_slice(label);
                serde_json::to_writer(&mut self.json, field(at)).expect("a string always becomes JSON");
            }
            self.json.push(b'}');
        }
        let key = match header.key {
            None => check_length(&self.json, None)?,
            Some(at) if field(at).is_empty() => return Err(key_trouble(&header.names[at], "empty")),
            Some(at) => check_length(field(at).as_bytes(), Some(&header.names[at]))?,
        };
        let value = match header.number {
            Some(at) => {
                let number = field(at).trim_ascii();
                if Number::parse(number.as_bytes()).is_none() {
                    return Err(number_trouble(
                        &header.names[at],
                        &format!("not a finite number: \"{}\"", shorten(field(at))),
                    ));
                }
                number.as_bytes()
            }
            // Names and quotes make the JSON longer than the record.
            None if self.pick.whole && self.json.len() > MAX_RECORD => {
                return Err(Trouble(format!("as JSON it has {} bytes, more than {MAX_RECORD}", self.json.len())));
            }
            None if self.pick.whole => &self.json,
            None => b"",
        };
        Ok(Fields { key, value })
    }

    fn split(&mut self, window: &mut Window, last: bool, limit: usize) -> Result<Found, Failure> {
        loop {
            if self.skipping {
                if self.pass(window) || (window.fill()? == 0 && last) {
                    self.skipping = false;
                    return Ok(Found::Skipped);
                }
                if window.bytes().is_empty() {
                    return Ok(Found::Pending);
                }
                continue;
            }
            if self.taking {
                return Ok(self.take(window)?);
            }
            if self.fed == 0 {
                // Newlines before a record are blank lines, or the second half
                // of a CR LF: not part of it.
                let blank = window.bytes().iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
                window.consume(blank);
            }
            let unseen = &window.bytes()[self.fed..];
            if !unseen.is_empty() {
                let (seen, whole) = self.record.feed(unseen);
                self.fed += seen;
                if self.fed > limit {
                    if let Some(found) = self.give_up(window, limit) {
                        return Ok(found);
                    }
                } else if whole {
                    return Ok(self.take(window)?);
                }
            } else if window.fill()? == 0 {
                if !last {
                    return Ok(Found::Pending);
                }
                if window.bytes().is_empty() {
                    return Ok(Found::End);
                }
                // The end of the input ends the last record, as a newline
                // would; but inside quotes neither does.
                if self.record.feed(b"\n").1 {
                    return Ok(self.take(window)?);
                }
                if let Some(found) = self.give_up(window, limit) {
                    return Ok(found);
                }
            }
        }
    }

    /// Moves past the record just parsed, and the LF of its CR LF.
    fn take(&mut self, window: &mut Window) -> std::io::Result<Found> {
        let mut length = self.fed;
        if window.bytes()[length - 1] == b'\r' {
            if window.bytes().len() == length {
                self.taking = true;
                window.fill()?;
            }
            length += usize::from(window.bytes().get(length) == Some(&b'\n'));
        }
        (self.fed, self.taking) = (0, false);
        window.consume(length);
        Ok(Found::Record(length))
    }

    /// The record is too long, or its quote is not closed: moves past its
    /// first line only. A first line that is itself too long is skipped.
    fn give_up(&mut self, window: &mut Window, limit: usize) -> Option<Found> {
        self.record.reset();
        self.fed = 0;
        let bytes = window.bytes();
        let length = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        if length > limit {
            self.skip = Some(Skip::new(window, limit));
            self.skipping = true;
            return None;
        }
        window.consume(length);
        Some(Found::Broken(length))
    }

    fn pass(&mut self, window: &mut Window) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.advance(window))
    }
}

/// The names of the columns.
struct Header {
    names: Vec<String>,
    /// What stands before each value in the JSON form: `{"a":`, `,"b":`.
    labels: Vec<Vec<u8>>,
    key: Option<usize>,
    number: Option<usize>,
}

impl Header {
    fn new(record: &Fieldset, pick: &Pick, source: &str) -> Result<Self, Failure> {
        let text = record.text().ok_or_else(|| Failure::data(format!("{source}: the header line is not UTF-8")))?;
        let names: Vec<String> = (0..record.count()).map(|at| text[record.range(at)].to_owned()).collect();
        let mut labels = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let mut label = vec![if at == 0 { b'{' } else { b',' }];
            serde_json::to_writer(&mut label, name)?;
            label.push(b':');
            labels.push(label);
        }
        let find = |wanted: &Option<String>| wanted.as_ref().map(|wanted| column(&names, wanted, source)).transpose();
        let (key, number) = (find(&pick.key)?, find(&pick.number)?);
        Ok(Self { names, labels, key, number })
    }
}

fn column(names: &[String], wanted: &str, source: &str) -> Result<usize, Failure> {
    let mut hits = (0..names.len()).filter(|at| names[*at] == wanted);
    match (hits.next(), hits.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("{source} has more than one column `{wanted}`: give them different names")))
        }
        (None, _) => {
            let names = names.join(", ");
            Err(Failure::usage(format!("{source} has no column `{wanted}`; its columns are {}", shorten_list(&names))))
        }
    }
}

/// A list for a message: cut where nobody reads on.
fn shorten_list(list: &str) -> String {
    match list.char_indices().nth(400) {
        Some((at, _)) => format!("{} …", &list[..at]),
        None => list.to_owned(),
    }
}

/// One record being parsed: the parser and the fields it has written.
struct Fieldset {
    parser: csv_core::Reader,
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
    text_used: usize,
    ends_used: usize,
    /// The fields are those of a whole record: the next byte begins another.
    whole: bool,
}

impl Fieldset {
    fn new() -> Self {
        let mut new = Self {
            parser: csv_core::Reader::new(),
            text: vec![0; 1024],
            ends: vec![0; 64],
            text_used: 0,
            ends_used: 0,
            whole: false,
        };
        new.reset();
        new
    }

    /// Forgets what was parsed of a record.
    fn reset(&mut self) {
        self.parser.reset();
        // The parser drops a byte order mark from the first bytes it sees, and
        // those may lie anywhere in a file. A newline is nothing to it.
        self.parser.read_record(b"\n", &mut [0], &mut [0]);
        (self.text_used, self.ends_used, self.whole) = (0, 0, false);
    }

    /// Parses up to the end of the record or of `input` (which must not be
    /// empty). Gives how many bytes were used and whether the record is whole.
    fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        if self.whole {
            (self.text_used, self.ends_used, self.whole) = (0, 0, false);
        }
        let mut used = 0;
        while used < input.len() {
            let (result, seen, text, ends) = self.parser.read_record(
                &input[used..],
                &mut self.text[self.text_used..],
                &mut self.ends[self.ends_used..],
            );
            used += seen;
            self.text_used += text;
            self.ends_used += ends;
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.whole = true;
                    break;
                }
            }
        }
        (used, self.whole)
    }

    fn count(&self) -> usize {
        self.ends_used
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start..self.ends[at]
    }

    /// All fields' text in one, if each of them is UTF-8.
    fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.text[..self.text_used]).ok()?;
        // A character must not begin in one field and end in the next.
        self.ends[..self.ends_used].iter().all(|end| text.is_char_boundary(*end)).then_some(text)
    }
}
