//! The decisions of a power cut, in order.

use std::collections::BTreeSet;
use std::fmt;

use super::ImageLimits;
use super::pattern::Pattern;
use super::power::{Moment, Sector};
use crate::sim::file::SECTOR;

/// What a power cut decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) sectors: Pattern,
    /// What becomes of one sector or block apart from that.
    pub(super) mark: Option<Mark>,
    pub(super) length: Length,
    pub(super) filling: Filling,
    /// Which of [`Moment::entries`].
    pub(super) entries: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Behind so many words the other part begins.
    Torn {
        unit: u32,
        words: usize,
        new_first: bool,
    },
    Garbage {
        unit: u32,
    },
    GarbageBlock {
        file: u32,
        block: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// What was set survives; else as long as the surviving sectors need.
    Needed,
    /// Nothing that was set survives.
    Least,
    /// As readers saw it.
    Most,
    /// One file has this length, the others are as long as they need.
    At { file: u32, len: u64 },
}

/// Which of the fillings of what was never written; the first are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filling(pub(super) usize);

/// All that the limits ask for, the disk with nothing and that with all of it
/// first.
pub(super) fn all(moment: &Moment, limits: &ImageLimits) -> Vec<Choice> {
    let patterns = Pattern::all(moment.units(), limits);
    let entries = moment.entries.len();
    let extremes = &patterns[..patterns.len().min(2)];
    let (nothing, everything) = (choice(Pattern::None, 0), choice(extremes[extremes.len() - 1], named(moment)));
    let mut choices = Vec::new();
    if patterns.len() * entries <= limits.combined {
        for name in 0..entries {
            choices.extend(patterns.iter().map(|sectors| choice(*sectors, name)));
        }
    } else {
        for name in 0..entries {
            choices.extend(extremes.iter().map(|sectors| choice(*sectors, name)));
        }
        for name in 0..=named(moment) {
            choices.extend(patterns.iter().skip(2).map(|sectors| choice(*sectors, name)));
        }
    }
    choices.retain(|choice| *choice != nothing && *choice != everything);
    choices.insert(0, nothing);
    if everything != nothing {
        choices.insert(1, everything);
    }
    lengths(moment, limits, extremes, &mut choices);
    fillings(moment, limits, &mut choices);
    tears(moment, limits, &mut choices);
    if limits.garbage {
        garbage(moment, &mut choices);
    }
    choices
}

fn choice(sectors: Pattern, entries: usize) -> Choice {
    Choice { sectors, mark: None, length: Length::Needed, filling: Filling::ZEROS, entries }
}

/// The one of the names' outcomes in which all of them survive.
fn named(moment: &Moment) -> usize {
    moment.entries.len().min(2) - 1
}

/// Lengths matter where the names lead to the files.
fn lengths(moment: &Moment, limits: &ImageLimits, extremes: &[Pattern], choices: &mut Vec<Choice>) {
    let named = named(moment);
    let extremes = || extremes.iter().map(|sectors| choice(*sectors, named));
    if moment.files.iter().any(|file| file.least != file.most) {
        for length in [Length::Least, Length::Most] {
            choices.extend(extremes().map(|choice| Choice { length, ..choice }));
        }
    }
    if !limits.lengths {
        return;
    }
    for (file, open) in (0_u32..).zip(&moment.files) {
        let (low, high) = (open.least.min(open.most), open.least.max(open.most));
        let sector = SECTOR as u64;
        let mut between: BTreeSet<u64> = (low / sector..=high / sector).map(|at| at * sector).collect();
        // And not at a sector's end.
        between.extend([low + 1, (low + high) / 2 + 3, high.saturating_sub(1)]);
        for len in between.into_iter().filter(|len| low < *len && *len < high) {
            choices.extend(extremes().map(|choice| Choice { length: Length::At { file, len }, ..choice }));
        }
    }
}

/// What was never written shows where a file became longer than what of it
/// survived.
fn fillings(moment: &Moment, limits: &ImageLimits, choices: &mut Vec<Choice>) {
    let named = named(moment);
    let all = if limits.fills { moment.fillings() } else { moment.fillings().min(2) };
    // Which sectors are filled matters less than that some are.
    let few = ImageLimits { all_subsets: limits.all_subsets.min(4), pairs: false, random_subsets: 0, ..*limits };
    let mut patterns = Pattern::all(moment.units(), &few);
    patterns.truncate(if limits.fills { patterns.len() } else { 1 });
    patterns.retain(|sectors| *sectors != Pattern::All);
    // With zeros: none of the sectors is among the lengths.
    if limits.fills && all > 1 {
        let zeros = |sectors: &Pattern| Choice { length: Length::Most, ..choice(*sectors, named) };
        choices.extend(patterns.iter().filter(|sectors| **sectors != Pattern::None).map(zeros));
    }
    for filling in (1..all).map(Filling) {
        let filled = |sectors: &Pattern| Choice { filling, length: Length::Most, ..choice(*sectors, named) };
        choices.extend(patterns.iter().map(filled));
    }
}

fn tears(moment: &Moment, limits: &ImageLimits, choices: &mut Vec<Choice>) {
    if limits.tear_words == 0 {
        return;
    }
    let named = named(moment);
    for (unit, sector) in (0_u32..).zip(&moment.sectors) {
        for words in places(sector).step_by(limits.tear_words) {
            for new_first in [true, false] {
                for sectors in [Pattern::Prefix(unit), Pattern::Missing(unit)] {
                    let mark = Some(Mark::Torn { unit, words, new_first });
                    choices.push(Choice { mark, ..choice(sectors, named) });
                }
            }
        }
    }
}

/// Numbers of words behind which a tear shows: a word that differs is on each
/// side, and the last one before it as well.
fn places(sector: &Sector) -> impl Iterator<Item = usize> {
    let differs = sector.differs;
    (1..64).filter(move |words| differs >> (words - 1) & 1 == 1 && differs >> words != 0)
}

fn garbage(moment: &Moment, choices: &mut Vec<Choice>) {
    let named = named(moment);
    for (unit, _) in (0_u32..).zip(&moment.sectors) {
        let mark = Some(Mark::Garbage { unit });
        for sectors in [Pattern::Prefix(unit), Pattern::Missing(unit)] {
            choices.push(Choice { mark, ..choice(sectors, named) });
        }
    }
    let blocks: BTreeSet<_> = moment.sectors.iter().map(|sector| (sector.file, sector.block())).collect();
    for (file, block) in blocks {
        let mark = Some(Mark::GarbageBlock { file, block });
        for sectors in [Pattern::None, Pattern::All] {
            choices.push(Choice { mark, length: Length::Most, ..choice(sectors, named) });
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sectors)?;
        match self.mark {
            Some(Mark::Torn { unit, words, new_first }) => {
                let (first, last) = if new_first { ("new", "old") } else { ("old", "new") };
                write!(f, ", sector {unit} {first} for {words} words and then {last}")?;
            }
            Some(Mark::Garbage { unit }) => write!(f, ", sector {unit} garbage")?,
            Some(Mark::GarbageBlock { file, block }) => write!(f, ", block {block} of open file {file} garbage")?,
            None => {}
        }
        match self.length {
            Length::Needed => {}
            Length::Least => write!(f, ", lengths as on the medium")?,
            Length::Most => write!(f, ", lengths as seen")?,
            Length::At { file, len } => write!(f, ", open file {file} of {len} bytes")?,
        }
        if self.filling != Filling::ZEROS {
            write!(f, ", filling {}", self.filling.0)?;
        }
        write!(f, ", names {}", self.entries)
    }
}
