//! Figures: what a measurement gives, and several runs of it together.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest latency that is told from others: a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// What a figure counts. In the figures themselves there are no prefixes:
/// nanoseconds, records a second, bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nanoseconds a record.
    NanosPerRecord,
    /// Nanoseconds.
    Latency,
    /// Commits or writes a second.
    Commits,
    /// Records a second.
    Records,
    /// Bytes a second.
    Bytes,
}

impl Unit {
    /// Its name in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NanosPerRecord => "ns/record",
            Self::Latency => "ns",
            Self::Commits => "commits/s",
            Self::Records => "records/s",
            Self::Bytes => "bytes/s",
        }
    }

    /// A figure for people.
    pub(super) fn print(self, figure: f64) -> String {
        match self {
            Self::NanosPerRecord => format!("{figure:.1} ns"),
            Self::Latency if figure < 1e7 => format!("{} µs", digits(figure / 1e3)),
            Self::Latency => format!("{} ms", digits(figure / 1e6)),
            Self::Commits | Self::Records => format!("{}/s", scaled(figure)),
            Self::Bytes => format!("{}B/s", scaled(figure)),
        }
    }
}

/// Three significant digits, with the prefix behind a space.
fn scaled(figure: f64) -> String {
    let (scale, prefix) = match figure {
        _ if figure >= 1e9 => (1e9, "G"),
        _ if figure >= 1e6 => (1e6, "M"),
        _ if figure >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{} {prefix}", digits(figure / scale))
}

fn digits(figure: f64) -> String {
    let decimals = match figure {
        _ if figure >= 100.0 => 0,
        _ if figure >= 10.0 => 1,
        _ => 2,
    };
    format!("{figure:.decimals$}")
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    /// The quantiles that are told.
    pub(super) const QUANTILES: [(&'static str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

    pub(super) fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).expect("a minute");
        Self(Histogram::new_with_bounds(100, longest, 3).expect("bounds in order and few digits"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes in all of another.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// The latency at a quantile, in nanoseconds; `None` if there is none at
    /// all.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "a minute in nanoseconds is less than 2^53")]
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64)
    }

    /// Latency (ns) by the share of all that took no longer, in steps fine
    /// enough to draw, as far as there are samples to tell.
    pub(super) fn distribution(&self) -> Vec<(f64, f64)> {
        let steps = self.0.iter_quantiles(5);
        #[allow(clippy::cast_precision_loss, reason = "as above")]
        let mut points: Vec<_> =
            steps.map(|step| (step.value_iterated_to() as f64, step.quantile_iterated_to())).collect();
        points.dedup_by_key(|point| point.0.to_bits());
        points
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let mut all = json!({ "count": self.0.len(), "min": self.0.min(), "mean": self.0.mean(), "max": self.0.max() });
        for (name, quantile) in Self::QUANTILES {
            all[name] = json!(self.quantile(quantile));
        }
        all["distribution"] = json!(self.distribution());
        all
    }
}

/// The same figure from several runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spread(Vec<f64>);

impl Spread {
    pub(super) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    pub(super) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The median for people; nothing if there is none.
    pub(super) fn print(&self, print: impl Fn(f64) -> String) -> String {
        if self.is_empty() { String::new() } else { print(self.median()) }
    }

    /// Half of the way from the least to the most, in percent of the median,
    /// for people; nothing after a single run.
    pub(super) fn deviation(&self) -> String {
        if self.0.len() < 2 {
            return String::new();
        }
        format!("{:.0} %", (self.max() - self.min()) / 2.0 / self.median() * 100.0)
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        json!({ "median": self.median(), "min": self.min(), "max": self.max(), "runs": self.0 })
    }
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (unit, figure, text) in [
            (Unit::NanosPerRecord, 17.04, "17.0 ns"),
            (Unit::Latency, 90_400.0, "90.4 µs"),
            (Unit::Latency, 2_500_000.0, "2500 µs"),
            (Unit::Latency, 84_017_000.0, "84.0 ms"),
            (Unit::Commits, 62_123.0, "62.1 k/s"),
            (Unit::Records, 4_630_000.0, "4.63 M/s"),
            (Unit::Bytes, 2.93e9, "2.93 GB/s"),
            (Unit::Bytes, 643e6, "643 MB/s"),
            (Unit::Commits, 12.0, "12.0 /s"),
        ] {
            assert_eq!(unit.print(figure), text);
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let spread: Spread = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!((spread.median(), spread.min(), spread.max()), (2.0, 1.0, 3.0));
        assert_eq!([4.0, 1.0, 2.0, 3.0].into_iter().collect::<Spread>().median(), 2.5);
        assert_eq!(Spread::default().json(), Value::Null);
    }

    #[test]
    fn latencies_come_back_by_quantile() {
        let mut latencies = Latencies::new();
        for micros in 1..=1000 {
            latencies.record(Duration::from_micros(micros));
        }
        let p50 = latencies.quantile(0.5).unwrap();
        assert!((495e3..505e3).contains(&p50), "{p50}");
        let distribution = latencies.distribution();
        assert!(distribution.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(latencies.json()["count"], 1000);
        assert_eq!(Latencies::new().quantile(0.5), None);
    }
}
