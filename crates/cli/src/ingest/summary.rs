//! What an ingest tells at its end.

use std::io::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::reader::Counts;
use crate::exit::Failure;

/// The facts.
#[derive(Debug)]
pub(super) struct Summary {
    /// What was read in this run.
    pub(super) counts: Counts,
    /// Rejected in all runs.
    pub(super) rejected_ever: u64,
    /// Keys of the store.
    pub(super) keys: u64,
    /// Where the sources were taken up, by name, in the order given.
    pub(super) resumed: Vec<(String, u64)>,
    /// From the opened store to the closed one.
    pub(super) time: Duration,
    /// From each barrier's arrival at a core until it was durable, in µs.
    pub(super) commits: Histogram<u64>,
    /// Whether the user left before the end.
    pub(super) interrupted: bool,
}

impl Summary {
    /// Prints it.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let text = if json { self.json().to_string() + "\n" } else { self.text() };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate has few digits")]
    fn rate(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { self.counts.records as f64 / seconds } else { 0.0 }
    }

    fn quantile(&self, quantile: f64) -> Option<u64> {
        (!self.commits.is_empty()).then(|| self.commits.value_at_quantile(quantile))
    }

    fn json(&self) -> Value {
        let resumed: Map<String, Value> = self.resumed.iter().map(|(name, at)| (name.clone(), json!(at))).collect();
        json!({
            "records": self.counts.records,
            "rejected": self.counts.rejected,
            "rejected_ever": self.rejected_ever,
            "keys": self.keys,
            "epochs": self.counts.epochs,
            "resumed_from": if resumed.is_empty() { Value::Null } else { Value::Object(resumed) },
            "interrupted": self.interrupted,
            "seconds": self.time.as_secs_f64(),
            "records_per_second": self.rate(),
            "commit_us_p50": self.quantile(0.5),
            "commit_us_p99": self.quantile(0.99),
        })
    }

    fn text(&self) -> String {
        let Counts { records, rejected, epochs } = self.counts;
        let mut lines = vec![("records", records.to_string())];
        let ever = self.rejected_ever;
        lines.push((
            "rejected",
            if ever == rejected { rejected.to_string() } else { format!("{rejected} ({ever} in all runs)") },
        ));
        lines.push(("keys", self.keys.to_string()));
        lines.push(("epochs", epochs.to_string()));
        for (name, at) in &self.resumed {
            lines.push(("resumed", format!("{name} from byte {at}")));
        }
        lines.push(("time", format!("{:.3} s", self.time.as_secs_f64())));
        lines.push(("rate", format!("{:.0} records/s", self.rate())));
        if let (Some(p50), Some(p99)) = (self.quantile(0.5), self.quantile(0.99)) {
            lines.push(("commit", format!("{} p50, {} p99, from barrier to durable", millis(p50), millis(p99))));
        }
        if self.interrupted {
            lines.push(("interrupted", "before the end; run it again to go on".to_owned()));
        }
        lines.iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let mut commits = super::super::worker::histogram();
        commits.record(1500).unwrap();
        Summary {
            counts: Counts { records: 200, rejected: 2, epochs: 1 },
            rejected_ever: 5,
            keys: 7,
            resumed: vec![("f".into(), 40)],
            time: Duration::from_millis(500),
            commits,
            interrupted: false,
        }
    }

    #[test]
    fn json_has_the_names_of_the_contract() {
        let json = summary().json();
        assert_eq!(json["records"], 200);
        assert_eq!(json["rejected"], 2);
        assert_eq!(json["keys"], 7);
        assert_eq!(json["epochs"], 1);
        assert_eq!(json["resumed_from"], json!({"f": 40}));
        assert_eq!(json["seconds"], 0.5);
        assert_eq!(json["records_per_second"], 400.0);
        assert_eq!((&json["commit_us_p50"], &json["commit_us_p99"]), (&json!(1500), &json!(1500)));
        let nothing = Summary { resumed: vec![], commits: super::super::worker::histogram(), ..summary() }.json();
        assert_eq!((&nothing["resumed_from"], &nothing["commit_us_p50"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn text_tells_the_same() {
        let text = Summary { interrupted: true, ..summary() }.text();
        for part in ["2 (5 in all runs)", "f from byte 40", "400 records/s", "1.500 ms p50", "run it again to go on"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
