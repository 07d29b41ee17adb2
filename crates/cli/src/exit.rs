//! How the program ends: the exit codes and an error that carries one.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::causes::exit_of;

/// Why the program ends as it does. The numbers are part of its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All done.
    Done = 0,
    /// A check found something, or a key is not there.
    Findings = 1,
    /// The command line asks for something that can't be.
    Usage = 2,
    /// I/O failed, or data is damaged or not what it was.
    Io = 3,
    /// Another process holds the store.
    Locked = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error on its way to the user, with the exit code it ends the program by.
///
/// `?` turns any error into one with [`Exit::Io`], but the engine's "locked"
/// and an archive's "fenced" into one with [`Exit::Locked`], and its "another number of cores" into one
/// with [`Exit::Usage`]; where the code is another one, the place that
/// knows says so.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// An error with an exit code of its own.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// A command line that can't be followed.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, error: anyhow::Error::msg(message.into()) }
    }

    /// Input or data that is not as it must be.
    pub(crate) fn data(message: impl Into<String>) -> Self {
        Self { exit: Exit::Io, error: anyhow::Error::msg(message.into()) }
    }

    /// Puts what was being done before the cause.
    #[must_use]
    pub(crate) fn context(self, what: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { exit: self.exit, error: self.error.context(what) }
    }

    /// The exit code.
    #[cfg(test)]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether it only says that a stream has nothing to read yet.
    pub(crate) fn is_would_block(&self) -> bool {
        self.io_kind(io::ErrorKind::WouldBlock)
    }

    fn io_kind(&self, kind: io::ErrorKind) -> bool {
        self.error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind))
    }

    /// Tells the user, and gives the code to end with.
    ///
    /// A reader that went away (`corewal scan | head`) is no failure: there is
    /// nobody left to tell.
    pub(crate) fn report(&self) -> Exit {
        if self.io_kind(io::ErrorKind::BrokenPipe) {
            return Exit::Done;
        }
        eprintln!("error: {self}");
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alternate form is the whole chain: "what: cause: its cause".
        write!(f, "{:#}", self.error)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { exit: exit_of(&error), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let codes = [Exit::Done, Exit::Findings, Exit::Usage, Exit::Io, Exit::Locked].map(|exit| exit as u8);
        assert_eq!(codes, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_message_is_the_whole_chain_in_one_line() {
        let failure = Failure::from(io::Error::other("no such thing")).context("can't read a.csv");
        assert_eq!(failure.to_string(), "can't read a.csv: no such thing");
        assert_eq!(failure.exit(), Exit::Io);
        assert_eq!(Failure::usage("no").context("why").exit(), Exit::Usage);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("can't write");
        assert_eq!(failure.report(), Exit::Done);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::NotFound)).report(), Exit::Io);
    }
}
