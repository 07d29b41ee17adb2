//! What is measured: the cells, their names, and what is asked of them.

use std::fmt;
use std::str::FromStr;

use super::figures::Unit;

/// One thing that is measured, on each backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    /// Records into the writer's buffers, without any I/O.
    Encode,
    /// Records streamed to the disk.
    Append,
    /// One durable commit at a time.
    Single,
    /// Commits of one record, acknowledged each on its own, so many under way.
    InFlight(usize),
    /// The same number, those of a turn in one write.
    Turns(usize),
    /// Commits of so many records, [`DEPTH`] under way.
    Batch(u64),
    /// Two cores with a log each.
    TwoCores,
    /// Records of 4 KiB, a sync each MiB, so many MiB under way.
    Bulk(usize),
    /// The log checked, frame by frame and record by record.
    Check,
    /// The same, with every record given out.
    Scan,
    /// The state rebuilt when a store is opened.
    Open {
        /// Cores of the store.
        cores: u16,
        /// Each record has a key of its own.
        distinct: bool,
    },
    /// Durable keyed state.
    Keyed,
    /// Commits at half of the peak rate.
    HalfLoad,
}

/// Syncs under way in the cells that do not vary it.
pub(super) const DEPTH: usize = 32;

/// Records a commit in [`Cell::TwoCores`].
pub(super) const TWO_CORES_BATCH: u64 = 64;

impl Cell {
    /// All of them, in the order in which they are measured: one may refer to
    /// the figure of one before it.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Encode, Self::Append, Self::Single];
        all.extend([1, 2, 4, 8, 16, 32, 64].map(Self::InFlight));
        all.extend([Self::Turns(DEPTH), Self::HalfLoad]);
        all.extend([4, 16, 32, 64, 256, 1024, 4096].map(Self::Batch));
        all.push(Self::TwoCores);
        all.extend([1, 4].map(Self::Bulk));
        all.extend([Self::Check, Self::Scan]);
        for distinct in [false, true] {
            all.extend([1, 2].map(|cores| Self::Open { cores, distinct }));
        }
        all.push(Self::Keyed);
        all
    }

    /// What it is.
    pub(super) fn title(self) -> String {
        match self {
            Self::Encode => "append into the writer's buffers".to_owned(),
            Self::Append => "append, streamed to the disk".to_owned(),
            Self::Single => "durable commit, one at a time (p50)".to_owned(),
            Self::InFlight(depth) => format!("durable commits, {depth} in flight"),
            Self::Turns(depth) => format!("durable commits, {depth} in flight, a turn's in one write"),
            Self::Batch(batch) => format!("durable records, {batch} a commit"),
            Self::TwoCores => format!("two cores, {TWO_CORES_BATCH} records a commit"),
            Self::Bulk(depth) => format!("durable 4 KiB records, {depth} MiB in flight"),
            Self::Check => "check a log (open a reader)".to_owned(),
            Self::Scan => "scan and check a log".to_owned(),
            Self::Open { cores, distinct } => {
                format!("open, {} keys, {cores} core(s)", if distinct { "distinct" } else { "few" })
            }
            Self::Keyed => "durable keyed state, 1024 puts a commit".to_owned(),
            Self::HalfLoad => "commit at half of P32's rate (p99)".to_owned(),
        }
    }

    /// What its figure counts.
    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Encode | Self::Append => Unit::NanosPerRecord,
            Self::Single | Self::HalfLoad => Unit::Latency,
            Self::InFlight(_) | Self::Turns(_) => Unit::Commits,
            Self::Bulk(_) => Unit::Bytes,
            _ => Unit::Records,
        }
    }

    /// What is asked of it; one of them is enough.
    pub(super) fn targets(self) -> &'static [Target] {
        use Target::{FigureAtLeast, RatioAtLeast, RatioAtMost};
        match self {
            Self::Encode | Self::Append => &[RatioAtMost(1.5)],
            Self::Single => &[RatioAtMost(1.1)],
            Self::InFlight(32) => &[RatioAtLeast(0.75)],
            Self::TwoCores => &[RatioAtLeast(0.8)],
            Self::Bulk(_) => &[RatioAtLeast(0.85)],
            Self::Scan => &[RatioAtLeast(0.5), FigureAtLeast(80e6)],
            Self::Open { cores: 1, distinct: false } => &[FigureAtLeast(10e6)],
            Self::Open { cores: 1, distinct: true } => &[FigureAtLeast(5e6)],
            Self::Open { .. } => &[RatioAtLeast(1.8)],
            Self::HalfLoad => &[RatioAtMost(5.0)],
            Self::InFlight(_) | Self::Turns(_) | Self::Batch(_) | Self::Check | Self::Keyed => &[],
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Encode => "encode".to_owned(),
            Self::Append => "append".to_owned(),
            Self::Single => "S1".to_owned(),
            Self::InFlight(depth) => format!("P{depth}"),
            Self::Turns(depth) => format!("G{depth}"),
            Self::Batch(batch) => format!("S{batch}"),
            Self::TwoCores => "T2".to_owned(),
            Self::Bulk(depth) => format!("B{depth}"),
            Self::Check => "C".to_owned(),
            Self::Scan => "R".to_owned(),
            Self::Open { cores, distinct } => format!("O{cores}{}", if *distinct { "d" } else { "" }),
            Self::Keyed => "K".to_owned(),
            Self::HalfLoad => "H".to_owned(),
        };
        f.pad(&name)
    }
}

