//! What was done, counted.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counts, and what was found broken.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<&'static str, u64>,
    pub(super) broken: Vec<String>,
}

/// All that is counted, in the order in which it is told.
const ROWS: [&str; 20] = [
    "rounds",
    "rounds, buffered",
    "rounds, blocking",
    "rounds, uring",
    "stores",
    "power cuts",
    "deaths of the process alone",
    "of both, while opening",
    "epochs acknowledged",
    "openings compared",
    "faults that struck",
    "syncs of a log failed, pages kept",
    "syncs of a log failed, pages dropped",
    "syncs of a log failed, pages half",
    "other syncs failed",
    "syncs of directories failed",
    "writes failed",
    "writes made short",
    "cores latched",
    "acknowledged after a failed sync",
];

impl Tally {
    /// Counts.
    pub(super) fn count(&mut self, what: &'static str, by: u64) {
        debug_assert!(ROWS.contains(&what), "{what}");
        *self.counts.entry(what).or_default() += by;
    }

    /// Takes another's in.
    pub(super) fn add(&mut self, other: Self) {
        for (what, count) in other.counts {
            self.count(what, count);
        }
        self.broken.extend(other.broken);
    }

    /// For people.
    pub(super) fn text(&self, time: Duration) -> String {
        let mut text = String::new();
        for what in ROWS {
            text += &format!("{what:<38} {}\n", self.counts.get(what).copied().unwrap_or(0));
        }
        let minutes = time.as_secs_f64() / 60.0;
        let rounds = self.counts.get("rounds").copied().unwrap_or(0);
        text + &format!("{:<38} {:.0} s, {:.0} rounds a minute\n", "time", time.as_secs_f64(), rounds as f64 / minutes)
    }
}
