//! Reading a log: the cursor, the survey and the verdict. Nothing here writes.

mod coverage;
mod cursor;
mod dead;
mod evidence;
mod survey;
mod verdict;

pub(crate) use coverage::{Coverage, newest_common};
pub(crate) use cursor::{Cursor, LogIdentity, Place, Step, Stop, StopReason, Window};
pub(crate) use dead::DeadRanges;
pub(crate) use survey::{SegmentSpan, Survey, survey};
pub use verdict::Verdict;
