//! Which files a restore needs: a pure decision over an index.
//!
//! A checkpoint of epoch *c* is the state at the end of *c*. Its logs go on
//! from there: for each core the segment that holds the end of *c*, and those
//! that follow, each leading to the next. An epoch is within reach of a
//! checkpoint if it ended in such a chain of every core.

use std::fmt;

use corewal_format::{CoreId, Epoch, MAX_EPOCH, SegmentId};

use crate::index::{Checkpoint, Index, Segment};
use crate::inventory::FIRST_GENERATION;

/// What to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest epoch that the archive holds for all cores.
    Latest,
    /// The state at the end of this epoch.
    Epoch(Epoch),
    /// The state at the newest epoch that ended by this time, in nanoseconds
    /// since the Unix epoch. The files cover it; the epoch itself is for the
    /// caller to find in them.
    Time(i64),
}

/// Why a target can't be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unrestorable {
    /// The archive holds nothing yet.
    Empty,
    /// The target lies before all that is kept.
    TooOld {
        /// Epoch of the oldest checkpoint.
        oldest: Epoch,
    },
    /// The target has not come into the archive.
    NotReached {
        /// The newest epoch that has.
        newest: Epoch,
    },
    /// The target lies between two that are within reach: the log that leads to
    /// it was not sealed yet when a checkpoint of a later epoch was pushed.
    Between {
        /// The newest epoch within reach before it.
        before: Epoch,
        /// The oldest one after it.
        after: Epoch,
    },
    /// A segment is missing on the way.
    Gap {
        /// The generation of logs.
        generation: u32,
        /// The core.
        core: CoreId,
        /// The newest epoch that can be reached before the gap.
        reaches: Epoch,
        /// The segment that would be next; `None` if the beginning is missing.
        missing: Option<SegmentId>,
    },
}

impl fmt::Display for Unrestorable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the archive holds nothing yet"),
            Self::TooOld { oldest } => {
                write!(f, "the archive begins later: its oldest checkpoint is of epoch {oldest}")
            }
            Self::NotReached { newest } => write!(f, "the archive does not reach so far: its newest epoch is {newest}"),
            Self::Between { before, after } => {
                write!(f, "the archive has no epoch between {before} and {after}; either of them can be restored")
            }
            Self::Gap { generation, core, reaches, missing: Some(segment) } => write!(
                f,
                "segment {segment} of core {core} (generation {generation}) is missing: nothing after epoch {reaches} can be reached"
            ),
            Self::Gap { generation, core, reaches, missing: None } => {
                write!(f, "the log of core {core} (generation {generation}) is missing where epoch {reaches} ends")
            }
        }
    }
}

impl std::error::Error for Unrestorable {}

/// The files of a restore.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    /// `None`: the logs reach back to their beginning.
    pub(crate) checkpoint: Option<&'a Checkpoint>,
    /// By core and number, without holes.
    pub(crate) segments: Vec<&'a Segment>,
    /// Generation and cores of the logs.
    pub(crate) generation: u32,
    pub(crate) cores: u16,
    /// The newest epoch that these files hold for all cores.
    pub(crate) reaches: Epoch,
}

/// A state the logs can go on from.
#[derive(Clone, Copy, Debug)]
struct Base<'a> {
    checkpoint: Option<&'a Checkpoint>,
    generation: u32,
    cores: u16,
    epoch: Epoch,
    time_ns: i64,
}

/// The logs that go on from a base.
#[derive(Debug)]
struct Reach<'a> {
    base: Base<'a>,
    /// For each core its chain.
    chains: Vec<Vec<&'a Segment>>,
    epoch: Epoch,
    /// Where the chain of a core breaks off although the archive has more of
    /// its log: the first such core.
    gap: Option<Unrestorable>,
}

