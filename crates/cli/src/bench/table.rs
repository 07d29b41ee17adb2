//! The results, for people.

use std::fmt::Write as _;

use super::figures::{Latencies, Unit};
use super::limits::{Limit, LimitRow};
use super::results::{Results, Row};
use super::work::{KEY_LEN, VALUE_LEN};

/// Below the table: what the figures are and are not.
pub(super) const NOTES: [&str; 5] = [
    "A figure is the median of the runs; ± is half of the distance between the least and the most. A ratio is taken \
     within a run, of the figure to the limit, and its median is shown.",
    "The limits are measured beside the cells, by a loop of its own: blocks written before are \
     written again, each with its own sync.",
    "Logs are in a steady state: what lies behind is released each 128 MiB, as checkpoints would do, and its segments are \
     written over again; that work is in the figures. (Not in K, whose log only grows, and not with --quick.) Every \
     store was opened again and gave back what was acknowledged and not released.",
    "P: every commit is a frame with its own sync; frames that are asked for together go out as one write. G: commits of a turn of the program's loop share a frame. S, T2, K: a sync a commit, without waiting for it. B: a frame is a MiB. \
     R, C, O: the page cache is warm. O1 and O2: few keys; O1d and O2d: a key a record.",
    "H: commits arrive at fixed times, half as many as P32 took; latency counts from the time a commit was due. \
     The program sleeps while there is nothing to do.",
];

/// All of it.
pub(super) fn print(results: &Results) -> String {
    let mut text = format!("{}\n", results.machine.line());
    let _ = writeln!(text, "{}", setting(results));
    for backend in &results.backends {
        let _ = match &backend.storage {
            Ok((_, path)) => writeln!(text, "{:<10} {path}", backend.io),
            Err(reason) => writeln!(text, "{:<10} left out: {reason}", backend.io),
        };
    }
    text += &format!("\n{:<34} {:>12} {:>6} {:>11} {:>9} {:>9}\n", "limit", "figure", "±", "bandwidth", "p50", "p99");
    for (limit, row) in &results.limits {
        text += limit_line(*limit, row).trim_end();
        text.push('\n');
    }
    if !results.rows.is_empty() {
        text += &format!(
            "\n{:<7} {:<9} {:>11} {:>6} {:>11} {:>7}  {:<19} {:>9} {:>9}  against\n",
            "cell", "backend", "figure", "±", "limit", "ratio", "target", "p50", "p99"
        );
    }
    for row in &results.rows {
        text += line(row).trim_end();
        text.push('\n');
    }
    text.push('\n');
    let mut told = Vec::new();
    for row in &results.rows {
        if !told.contains(&row.cell) {
            told.push(row.cell);
            let _ = writeln!(text, "{:<7} {}", row.cell.to_string(), row.cell.title());
        }
    }
    text.push('\n');
    NOTES.iter().for_each(|note| text += &format!("{note}\n"));
    text
}

/// How it was measured, in one line.
pub(super) fn setting(results: &Results) -> String {
    let runs = results.runs;
    let quick = if results.quick { "; quick: these figures are not to be quoted" } else { "" };
    let interrupted = if results.interrupted { "; interrupted before the end" } else { "" };
    format!(
        "{KEY_LEN}-byte keys, {VALUE_LEN}-byte values; {runs} run(s) in {:.0} s{quick}{interrupted}",
        results.seconds
    )
}

fn limit_line(limit: Limit, row: &LimitRow) -> String {
    let median = row.figure.median();
    let bandwidth = limit.bandwidth(median).map_or_else(String::new, |bytes| Unit::Bytes.print(bytes));
    let [p50, p99] = quantiles(Some(&row.latencies));
    format!(
        "{limit:<34} {:>12} {:>6} {bandwidth:>11} {p50:>9} {p99:>9}",
        limit.unit().print(median),
        row.figure.deviation()
    )
}

fn line(row: &Row) -> String {
    let unit = row.cell.unit();
    let met = mark(row.is_met());
    let [p50, p99] = quantiles(row.latencies.as_ref());
    format!(
        "{:<7} {:<9} {:>11} {:>6} {:>11} {:>7}{met} {:<19} {p50:>9} {p99:>9}  {}",
        row.cell,
        row.io,
        unit.print(row.figure.median()),
        row.figure.deviation(),
        row.limit.print(|limit| unit.print(limit)),
        row.ratio.print(|ratio| format!("{ratio:.2}x")),
        row.target(),
        row.against,
    )
}

/// Whether a target is met, for people.
pub(super) fn mark(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "✓",
        Some(false) => "✗",
        None => " ",
    }
}

/// p50 and p99, for people.
pub(super) fn quantiles(latencies: Option<&Latencies>) -> [String; 2] {
    [0.5, 0.99].map(|quantile| {
        let latency = latencies.and_then(|latencies| latencies.quantile(quantile));
        latency.map_or_else(String::new, |nanos| Unit::Latency.print(nanos))
    })
}
