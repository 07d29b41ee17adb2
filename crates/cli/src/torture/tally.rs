//! What a torture did, and telling it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::oracle::{Promise, Violation};

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
    /// How often each promise was checked.
    pub(super) checks: BTreeMap<Promise, u64>,
    /// The promises broken.
    pub(super) violations: Vec<Violation>,
    /// Time taken.
    pub(super) time: Duration,
}

impl Tally {
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
        text += &format!(
            "{:<24} {:.1} s\n\n{:<24} {:>8} {:>8}\n",
            "time",
            self.time.as_secs_f64(),
            "promise",
            "checked",
            "broken"
        );
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
        tally.violations.push(Violation { promise: Promise::Durable, detail: "lost".into() });
        let json = tally.json();
        assert_eq!((&json["ok"], &json["seed"], &json["kills"]), (&json!(false), &json!(9), &json!(3)));
        assert_eq!(json["checks"]["durable"], 2);
        assert_eq!(json["violations"][0], json!({"promise": "durable", "detail": "lost"}));
        let text = tally.text();
        assert!(text.lines().any(|line| line.split_whitespace().eq(["durable", "2", "1"])), "{text}");
    }
}