/// Chooses the files for a target.
pub(crate) fn plan(index: &Index, target: Target) -> Result<Plan<'_>, Unrestorable> {
    let mut reaches: Vec<Reach<'_>> = bases(index).into_iter().map(|base| reach(index, base)).collect();
    // By epoch; of two with the same one, the later generation.
    reaches.sort_by_key(|reach| (reach.base.epoch, reach.base.generation));
    let newest = reaches.iter().map(|reach| reach.epoch).max().ok_or(Unrestorable::Empty)?;
    let oldest = reaches[0].base.epoch;
    match target {
        Target::Latest => {
            // The newest base of those that reach farthest.
            let best = reaches.iter().rev().find(|reach| reach.epoch == newest).ok_or(Unrestorable::Empty)?;
            if newest == Epoch(0) && best.base.checkpoint.is_none() {
                return Err(best.gap.clone().unwrap_or(Unrestorable::Empty));
            }
            Ok(best.until_epoch(newest))
        }
        Target::Epoch(epoch) => {
            let before: Vec<_> = reaches.iter().filter(|reach| reach.base.epoch <= epoch).collect();
            let Some(nearest) = before.last() else { return Err(Unrestorable::TooOld { oldest }) };
            match before.iter().rev().find(|reach| reach.epoch >= epoch) {
                Some(best) if epoch == best.base.epoch => Ok(best.bare()),
                Some(best) => Ok(best.until_epoch(epoch)),
                None if epoch > newest && nearest.gap.is_none() => Err(Unrestorable::NotReached { newest }),
                None => Err(nearest.gap.clone().unwrap_or_else(|| {
                    let before = before.iter().map(|reach| reach.epoch).max().unwrap_or(nearest.epoch);
                    let later = reaches.iter().map(|reach| reach.base.epoch).find(|&base| base > epoch);
                    later.map_or(Unrestorable::NotReached { newest }, |after| Unrestorable::Between { before, after })
                })),
            }
        }
        Target::Time(time) => {
            let best = reaches.iter().rev().find(|reach| reach.base.time_ns <= time);
            let Some(best) = best else { return Err(Unrestorable::TooOld { oldest }) };
            let plan = best.until_time(time);
            // A hole matters only if the logs break off before the time.
            let short = best.chains.iter().any(|chain| chain.last().is_none_or(|last| last.facts.newest_ns <= time));
            match &best.gap {
                Some(gap) if short => Err(gap.clone()),
                _ if plan.reaches == Epoch(0) && plan.checkpoint.is_none() => Err(Unrestorable::Empty),
                _ => Ok(plan),
            }
        }
    }
}

/// The newest epoch that can be restored; 0 if none.
pub(crate) fn covered(index: &Index) -> Epoch {
    plan(index, Target::Latest).map_or(Epoch(0), |plan| plan.reaches)
}

/// For each state the logs can go on from: its epoch (0 for the beginning of
/// the logs) and the newest epoch within its reach.
pub(crate) fn coverage(index: &Index) -> Vec<(Option<u64>, Epoch, Epoch)> {
    let reach = bases(index).into_iter().map(|base| reach(index, base));
    reach.map(|reach| (reach.base.checkpoint.map(|c| c.facts.number), reach.base.epoch, reach.epoch)).collect()
}

/// Segments that a base needs to reach what it can reach.
pub(crate) fn needed<'a>(index: &'a Index, checkpoint: &'a Checkpoint) -> Vec<&'a Segment> {
    reach(index, Base::of(checkpoint)).chains.concat()
}

impl<'a> Base<'a> {
    fn of(checkpoint: &'a Checkpoint) -> Self {
        let facts = &checkpoint.facts;
        Self {
            checkpoint: Some(checkpoint),
            generation: facts.generation,
            cores: facts.cores,
            epoch: facts.epoch,
            time_ns: facts.time_ns,
        }
    }
}

fn bases(index: &Index) -> Vec<Base<'_>> {
    let mut bases: Vec<Base<'_>> = index.checkpoints.iter().map(Base::of).collect();
    let beginning = index.segments.iter().find(|segment| segment.facts.generation == FIRST_GENERATION);
    if let Some(segment) = beginning
        && index.segments.iter().any(is_beginning)
    {
        bases.push(Base {
            checkpoint: None,
            generation: FIRST_GENERATION,
            cores: segment.facts.cores,
            epoch: Epoch(0),
            time_ns: i64::MIN,
        });
    }
    bases
}

