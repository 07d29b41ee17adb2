//! The source itself: opening it where it stands and walking over it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use super::fingerprint::{self, Fingerprint};
use super::pump::Pump;
use super::window::Window;
use super::{Fields, Format, Found, Options, Place, Record, Rejected, Resume, Step, Trouble, csv, ndjson};
use crate::exit::Failure;

/// An input, read record by record.
pub(crate) struct Source {
    name: String,
    window: Window,
    reader: Reader,
    limit: usize,
    /// The file, if it is one that can grow: its end is not the end.
    followed: Option<File>,
    /// A stream's bytes up to here were committed earlier and are still to be
    /// moved past.
    committed: Option<Resume>,
    /// Nothing was read yet: a byte order mark may come first.
    fresh: bool,
    /// The byte before the first one read is no newline, so one must follow.
    open_line: bool,
    count: u64,
}

enum Reader {
    Ndjson(ndjson::Reader),
    Csv(Box<csv::Reader>),
}

impl Reader {
    /// In CSV a lone carriage return ends a record too.
    fn is_newline(&self, byte: u8) -> bool {
        byte == b'\n' || (byte == b'\r' && matches!(self, Self::Csv(_)))
    }
}

impl Source {
    /// Opens a file (or pipe) at its beginning, or where `resume` says.
    ///
    /// `name` is what messages call it. Everything that can be wrong with it as
    /// a whole is found here: it is absent, shorter or other than it was, or
    /// has no such columns.
    pub(crate) fn open(path: &Path, name: &str, resume: Option<&Resume>, options: &Options) -> Result<Self, Failure> {
        let trouble = || format!("can't read {name}");
        let mut file = File::open(path).map_err(|error| Failure::from(error).context(trouble()))?;
        let meta = file.metadata().map_err(|error| Failure::from(error).context(trouble()))?;
        if meta.is_dir() {
            return Err(Failure::data(format!("can't read {name}: it is a directory; name the files in it")));
        }
        if !meta.is_file() {
            // A pipe or device: no length, no way back.
            return Self::from_stream(Box::new(Pump::start(file)?), name, resume, options);
        }
        // An offset of 0 says no more than none.
        let Some(resume) = resume.filter(|resume| resume.position > 0) else {
            let followed = followed_file(&file, options, name)?;
            return Self::begin(Box::new(file), name, options, followed);
        };

        let mut head = vec![0; fingerprint::prefix_length(resume.position.min(meta.len()))];
        file.read_exact(&mut head).map_err(|error| Failure::from(error).context(trouble()))?;
        fingerprint::check(name, meta.len(), &head, resume)?;

        let mut source = Self::new(Box::new(io::empty()), name, options);
        source.reread_header(&mut file)?;
        let before = byte_before(&mut file, resume.position);
        let before = before.map_err(|error| Failure::from(error).context(trouble()))?;
        source.open_line = !source.reader.is_newline(before);
        source.fresh = false;
        source.followed = followed_file(&file, options, name)?;
        source.window = Window::resumed(Box::new(file), resume.position, head);
        source.check_open_line()?;
        Ok(source)
    }

    /// Reads standard input from now on; with `resume`, its first bytes are
    /// those already committed and are skipped.
    pub(crate) fn stdin(name: &str, resume: Option<&Resume>, options: &Options) -> Result<Self, Failure> {
        Self::from_stream(Box::new(Pump::start(io::stdin())?), name, resume, options)
    }

    /// Reads an input that has no way back. While it has nothing to read yet
    /// (`WouldBlock`), [`Source::next`] says [`Step::Pending`].
    pub(crate) fn from_stream(
        input: Box<dyn Read + Send>,
        name: &str,
        resume: Option<&Resume>,
        options: &Options,
    ) -> Result<Self, Failure> {
        let mut source = Self::begin(input, name, options, None)?;
        source.committed = resume.filter(|resume| resume.position > 0).copied();
        unless_waiting(source.pass_committed())?;
        Ok(source)
    }

