//! Lines of files as a source.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::source::{BoxError, Partition, Read, Source};

/// The longest line that is read, in bytes.
const LONGEST: usize = 16 << 20;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What stands in it, without its end.
    pub text: String,
    /// Where its first byte is in the file.
    pub offset: u64,
}

/// A source of lines: each file is a partition, its position that of a byte.
/// NDJSON, CSV and the like are read so.
///
/// A file is read to where it ends when that is reached. One that is shorter
/// than it was is refused.
#[derive(Clone, Debug)]
pub struct Lines {
    paths: Vec<PathBuf>,
    header: bool,
}

impl Lines {
    /// The lines of these files. Their names as given are those of the
    /// partitions.
    ///
    /// # Errors
    /// If there are none, or a name is no text.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        if paths.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are no files to read"));
        }
        if let Some(path) = paths.iter().find(|path| path.to_str().is_none()) {
            let detail = format!("{} is no text", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        Ok(Self { paths, header: false })
    }

    /// Whether the first line of each file is a header, which is left out.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }
}

impl Source for Lines {
    type Item = Line;
    type Partition = LinesOf;

    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        Ok(self.paths.iter().map(|path| path.to_str().expect("looked at when it was given").to_owned()).collect())
    }

    fn open(&self, partition: &str, position: u64) -> Result<LinesOf, BoxError> {
        let opened = LinesOf::open(Path::new(partition), position, self.header);
        opened.map_err(|error| format!("{partition}: {error}").into())
    }
}

/// A file whose lines are being read.
#[derive(Debug)]
pub struct LinesOf {
    file: BufReader<File>,
    position: u64,
}

impl LinesOf {
    fn open(path: &Path, position: u64, header: bool) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if length < position {
            let detail = format!("it has {length} bytes, and was read up to {position}: it is not the same file");
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        file.seek(SeekFrom::Start(position))?;
        let mut lines = Self { file: BufReader::with_capacity(256 << 10, file), position };
        if header && position == 0 {
            lines.line()?;
        }
        Ok(lines)
    }

    /// The next line; `None` at the end. The last need not be ended.
    fn line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let read = io::Read::take(&mut self.file, LONGEST as u64).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        if read == LONGEST {
            let detail = format!("the line at byte {} is longer than {LONGEST} bytes", self.position);
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        let offset = self.position;
        self.position += read as u64;
        bytes.pop_if(|last| *last == b'\n');
        bytes.pop_if(|last| *last == b'\r');
        let text = String::from_utf8(bytes);
        let detail = |_| io::Error::new(io::ErrorKind::InvalidData, format!("the line at byte {offset} is no UTF-8"));
        Ok(Some(Line { text: text.map_err(detail)?, offset }))
    }
}

impl Partition for LinesOf {
    type Item = Line;

    fn read(&mut self, most: usize, into: &mut Vec<Line>) -> Result<Read, BoxError> {
        for _ in 0..most {
            match self.line()? {
                Some(line) => into.push(line),
                None => return Ok(Read::End),
            }
        }
        Ok(Read::More)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