/// A bound on a cell's figure or on its ratio to the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// The ratio is at least so much.
    RatioAtLeast(f64),
    /// The ratio is at most so much.
    RatioAtMost(f64),
    /// The figure is at least so much.
    FigureAtLeast(f64),
}

impl Target {
    /// Whether it is met; a ratio that is not known meets nothing.
    pub(super) fn is_met(self, figure: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Self::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
            Self::FigureAtLeast(least) => figure >= least,
        }
    }

    /// For people; `unit` is that of the figure.
    pub(super) fn print(self, unit: Unit) -> String {
        match self {
            Self::RatioAtLeast(least) => format!("≥ {least}x"),
            Self::RatioAtMost(most) => format!("≤ {most}x"),
            Self::FigureAtLeast(least) => format!("≥ {}", unit.print(least)),
        }
    }
}

/// `--cells`: which of them, in the order of [`Cell::all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CellList(pub(super) Vec<Cell>);

impl FromStr for CellList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut chosen = Vec::new();
        for word in text.split(',').map(str::trim) {
            let before = chosen.len();
            // A single letter is a family: S for S1, S4, …
            let is_family = word.len() == 1;
            chosen.extend(Cell::all().into_iter().filter(|cell| {
                let name = cell.to_string();
                word == "all" || name == word || is_family && name.starts_with(word) && name.len() <= 5
            }));
            if chosen.len() == before && word != "limits" {
                let names: Vec<_> = Cell::all().iter().map(Cell::to_string).collect();
                return Err(format!("no cell is called `{word}`: there are limits, all, {}", names.join(", ")));
            }
        }
        Ok(Self(Cell::all().into_iter().filter(|cell| chosen.contains(cell)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<String> {
        list.parse::<CellList>().unwrap().0.iter().map(Cell::to_string).collect()
    }

    #[test]
    fn cells_are_chosen_by_name_and_family() {
        assert_eq!(names("all").len(), Cell::all().len());
        assert_eq!(names("K,S1"), ["S1", "K"]);
        assert_eq!(names("B,R"), ["B1", "B4", "R"]);
        assert_eq!(names("limits"), [""; 0]);
        assert_eq!(names("O"), ["O1", "O2", "O1d", "O2d"]);
        for wrong in ["", "S1,", "s", "S2", "Q"] {
            assert!(wrong.parse::<CellList>().unwrap_err().contains("there are limits, all, encode"), "{wrong}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut all = names("all");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Cell::all().len());
    }

    #[test]
    fn targets_hold_from_their_bound_on() {
        assert!(Target::RatioAtLeast(0.75).is_met(0.0, Some(0.75)));
        assert!(!Target::RatioAtLeast(0.75).is_met(9.0, None));
        assert!(!Target::RatioAtMost(1.5).is_met(0.0, Some(1.6)));
        assert!(Target::FigureAtLeast(80e6).is_met(80e6, None));
        assert_eq!(Target::FigureAtLeast(80e6).print(Unit::Records), "≥ 80.0 M/s");
    }
}
