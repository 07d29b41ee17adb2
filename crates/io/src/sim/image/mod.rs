//! Everything that a crash at one moment can leave, one image after the other.
//!
//! [`SimSnapshot::crash`](super::SimSnapshot::crash) draws one of these images
//! by a seed and can draw any; this goes through them in order, as far as
//! [`ImageLimits`] says.
//!
//! | module | what is in it |
//! |---|---|
//! | `power` | what a power cut has to decide, and the disk that a decision leaves |
//! | `choice` | the decisions, in order |
//! | `pattern` | which of the pending sectors survive |
//! | `process` | the same for the death of the process |

mod choice;
mod pattern;
mod power;
mod process;

use std::fmt;
use std::sync::Arc;

use super::crash::CrashKind;
use super::disk::Disk;
use super::{SimOptions, SimStorage};
use choice::Choice;
use power::Moment;
use process::{Landing, Landings};

/// How far [`SimSnapshot::images`](super::SimSnapshot::images) goes.
///
/// A *pending sector* is one that was written and not synced and whose loss
/// would show: where a write puts the bytes that the medium has already, there
/// is nothing to lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Up to so many pending sectors (at most 20), every subset of them
    /// survives once. Of more: none, all, each prefix, each single one missing,
    /// each single one present, and what the next two add.
    pub all_subsets: u32,
    /// Of more, each pair missing and each pair present.
    pub pairs: bool,
    /// Of more, so many subsets by chance.
    pub random_subsets: u32,
    /// Each pending sector is torn behind each such number of words of 8 bytes,
    /// its first part new or its last; 1 is everywhere, 0 nowhere.
    pub tear_words: usize,
    /// Each pending sector, and each block of 4 KiB with one, is garbage.
    pub garbage: bool,
    /// Files end at each sector between the length that the medium has and the
    /// one that readers saw. Without it: at either, or where the surviving
    /// sectors need it.
    pub lengths: bool,
    /// What was never written also reads as ones, as chance or as the bytes of
    /// other files at that place, with each prefix of the pending sectors, each
    /// single one missing and each single one present. Without it: as zeros and,
    /// once, as ones.
    pub fills: bool,
    /// So many combinations of pending names are gone through. Of more: none,
    /// all, all up to each moment, each name alone, all but each name.
    pub names: usize,
    /// Each combination of names is combined with each subset of the pending
    /// sectors if these are no more than so many. Otherwise with none and with
    /// all of the sectors, and each subset with none and with all of the names.
    pub combined: usize,
}

impl ImageLimits {
    /// Thousands of images of one write in flight.
    pub const FULL: Self = Self {
        all_subsets: 12,
        pairs: true,
        random_subsets: 200,
        tear_words: 1,
        garbage: true,
        lengths: true,
        fills: true,
        names: 64,
        combined: 4096,
    };

    /// Tens of images of one write in flight.
    pub const OUTLINE: Self = Self {
        all_subsets: 3,
        pairs: false,
        random_subsets: 2,
        tear_words: 24,
        garbage: false,
        lengths: false,
        fills: false,
        names: 8,
        combined: 64,
    };
}

/// The images of one moment, made by
/// [`SimSnapshot::images`](super::SimSnapshot::images).
#[derive(Clone, Debug)]
pub struct CrashImages {
    moment: Arc<Undecided>,
    next: usize,
}

/// One image of a moment: a decision, and the disk it leaves.
#[derive(Clone)]
pub struct CrashImage {
    moment: Arc<Undecided>,
    number: usize,
}

/// What a crash has to decide, and the decisions.
#[derive(Debug)]
struct Undecided {
    options: SimOptions,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Power(Moment, Vec<Choice>),
    Process(Landings, Vec<Landing>),
}

impl Undecided {
    fn count(&self) -> usize {
        match &self.kind {
            Kind::Power(_, choices) => choices.len(),
            Kind::Process(_, landings) => landings.len(),
        }
    }
}

impl CrashImages {
    pub(super) fn of(disk: &Disk, options: &SimOptions, kind: CrashKind, limits: &ImageLimits) -> Self {
        let kind = match kind {
            CrashKind::Power => {
                let moment = Moment::of(disk, limits);
                let choices = choice::all(&moment, limits);
                Kind::Power(moment, choices)
            }
            CrashKind::Process => {
                let landings = Landings::of(disk, options.sync_lies);
                let all = landings.all();
                Kind::Process(landings, all)
            }
        };
        let moment = Arc::new(Undecided { options: options.clone(), kind });
        assert!(moment.count() > 0, "a crash leaves something");
        Self { moment, next: 0 }
    }
}

impl Iterator for CrashImages {
    type Item = CrashImage;

    fn next(&mut self) -> Option<CrashImage> {
        self.nth(0)
    }

    fn nth(&mut self, skip: usize) -> Option<CrashImage> {
        let number = self.next.saturating_add(skip);
        self.next = number.saturating_add(1).min(self.moment.count());
        (number < self.moment.count()).then(|| CrashImage { moment: Arc::clone(&self.moment), number })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.moment.count() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for CrashImages {}

impl CrashImage {
    /// Its place among the images of its moment, from 0 on: the same call gives
    /// the same image again.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// A new disk as this crash leaves it. As that of
    /// [`SimSnapshot::crash`](super::SimSnapshot::crash), with the number as its
    /// seed.
    #[must_use]
    pub fn disk(&self) -> SimStorage {
        let mut disk = match &self.moment.kind {
            Kind::Power(moment, choices) => moment.image(&choices[self.number]),
            Kind::Process(landings, all) => landings.image(&all[self.number]),
        };
        assert!(disk.in_flight.is_empty());
        disk.step = 0;
        let options = SimOptions { seed: self.number as u64, ..self.moment.options.clone() };
        SimStorage::with_disk(options, disk)
    }
}

/// Tells the decision.
impl fmt::Display for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.moment.kind {
            Kind::Power(moment, choices) => {
                write!(f, "power, image {} of {}: {}", self.number, choices.len(), choices[self.number])?;
                write!(f, "; {} sectors pending", moment.units())
            }
            Kind::Process(_, all) => {
                write!(f, "process, image {} of {}: {:?}", self.number, all.len(), all[self.number])
            }
        }
    }
}

/// As [`CrashImage`]'s `Display`.
impl fmt::Debug for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashImage({self})")
    }
}
