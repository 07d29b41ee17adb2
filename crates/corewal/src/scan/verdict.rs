//! The verdict: why a scan stopped → what the log is.
//!
//! A pure table. Every input has exactly one row; a test walks all of them.

use std::fmt;

/// What a core's log is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It ends where its last frame ends.
    Clean,
    /// Behind its last frame lie bytes of an unfinished write. They were never
    /// durable; opening cuts them and says so.
    Torn,
    /// Durable data is damaged. Opening refuses.
    Corrupt,
    /// A segment or a whole log is absent. Opening refuses.
    Missing,
    /// A segment of another log, core or place stands where one of this log
    /// should. Opening refuses.
    Foreign,
    /// A segment of a newer version. Opening refuses.
    Unsupported,
}

impl Verdict {
    /// Whether opening goes on.
    #[must_use]
    pub fn opens(self) -> bool {
        matches!(self, Self::Clean | Self::Torn)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Torn => "torn",
            Self::Corrupt => "corrupt",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Unsupported => "unsupported",
        })
    }
}

/// Why a scan stopped, as far as the verdict cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopClass {
    /// At the position it was told to stop at.
    Limit,
    /// At the end of the file, right behind a frame.
    EndOfFile,
    /// At a zeroed frame header.
    Zeroed,
    /// At bytes that are not a whole frame of this place.
    BadFrame,
    /// At a whole frame that an earlier opening left behind.
    Stale,
    /// At bytes of the file's life as another segment.
    Former,
    /// At a whole frame of this opening that does not follow its predecessor.
    Unjoined,
    /// At a whole frame whose records cannot be read.
    BadRecords,
    /// The segment is sealed and its successor is not there.
    NextMissing,
    /// The segment's header is damaged.
    BadHeader,
    /// The segment's header is that of another segment.
    ForeignHeader,
    /// The segment's header is of a newer version.
    NewerHeader,
}

/// What lies behind the place where the scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Nothing but zeros.
    Nothing,
    /// Bytes, frames or segments of this log that nothing proves durable.
    Leftover,
    /// A segment that is not of this log.
    Foreign,
    /// A segment of a newer version.
    Newer,
    /// The next segment, which was made behind a longer file than there is.
    CutShort,
}

type Row = (&'static [StopClass], &'static [bool], &'static [Behind], Verdict);

use Behind::{CutShort, Foreign, Leftover, Newer, Nothing};
use StopClass::{
    BadFrame, BadHeader, BadRecords, EndOfFile, ForeignHeader, Former, Limit, NewerHeader, NextMissing, Stale,
    Unjoined, Zeroed,
};

const ANY: &[Behind] = &[Nothing, Leftover, Foreign, Newer, CutShort];
const EITHER: &[bool] = &[false, true];
/// Where the log may simply end.
const ENDS: &[StopClass] = &[Limit, EndOfFile, Zeroed, Stale, Former, BadFrame];

impl StopClass {
    /// Whether the log may simply end there.
    pub(crate) fn may_be_the_end(self) -> bool {
        ENDS.contains(&self)
    }
}

/// Stopped at × a durable LSN past it is proven × what lies behind → verdict.
const TABLE: &[Row] = &[
    // A successor is durable before its predecessor is sealed, so its absence
    // or damage is never the work of a crash.
    (&[NextMissing], EITHER, ANY, Verdict::Missing),
    (&[BadHeader], EITHER, ANY, Verdict::Corrupt),
    (&[ForeignHeader], EITHER, ANY, Verdict::Foreign),
    (&[NewerHeader], EITHER, ANY, Verdict::Unsupported),
    // An intact checksum over contents no writer produces.
    (&[Unjoined, BadRecords], EITHER, ANY, Verdict::Corrupt),
    // A file that does not belong here is a person's doing, not a crash's.
    (ENDS, EITHER, &[Foreign], Verdict::Foreign),
    (ENDS, EITHER, &[Newer], Verdict::Unsupported),
    // A segment's file has its whole length before the next one is made.
    (ENDS, EITHER, &[CutShort], Verdict::Corrupt),
    // What was durable here is gone.
    (ENDS, &[true], &[Nothing, Leftover], Verdict::Corrupt),
    // The end of the log, and what a crash leaves behind it.
    (&[Limit, EndOfFile, Zeroed, Stale, Former], &[false], &[Nothing], Verdict::Clean),
    (&[BadFrame], &[false], &[Nothing], Verdict::Torn),
    (ENDS, &[false], &[Leftover], Verdict::Torn),
];

/// The verdict on a core's log.
pub(crate) fn verdict(stop: StopClass, proven_past_stop: bool, behind: Behind) -> Verdict {
    let row = TABLE.iter().find(|row| matches(row, stop, proven_past_stop, behind));
    row.expect("the table is total: see the test").3
}

fn matches(row: &Row, stop: StopClass, proven: bool, behind: Behind) -> bool {
    row.0.contains(&stop) && row.1.contains(&proven) && row.2.contains(&behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPS: [StopClass; 12] = [
        Limit,
        EndOfFile,
        Zeroed,
        BadFrame,
        Stale,
        Former,
        Unjoined,
        BadRecords,
        NextMissing,
        BadHeader,
        ForeignHeader,
        NewerHeader,
    ];

    fn inputs() -> impl Iterator<Item = (StopClass, bool, Behind)> {
        STOPS.into_iter().flat_map(|stop| {
            EITHER.iter().flat_map(move |&proven| ANY.iter().map(move |&behind| (stop, proven, behind)))
        })
    }

    #[test]
    fn every_input_has_exactly_one_row() {
        assert_eq!(inputs().count(), 120);
        for (stop, proven, behind) in inputs() {
            let rows = TABLE.iter().filter(|row| matches(row, stop, proven, behind)).count();
            assert_eq!(rows, 1, "{stop:?} proven={proven} {behind:?}");
        }
    }

    #[test]
    fn no_class_is_forgotten_by_the_test() {
        // A new class makes this match fail to compile until the list has it.
        for stop in STOPS {
            match stop {
                Limit | EndOfFile | Zeroed | BadFrame | Stale | Former | Unjoined | BadRecords | NextMissing
                | BadHeader | ForeignHeader | NewerHeader => {}
            }
        }
    }

    #[test]
    fn what_was_proven_durable_is_never_cut() {
        for (stop, proven, behind) in inputs().filter(|(_, proven, _)| *proven) {
            assert!(!verdict(stop, proven, behind).opens(), "{stop:?} {behind:?}");
        }
    }
}
