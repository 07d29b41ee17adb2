//! What a person sees while records are read: a bar, and remarks above it.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::spec::Spec;
use crate::source::Place;

/// So many rejected records are told one by one.
const TOLD: u64 = 5;

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(100);

/// The display on standard error: a bar on a terminal, else remarks only.
pub(super) struct Show {
    bar: Option<ProgressBar>,
    /// How far each source was when it was last shown.
    positions: Vec<u64>,
    drawn: Instant,
    told: u64,
}

impl Show {
    /// Shows the reading of `sources`.
    pub(super) fn new(sources: &[Spec]) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(sources));
        Self { bar, positions: vec![0; sources.len()], drawn: Instant::now(), told: 0 }
    }

    /// The source at `index` is read up to `position`, and `records` were read
    /// of all sources. May be called as often as one likes.
    pub(super) fn moved(&mut self, index: usize, position: u64, records: u64) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.elapsed() < REDRAW {
            return;
        }
        self.drawn = Instant::now();
        // The message first: moving the bar draws it.
        let seconds = bar.elapsed().as_secs_f64();
        if seconds > 0.0 {
            #[allow(clippy::cast_precision_loss, reason = "shown without decimals")]
            let rate = records as f64 / seconds;
            bar.set_message(format!("{records} records, {rate:.0}/s"));
        }
        bar.inc(position.saturating_sub(self.positions[index]));
        self.positions[index] = position;
    }

    /// Tells of a rejected record; of many, only the first ones. One of which
    /// not all is kept is always told.
    pub(super) fn rejected(&mut self, name: &str, place: Place, reason: &str, truncated: bool) {
        if self.told < TOLD || truncated {
            let Place { number, start, .. } = place;
            let rest = if truncated { "; only its beginning is kept" } else { "" };
            self.say(&format!("rejected: {name}, record {number} at byte {start}: {reason}{rest}"));
        } else if self.told == TOLD {
            self.say("rejected: there are more");
        }
        self.told += 1;
    }

    /// Takes the bar away.
    pub(super) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{message}")),
            None => eprintln!("{message}"),
        }
    }
}

fn bar(sources: &[Spec]) -> ProgressBar {
    let total: Option<u64> = sources.iter().map(Spec::length).sum();
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:30} {bytes}/{total_bytes}, {msg}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a sound template"))
}
