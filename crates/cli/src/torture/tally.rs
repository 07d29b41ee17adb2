//! What a torture did, and telling it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::oracle::{Promise, Violation};

/// What came of one kind of fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// How often it was made.
    pub(super) made: u64,
    /// Openings after it, in each of which everything was compared.
    pub(super) openings: u64,
    /// Of them: those that cut an unfinished write off.
    pub(super) torn: u64,
    /// Of them: those that were refused, for damage.
    pub(super) refused: u64,
    /// Of them: those of damaged copies that came back at an earlier epoch, as
    /// the documents allow.
    pub(super) window: u64,
    /// The writing process ended by itself, since a write failed.
    pub(super) ended: u64,
}

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The seed it began with.
    pub(super) seed: u64,
    /// Cores of the store.
    pub(super) cores: u16,
    /// Processes killed.
    pub(super) kills: u64,
    /// Of them: before they had opened the store.
    pub(super) kills_while_opening: u64,
    /// Stores begun: a new one when the log has grown long.
    pub(super) stores: u64,
    /// Epochs that a child called complete.
    pub(super) epochs_acknowledged: u64,
    /// Operations that were recovered, over all stores.
    pub(super) records: u64,
    /// Openings after which everything was compared.
    pub(super) recoveries: u64,
    /// Of them: after an orderly close.
    pub(super) clean: u64,
    /// Recoveries that cut an unfinished write off.
    pub(super) torn_tails: u64,
    /// The bytes they cut.
    pub(super) torn_bytes: u64,
    /// Records that recoveries rolled back.
    pub(super) rolled_back: u64,
    /// Other verbs killed.
    pub(super) verbs_killed: u64,
    /// Directories in which repairs kept what they changed.
    pub(super) kept_aside: u64,
    /// What came of each kind of fault that was asked for.
    pub(super) faults: BTreeMap<Fault, Outcome>,
    /// Somebody has ended it.
    pub(super) interrupted: bool,
    /// How often each promise was checked.
    pub(super) checks: BTreeMap<Promise, u64>,
    /// The promises broken.
    pub(super) violations: Vec<Violation>,
    /// Time taken.
    pub(super) time: Duration,
}

impl Tally {
    /// Of nothing yet.
    pub(super) fn new(seed: u64, cores: u16, faults: &[Fault]) -> Self {
        let faults = faults.iter().map(|fault| (*fault, Outcome::default())).collect();
        Self { seed, cores, faults, ..Self::default() }
    }

    /// What came of a kind of fault.
    pub(super) fn of(&mut self, fault: Fault) -> &mut Outcome {
        self.faults.entry(fault).or_default()
    }

    /// Counts a check of promises.
    pub(super) fn checked(&mut self, promises: &[Promise]) {
        for promise in promises {
            *self.checks.entry(*promise).or_default() += 1;
        }
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("kills", self.kills),
            ("kills_while_opening", self.kills_while_opening),
            ("stores", self.stores),
            ("epochs_acknowledged", self.epochs_acknowledged),
            ("records", self.records),
            ("recoveries", self.recoveries),
            ("recoveries_after_close", self.clean),
            ("torn_tails", self.torn_tails),
            ("torn_bytes", self.torn_bytes),
            ("rolled_back_records", self.rolled_back),
            ("verbs_killed", self.verbs_killed),
            ("repairs_kept_aside", self.kept_aside),
        ]
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let mut all: Map<String, Value> = Map::new();
        all.insert("ok".into(), json!(self.violations.is_empty()));
        all.insert("seed".into(), json!(self.seed));
        all.insert("cores".into(), json!(self.cores));
        all.insert("seconds".into(), json!(self.time.as_secs_f64()));
        all.extend(self.rows().into_iter().map(|(name, count)| (name.to_owned(), json!(count))));
        all.insert("interrupted".into(), json!(self.interrupted));
        let fault = |(fault, outcome): (&Fault, &Outcome)| {
            let Outcome { made, openings, torn, refused, window, ended } = *outcome;
            let value = json!({
                "made": made,
                "openings": openings,
                "torn": torn,
                "refused": refused,
                "earlier": window,
                "writer_ended": ended,
            });
            (fault.name().to_owned(), value)
        };
        all.insert("faults".into(), Value::Object(self.faults.iter().map(fault).collect()));
        let checks: Map<String, Value> =
            self.checks.iter().map(|(promise, count)| (promise.name().to_owned(), json!(count))).collect();
        all.insert("checks".into(), Value::Object(checks));
        let violations = self.violations.iter();
        let violations = violations.map(|found| json!({ "promise": found.promise.name(), "detail": found.detail }));
        all.insert("violations".into(), violations.collect());
        Value::Object(all)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:<24} {}\n{:<24} {}\n", "seed", self.seed, "cores", self.cores);
        for (name, count) in self.rows() {
            text += &format!("{:<24} {count}\n", name.replace('_', " "));
        }
        let ended = if self.interrupted { " (interrupted)" } else { "" };
        text += &format!("{:<24} {:.1} s{ended}\n", "time", self.time.as_secs_f64());
        text += &format!(
            "\n{:<12} {:>8} {:>8} {:>10} {:>8} {:>8} {:>12}\n",
            "fault", "made", "openings", "torn tails", "refused", "earlier", "writer ended"
        );
        for (fault, Outcome { made, openings, torn, refused, window, ended }) in &self.faults {
            text += &format!("{fault:<12} {made:>8} {openings:>8} {torn:>10} {refused:>8} {window:>8} {ended:>12}\n");
        }
        text += &format!("\n{:<24} {:>8} {:>8}\n", "promise", "checked", "broken");
        for promise in Promise::ALL {
            let checked = self.checks.get(&promise).copied().unwrap_or(0);
            let broken = self.violations.iter().filter(|found| found.promise == promise).count();
            text += &format!("{:<24} {checked:>8} {broken:>8}\n", promise.name());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_tell_the_violations() {
        let mut tally = Tally { seed: 9, kills: 3, ..Tally::default() };
        tally.checked(&[Promise::Durable, Promise::Durable]);
        assert_eq!(tally.json()["ok"], true);
        tally.of(Fault::Damage).refused += 7;
        assert_eq!(tally.json()["faults"]["damage"]["refused"], 7);
        assert!(tally.text().lines().any(|line| line.split_whitespace().eq(["damage", "0", "0", "0", "7", "0", "0"])));
        tally.violations.push(Violation { promise: Promise::Durable, detail: "lost".into() });
        let json = tally.json();
        assert_eq!((&json["ok"], &json["seed"], &json["kills"]), (&json!(false), &json!(9), &json!(3)));
        assert_eq!(json["checks"]["durable"], 2);
        assert_eq!(json["violations"][0], json!({"promise": "durable", "detail": "lost"}));
        let text = tally.text();
        assert!(text.lines().any(|line| line.split_whitespace().eq(["durable", "2", "1"])), "{text}");
    }
}
