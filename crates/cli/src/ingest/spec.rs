//! The sources that the command line names.

use std::fs;
use std::path::{Path, PathBuf};

use super::committed::MAX_NAME;
use crate::args::Ingest;
use crate::exit::Failure;
use crate::reduce::Reduce;
use crate::source::{Format, MAX_RECORD, Options, Pick, Resume, Source};

/// A source that is to be read.
#[derive(Debug)]
pub(super) struct Spec {
    path: PathBuf,
    /// The name its offset is kept under. Standard input without a name has
    /// none: each run's input is new.
    name: Option<String>,
    /// A pipe, a terminal or such: it waits for input by itself.
    stream: bool,
    options: Options,
}

impl Spec {
    /// All sources of a command line, in its order.
    pub(super) fn all(args: &Ingest) -> Result<Vec<Self>, Failure> {
        let pick = Pick {
            key: args.key.clone(),
            number: args.reduce.field().map(Into::into),
            whole: args.reduce == Reduce::Last,
        };
        args.sources
            .iter()
            .map(|path| {
                let format = args.format.unwrap_or_else(|| Format::of(path));
                let options = Options { format, follow: args.follow, pick: pick.clone(), limit: MAX_RECORD };
                let name = name(path, args.source_name.as_deref())?;
                let stream = is_stdin(path) || fs::metadata(path).is_ok_and(|meta| !meta.is_file());
                Ok(Self { path: path.clone(), name, stream, options })
            })
            .collect()
    }

    /// Finds what is wrong with a file before anything is created: it is
    /// absent, or lacks the columns. A stream can be read only once, so only
    /// its being there is checked.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_stdin() {
            return Ok(());
        }
        let trouble = |error: std::io::Error| Failure::from(error).context(format!("can't read {}", self.shown()));
        let meta = fs::metadata(&self.path).map_err(trouble)?;
        if meta.is_file() || meta.is_dir() {
            Source::open(&self.path, &self.shown(), None, &self.options)?;
        }
        Ok(())
    }

    /// Opens it where earlier runs left off.
    pub(super) fn open(&self, resume: Option<&Resume>) -> Result<Source, Failure> {
        if self.is_stdin() {
            Source::stdin(&self.shown(), resume, &self.options)
        } else {
            Source::open(&self.path, &self.shown(), resume, &self.options)
        }
    }

    /// The path as given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name its offset is kept under.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its format.
    pub(super) fn format(&self) -> Format {
        self.options.format
    }

    /// Its length, if it is a file.
    pub(super) fn length(&self) -> Option<u64> {
        if self.stream { None } else { fs::metadata(&self.path).ok().map(|meta| meta.len()) }
    }

    /// Whether it is read as a stream, which waits for input by itself.
    pub(super) fn is_stream(&self) -> bool {
        self.stream
    }

    fn is_stdin(&self) -> bool {
        is_stdin(&self.path)
    }

    /// What messages call it.
    fn shown(&self) -> String {
        if self.is_stdin() { "standard input".to_owned() } else { self.path.display().to_string() }
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn name(path: &Path, given: Option<&str>) -> Result<Option<String>, Failure> {
    let name = match given {
        Some(name) => name,
        None if is_stdin(path) => return Ok(None),
        None => path.to_str().ok_or_else(|| {
            Failure::usage(format!("{} is not UTF-8: give the source a name with --source-name", path.display()))
        })?,
    };
    if name.len() > MAX_NAME {
        return Err(Failure::usage(format!(
            "the name of the source {} has {} bytes, at most {MAX_NAME} can be kept: give it a shorter one with --source-name",
            path.display(),
            name.len()
        )));
    }
    Ok(Some(name.to_owned()))
}