    /// The next record. After [`Step::Pending`] and [`Step::End`] it may be
    /// called again, and goes on if the input does.
    pub(crate) fn next(&mut self) -> Result<Step<'_>, Failure> {
        let found = match self.find() {
            Err(failure) if failure.is_would_block() => return Ok(Step::Pending),
            found => found?,
        };
        let (length, closed) = match found {
            Found::Record(length) => (length, true),
            Found::Broken(length) => (length, false),
            Found::Skipped => return Ok(Step::Rejected(self.skipped())),
            Found::End => return Ok(Step::End),
            Found::Pending => {
                self.check_not_cut()?;
                return Ok(Step::Pending);
            }
        };
        self.count += 1;
        let end = self.window.offset();
        let place = Place { number: self.count, start: end - length as u64, end };
        let raw = trim_newline(self.window.consumed(length));
        let fields = match &mut self.reader {
            _ if !closed => Err(Trouble(format!(
                "a quoted field does not end within {} bytes or before the end of the input",
                self.limit
            ))),
            Reader::Ndjson(reader) => reader.fields(raw),
            Reader::Csv(reader) => reader.fields(),
        };
        Ok(match fields {
            Ok(Fields { key, value }) => Step::Record(Record { key, value, place }),
            Err(Trouble(reason)) => Step::Rejected(Rejected { reason, raw, truncated: false, place }),
        })
    }

    fn find(&mut self) -> Result<Found, Failure> {
        self.pass_committed()?;
        let last = self.followed.is_none();
        if !self.pass_mark()? || !self.check_open_line()? {
            return Ok(if last { Found::End } else { Found::Pending });
        }
        // What is wrong with a header is said in the same words whether it was
        // there at once or came later.
        if !self.pass_header()? {
            return Ok(if last { Found::End } else { Found::Pending });
        }
        let found = match &mut self.reader {
            Reader::Ndjson(reader) => reader.find(&mut self.window, last, self.limit),
            Reader::Csv(reader) => reader.find(&mut self.window, last, self.limit, &self.name),
        };
        found.map_err(|error| error.context(format!("can't read {}", self.name)))
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The offset up to which all was handed out or was blank.
    pub(crate) fn position(&self) -> u64 {
        self.window.offset()
    }

    /// The fingerprint to store with `position`, the end of a record handed out.
    pub(crate) fn fingerprint(&self, position: u64) -> Fingerprint {
        Fingerprint::of(self.window.head(), position)
    }

    fn new(input: Box<dyn Read + Send>, name: &str, options: &Options) -> Self {
        let reader = match options.format {
            Format::Ndjson => Reader::Ndjson(ndjson::Reader::new(options.pick.clone())),
            Format::Csv => Reader::Csv(Box::new(csv::Reader::new(options.pick.clone()))),
        };
        Self {
            name: name.to_owned(),
            window: Window::new(input),
            reader,
            limit: options.limit,
            followed: None,
            committed: None,
            fresh: true,
            open_line: false,
            count: 0,
        }
    }

    /// At the beginning of an input: past its mark and header, if they are
    /// there already.
    fn begin(
        input: Box<dyn Read + Send>,
        name: &str,
        options: &Options,
        followed: Option<File>,
    ) -> Result<Self, Failure> {
        let mut source = Self::new(input, name, options);
        source.followed = followed;
        unless_waiting(source.pass_beginning())?;
        Ok(source)
    }

    /// Moves past the mark and the header of a CSV input.
    fn pass_beginning(&mut self) -> Result<(), Failure> {
        if matches!(self.reader, Reader::Csv(_)) && self.pass_mark()? {
            self.pass_header()?;
        }
        Ok(())
    }

    /// Moves past what was committed earlier of a stream, and makes sure that
    /// it is the same stream.
    fn pass_committed(&mut self) -> Result<(), Failure> {
        let Some(resume) = self.committed else { return Ok(()) };
        self.pass_beginning()?;
        self.fresh = false;
        while self.window.offset() < resume.position {
            if self.window.bytes().is_empty() && self.fill()? == 0 {
                break;
            }
            let rest = resume.position - self.window.offset();
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(self.window.bytes().len());
            self.window.consume(count);
            self.open_line = self.window.consumed(count).last().is_some_and(|byte| !self.reader.is_newline(*byte));
        }
        fingerprint::check(&self.name, self.window.offset(), self.window.head(), &resume)?;
        self.committed = None;
        Ok(())
    }

    /// Reads the header line at the beginning of a file that is then read from
    /// elsewhere.
    fn reread_header(&mut self, file: &mut File) -> Result<(), Failure> {
        if matches!(self.reader, Reader::Csv(_)) {
            let again = file.rewind().and_then(|()| file.try_clone());
            let again = again.map_err(|error| Failure::from(error).context(format!("can't read {}", self.name)))?;
            self.window = Window::new(Box::new(again));
            self.pass_beginning()?;
        }
        Ok(())
    }

    /// The overlong line that was just moved past.
    fn skipped(&mut self) -> Rejected<'_> {
        self.count += 1;
        let skip = match &self.reader {
            Reader::Ndjson(reader) => reader.skip(),
            Reader::Csv(reader) => reader.skip(),
        };
        let place = Place { number: self.count, start: skip.start(), end: self.window.offset() };
        Rejected { reason: format!("longer than {} bytes", self.limit), raw: skip.beginning(), truncated: true, place }
    }

    /// Moves past the header, if there is to be one. False while it is not
    /// there yet.
    fn pass_header(&mut self) -> Result<bool, Failure> {
        match &mut self.reader {
            Reader::Csv(reader) => {
                reader.pass_header(&mut self.window, self.followed.is_none(), self.limit, &self.name)
            }
            Reader::Ndjson(_) => Ok(true),
        }
    }

    fn fill(&mut self) -> Result<usize, Failure> {
        self.window.fill().map_err(|error| Failure::from(error).context(format!("can't read {}", self.name)))
    }

    /// Moves past a byte order mark. False while there is nothing to read yet.
    fn pass_mark(&mut self) -> Result<bool, Failure> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        while self.fresh {
            let bytes = self.window.bytes();
            if bytes.starts_with(MARK) {
                self.window.consume(MARK.len());
                self.fresh = false;
            } else if !bytes.is_empty() && !MARK.starts_with(bytes) {
                self.fresh = false;
            } else if self.fill()? == 0 {
                // Half a mark that will never be whole is a bad record.
                self.fresh = self.followed.is_some() || self.window.bytes().is_empty();
                return Ok(!self.fresh);
            }
        }
        Ok(true)
    }

    /// When the last committed record had no newline: it must come now, or
    /// the record has grown. False while there is nothing to read yet.
    fn check_open_line(&mut self) -> Result<bool, Failure> {
        if !self.open_line {
            return Ok(true);
        }
        if self.window.bytes().is_empty() && self.fill()? == 0 {
            self.check_not_cut()?;
            return Ok(false);
        }
        if !matches!(self.window.bytes()[0], b'\n' | b'\r') {
            return Err(fingerprint::grown(&self.name, self.window.offset()));
        }
        self.open_line = false;
        Ok(true)
    }

    /// While following: a file that is now shorter than what was read of it
    /// will not go on where we wait.
    fn check_not_cut(&self) -> Result<(), Failure> {
        let Some(file) = &self.followed else { return Ok(()) };
        let length =
            file.metadata().map_err(|error| Failure::from(error).context(format!("can't read {}", self.name)))?.len();
        let read = self.window.read_up_to();
        if length < read {
            return Err(Failure::data(format!(
                "{} was cut to {length} bytes while it was followed, after {read} bytes were read; \
                 give the new content a name of its own with --source-name",
                self.name
            )));
        }
        Ok(())
    }
}

/// An input that has nothing to read yet is no error.
fn unless_waiting(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.is_would_block() => Ok(()),
        result => result,
    }
}

fn followed_file(file: &File, options: &Options, name: &str) -> Result<Option<File>, Failure> {
    if !options.follow {
        return Ok(None);
    }
    let file = file.try_clone().map_err(|error| Failure::from(error).context(format!("can't follow {name}")))?;
    Ok(Some(file))
}

/// Moves the file to `position` (not 0) and gives the byte before it.
fn byte_before(file: &mut File, position: u64) -> io::Result<u8> {
    file.seek(SeekFrom::Start(position - 1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn trim_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
