//! What can go wrong with a job.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::source::BoxError;

/// Why a job did not start, or stopped. Whatever was complete stays so: started
/// again, the job goes on behind the newest complete epoch.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A later start of the same job has taken over. This one has made nothing
    /// complete, and no output visible, since then.
    Fenced {
        /// Which start this was, counted from 1.
        attempt: u64,
        /// The one that took over.
        by: u64,
    },
    /// The store of a process is open elsewhere: the job runs already, or hangs.
    InUse {
        /// The store.
        dir: PathBuf,
    },
    /// The directory belongs to another job.
    OtherJob {
        /// The directory.
        dir: PathBuf,
        /// The job it belongs to.
        found: String,
        /// The job that was started.
        expected: String,
    },
    /// The job has other operators, sources or partitions than the one whose
    /// state is there.
    OtherShape {
        /// What the state was made by and is no longer there.
        missing: Vec<String>,
        /// What is there and was not then.
        added: Vec<String>,
    },
    /// Two operators, sources or sinks of the job have the same name, by which
    /// their state or output is found.
    SameName {
        /// What they are, and the name.
        what: String,
    },
    /// A part of the job's state is with none of its processes.
    Missing {
        /// The store, as this process looked for it.
        dir: PathBuf,
    },
    /// The record of what is complete does not read as one.
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file or directory of the job's.
    Io {
        /// What was to be done with it.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The durable state.
    Store(corewal::Error),
    /// What stands in the store under a key of an operator is no state of the
    /// operator's type: it was written as one of another type, say. It stays as
    /// it is.
    State {
        /// The operator's name in the job.
        name: String,
        /// The key, without the operator's name.
        key: Vec<u8>,
        /// What is wrong with it.
        source: BoxError,
    },
    /// A source could not be opened or read.
    Source {
        /// Its name in the job.
        name: String,
        /// The partition, if it was one.
        partition: Option<String>,
        /// What it said.
        source: BoxError,
    },
    /// A sink could not publish.
    Sink {
        /// Its name in the job.
        name: String,
        /// The epoch whose output stays staged.
        epoch: u64,
        /// What it said.
        source: BoxError,
    },
    /// The connection to another process was lost: it has stopped, or its
    /// machine or the network has.
    Lost,
    /// A worker of this process panicked.
    Worker {
        /// What it said.
        detail: String,
    },
    /// Timely could not be started.
    Start {
        /// What it said.
        detail: String,
    },
    /// Another process of the job says why it stops.
    Elsewhere {
        /// What it said.
        detail: String,
    },
}

/// The crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl From<corewal::Error> for Error {
    fn from(error: corewal::Error) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { attempt, by } => {
                write!(f, "fenced: this is start {attempt} of the job, and start {by} has taken over")
            }
            Self::InUse { dir } => write!(
                f,
                "{} is in use: the job runs already; if it hangs, start this one so that it takes over",
                dir.display()
            ),
            Self::OtherJob { dir, found, expected } => write!(
                f,
                "{} belongs to the job `{found}`, not to `{expected}`; use a directory for each job",
                dir.display()
            ),
            Self::OtherShape { missing, added } => {
                write!(f, "the state was made by a job of another shape")?;
                for (sign, parts) in [('-', missing), ('+', added)] {
                    for part in parts {
                        write!(f, "\n  {sign} {part}")?;
                    }
                }
                write!(f, "\nstart the job as it was, or in a directory of its own")
            }
            Self::SameName { what } => write!(f, "the job has `{what}` twice; give each a name of its own"),
            Self::Missing { dir } => {
                write!(
                    f,
                    "{} is not there: a part of the job's state is in it; bring it there, or have the process take \
                     part that has it",
                    dir.display()
                )
            }
            Self::Record { path, detail } => write!(f, "{}: {detail}", path.display()),
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Store(error) => error.fmt(f),
            Self::State { name, key, source } => {
                let key = key.escape_ascii();
                write!(f, "what stands under {name}/{key} is no state of the type that operator {name} has: {source}")
            }
            Self::Source { name, partition: Some(partition), source } => {
                write!(f, "source {name}, partition {partition}: {source}")
            }
            Self::Source { name, partition: None, source } => write!(f, "source {name}: {source}"),
            Self::Sink { name, epoch, source } => write!(f, "sink {name}, epoch {epoch}: {source}"),
            Self::Lost => write!(
                f,
                "the connection to another process of the job was lost; start all of them again, and they go on \
                 behind the newest complete epoch"
            ),
            Self::Worker { detail } => write!(f, "a worker stopped: {detail}"),
            Self::Start { detail } => write!(f, "Timely cannot start: {detail}"),
            Self::Elsewhere { detail } => write!(f, "another process stopped the job: {detail}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Store(error) => Some(error),
            Self::State { source, .. } | Self::Source { source, .. } | Self::Sink { source, .. } => {
                Some(source.as_ref())
            }
            _ => None,
        }
    }
}