fn is_beginning(segment: &Segment) -> bool {
    segment.facts.first && segment.facts.generation == FIRST_GENERATION
}

fn reach<'a>(index: &'a Index, base: Base<'a>) -> Reach<'a> {
    let mut chains = Vec::new();
    let mut epoch = Epoch(u64::MAX);
    let mut gap = None;
    for core in 0..base.cores {
        let (chain, ended, broken) = chain(index, &base, CoreId(core));
        epoch = epoch.min(ended);
        gap = gap.or(broken);
        chains.push(chain);
    }
    // All cores parked: nothing later was ever named.
    if epoch >= MAX_EPOCH {
        epoch = index.complete_epoch.max(base.epoch);
    }
    Reach { base, chains, epoch, gap }
}

/// The segments of a core that go on from a base, the newest epoch ended in
/// them, and the gap behind them if there is one.
fn chain<'a>(index: &'a Index, base: &Base<'a>, core: CoreId) -> (Vec<&'a Segment>, Epoch, Option<Unrestorable>) {
    let gap = |reaches, missing| Unrestorable::Gap { generation: base.generation, core, reaches, missing };
    let of_core = |segment: &&Segment| segment.facts.generation == base.generation && segment.facts.core == core;
    let log: Vec<&Segment> = index.segments.iter().filter(of_core).collect();
    // Epochs never go back within a log: before a segment that begins in the
    // base's epoch or earlier, all is in the base.
    let begins = log.iter().rposition(|segment| base.checkpoint.is_some() && segment.facts.first_epoch <= base.epoch);
    let behind = &log[begins.unwrap_or(0)..];
    let Some(first) = behind.first() else { return (Vec::new(), base.epoch, None) };
    if begins.is_none() && !first.facts.first {
        return (Vec::new(), base.epoch, Some(gap(base.epoch, None)));
    }
    let (mut chain, mut ended): (Vec<&Segment>, _) = (Vec::new(), base.epoch);
    for segment in behind {
        if let Some(last) = chain.last()
            && (last.facts.next, last.facts.next_base) != (segment.facts.number, segment.facts.base)
        {
            let broken = gap(ended, Some(last.facts.next));
            return (chain, ended, Some(broken));
        }
        // A rollback can take an end back, but not one that is in the base.
        ended = segment.facts.ended.max(base.epoch);
        chain.push(segment);
    }
    (chain, ended, None)
}

impl<'a> Reach<'a> {
    /// The files whose segments are `wanted`: of each core the chain up to the
    /// first that is not.
    fn until(&self, wanted: impl Fn(&[&Segment], &Segment) -> bool) -> Plan<'a> {
        let mut segments = Vec::new();
        let mut reaches = Epoch(u64::MAX);
        for chain in &self.chains {
            let count = (0..chain.len()).find(|&at| !wanted(&chain[..at], chain[at])).unwrap_or(chain.len());
            let ended = chain[..count].last().map_or(self.base.epoch, |last| last.facts.ended.max(self.base.epoch));
            reaches = reaches.min(ended);
            segments.extend_from_slice(&chain[..count]);
        }
        reaches = reaches.min(self.epoch);
        // The end of the base's own epoch needs no log at all.
        if self.base.checkpoint.is_some() && reaches == self.base.epoch {
            segments.clear();
        }
        let Base { checkpoint, generation, cores, .. } = self.base;
        Plan { checkpoint, segments, generation, cores, reaches }
    }

    /// The base alone.
    fn bare(&self) -> Plan<'a> {
        Plan { reaches: self.base.epoch, ..self.until(|_, _| false) }
    }

    fn until_epoch(&self, epoch: Epoch) -> Plan<'a> {
        // What begins after an epoch holds nothing of it.
        self.until(|_, segment| segment.facts.first_epoch <= epoch)
    }

    fn until_time(&self, time: i64) -> Plan<'a> {
        self.until(|before, _| before.last().is_none_or(|last| last.facts.newest_ns <= time))
    }
}
