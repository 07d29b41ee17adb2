//! What a person sees while it runs.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar, on a terminal only.
pub(super) struct Show(Option<ProgressBar>);

impl Show {
    pub(super) fn new(steps: usize) -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left");
            ProgressBar::new(steps as u64).with_style(style.expect("a sound template"))
        }))
    }

    /// The next step begins.
    pub(super) fn next(&self, run: u32, runs: u32, what: &str) {
        let Some(bar) = &self.0 else { return };
        // The message first: moving the bar draws it.
        bar.set_message(format!("run {run} of {runs}: {what}"));
        bar.inc(1);
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
