//! What came out, for people, for programs and for a page of documentation.

use std::fmt::Write;

use serde::Serialize;

use crate::Args;
use crate::cells::Cell;
use crate::machine::Machine;
use crate::peers::{Kind, Peer};
use crate::run::Outcome;
use crate::syncs::Syncs;

#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    runs: usize,
    seconds_per_cell: f64,
    cells: Vec<Column>,
    rows: Vec<Row>,
    against_best: Vec<Against>,
}

/// A row of corewal's against the best peer that syncs, by cell; above 1 corewal is better.
#[derive(Serialize)]
struct Against {
    name: &'static str,
    cells: Vec<Option<Best>>,
}

#[derive(Serialize)]
struct Column {
    cell: Cell,
    unit: &'static str,
    meaning: &'static str,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    version: &'static str,
    #[serde(skip)]
    kind: Kind,
    sync_call: &'static str,
    /// `None`: not counted, because strace is missing.
    syncs_a_commit: Option<Syncs>,
    syncs: Option<bool>,
    cells: Vec<Figure>,
}

/// A cell of the table.
#[derive(Serialize, Default)]
struct Figure {
    median: Option<f64>,
    least: f64,
    most: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    how: Option<String>,
    /// Records read back and compared, in all runs.
    compared: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct Best {
    ratio: f64,
    peer: &'static str,
}

impl Figure {
    fn of(outcomes: Vec<Outcome>) -> Self {
        let mut measures = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(Some(measure)) => measures.push(measure),
                Ok(None) => {}
                Err(error) => return Self { error: Some(error), ..Self::default() },
            }
        }
        measures.sort_by(|a, b| a.value.total_cmp(&b.value));
        let (Some(first), Some(last)) = (measures.first(), measures.last()) else {
            return Self::default();
        };
        let middle = &measures[measures.len() / 2];
        Self {
            median: Some((measures[(measures.len() - 1) / 2].value + middle.value) / 2.0),
            least: first.value,
            most: last.value,
            p50_us: middle.p50,
            p99_us: middle.p99,
            how: middle.how.clone(),
            compared: measures.iter().filter_map(|measure| measure.compared).sum(),
            error: None,
        }
    }

    /// The median, and how far the runs lie apart.
    fn text(&self) -> (String, String) {
        match (self.median, &self.error) {
            (Some(median), _) => {
                let range = if self.least == self.most {
                    String::new()
                } else {
                    format!("{}–{}", short(self.least), short(self.most))
                };
                (short(median), range)
            }
            (None, Some(_)) => ("failed".into(), String::new()),
            (None, None) => ("–".into(), String::new()),
        }
    }
}

impl Report {
    pub(crate) fn new(
        peers: &[Peer],
        cells: &[Cell],
        machine: Machine,
        args: &Args,
        syncs: Vec<Option<Syncs>>,
        outcomes: Vec<Vec<Vec<Outcome>>>,
    ) -> Self {
        let runs = outcomes.iter().flatten().map(Vec::len).max().unwrap_or(0);
        let rows: Vec<Row> = peers
            .iter()
            .zip(syncs)
            .zip(outcomes)
            .map(|((peer, syncs), outcomes)| Row {
                name: peer.name,
                version: peer.version,
                kind: peer.kind,
                sync_call: peer.sync_call,
                syncs_a_commit: syncs,
                syncs: syncs.map(|syncs| syncs.enough()),
                cells: outcomes.into_iter().map(Figure::of).collect(),
            })
            .collect();
        let columns = cells.iter().map(|cell| Column { cell: *cell, unit: cell.unit(), meaning: cell.meaning() });
        let own = rows.iter().filter(|row| matches!(row.kind, Kind::Corewal | Kind::Steady));
        let against_best = own
            .map(|row| Against {
                name: row.name,
                cells: (0..cells.len()).map(|at| against_best(&rows, row, cells[at], at)).collect(),
            })
            .collect();
        let (cells, seconds_per_cell) = (columns.collect(), args.seconds_per_cell);
        Self { machine, runs, seconds_per_cell, cells, rows, against_best }
    }

    /// For a terminal: few enough columns a table to fit.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}\n{}\n", self.machine.line(), self.bounds());
        let columns: Vec<usize> = (0..self.cells.len()).collect();
        for group in columns.chunks(6) {
            out.push('\n');
            for line in align(&self.table(group)) {
                out.push_str(&line);
                out.push('\n');
            }
        }
        out.push('\n');
        for note in self.notes() {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    pub(crate) fn markdown(&self) -> String {
        let mut out =
            String::from("## Beside others — `cargo run --release --manifest-path bench/peers/Cargo.toml`\n\n");
        let _ = writeln!(out, "Machine: {}. {}\n", self.machine.line(), self.bounds());
        let columns: Vec<usize> = (0..self.cells.len()).collect();
        for group in columns.chunks(6) {
            let table = self.table(group);
            for (number, row) in table.iter().enumerate() {
                let _ = writeln!(out, "| {} |", row.join(" | "));
                if number == 0 {
                    let _ = writeln!(out, "|{}", "---|".repeat(row.len()));
                }
            }
            out.push('\n');
        }
        for note in self.notes() {
            let _ = writeln!(out, "* {note}");
        }
        out
    }

    fn bounds(&self) -> String {
        format!(
            "{} run{}, a cell {} s; medians, beside them the least and the most. Keys of 16 bytes, values of 100 unless said.",
            self.runs,
            if self.runs == 1 { "" } else { "s" },
            self.seconds_per_cell
        )
    }

    fn table(&self, columns: &[usize]) -> Vec<Vec<String>> {
        let mut table = vec![vec![String::new(), "syncs/commit".to_owned()]];
        table[0].extend(columns.iter().map(|&at| format!("{}, {}", self.cells[at].cell.name(), self.cells[at].unit)));
        for row in &self.rows {
            let syncs = row.syncs_a_commit.map_or("?".into(), |syncs| syncs.text());
            let mark = if row.syncs == Some(false) { " ✗" } else { "" };
            let mut line = vec![format!("{}{mark}", row.name), syncs];
            for &at in columns {
                let (median, range) = row.cells[at].text();
                let void =
                    row.syncs == Some(false) && self.cells[at].cell.is_durable() && row.cells[at].median.is_some();
                let text = format!("{median} {range}").trim_end().to_owned();
                line.push(if void { format!("({text})") } else { text });
            }
            table.push(line);
        }
        for Against { name, cells } in &self.against_best {
            if columns.iter().all(|&at| cells[at].is_none()) {
                continue;
            }
            let mut line = vec![format!("{name} to the best peer"), String::new()];
            line.extend(columns.iter().map(|&at| {
                cells[at].as_ref().map_or("–".into(), |best| format!("{}× {}", short(best.ratio), best.peer))
            }));
            table.push(line);
        }
        table
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> =
            self.cells.iter().map(|column| format!("{}: {}.", column.cell.name(), column.meaning)).collect();
        for (at, column) in
            self.cells.iter().enumerate().filter(|(_, column)| matches!(column.cell, Cell::S1 | Cell::P32))
        {
            let latencies: Vec<String> = self
                .rows
                .iter()
                .filter_map(|row| {
                    let figure = &row.cells[at];
                    let how = figure
                        .how
                        .as_deref()
                        .filter(|_| column.cell == Cell::P32)
                        .map_or(String::new(), |how| format!(" ({how})"));
                    Some(format!("{} {:.0}/{:.0}{how}", row.name, figure.p50_us?, figure.p99_us?))
                })
                .collect();
            notes.push(format!("{} latency, p50/p99 in µs: {}.", column.cell.name(), latencies.join(", ")));
        }
        notes.push(if self.rows.iter().any(|row| row.syncs.is_none()) {
            "Syncs a commit, where given, were counted with strace over 50 commits; a question mark: not counted."
                .into()
        } else {
            "Syncs a commit were counted with strace over 50 commits: fsync, fdatasync, msync and synchronous writes; \
             \"ring\": calls of io_uring_enter, whose content strace does not show."
                .into()
        });
        if self.rows.iter().any(|row| row.syncs == Some(false)) {
            notes.push("✗: does not sync each commit; its durable cells are in brackets and do not count.".into());
        }
        notes.push(
            "Every log was opened anew after its measurement and compared record by record with what was written \
             (where old segments are recycled: what is still in it)."
                .into(),
        );
        for row in &self.rows {
            for (figure, column) in row.cells.iter().zip(&self.cells) {
                if let Some(error) = &figure.error {
                    notes.push(format!("{} {}: {error}", row.name, column.cell.name()));
                }
            }
        }
        notes
    }
}

/// A row of corewal's against the best peer that syncs, or of which it is not known.
fn against_best(rows: &[Row], own: &Row, cell: Cell, at: usize) -> Option<Best> {
    let own = own.cells[at].median?;
    let score = |value: f64| if cell.is_cost() { 1.0 / value } else { value };
    let counts = |row: &&Row| row.kind == Kind::Peer && !(cell.is_durable() && row.syncs == Some(false));
    let best = rows.iter().filter(counts).filter_map(|row| Some((row.name, row.cells[at].median?)));
    let (peer, value) = best.max_by(|a, b| score(a.1).total_cmp(&score(b.1)))?;
    let ratio = if own == value { 1.0 } else { score(own) / score(value) };
    ratio.is_finite().then_some(Best { ratio, peer })
}

/// Three digits and a letter.
fn short(value: f64) -> String {
    let (scaled, letter) = match value {
        value if value >= 0.9995e9 => (value / 1e9, "G"),
        value if value >= 0.9995e6 => (value / 1e6, "M"),
        value if value >= 0.9995e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = match scaled {
        0.0 => 0,
        scaled if scaled < 0.0995 => 3,
        scaled if scaled < 9.995 => 2,
        scaled if scaled < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{letter}")
}

fn align(table: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

pub(crate) fn print_syncs(peers: &[Peer], syncs: &[Option<Syncs>]) {
    for (peer, syncs) in peers.iter().zip(syncs) {
        let (text, mark) = syncs.map_or(("not counted: strace is missing".into(), ""), |syncs| {
            (syncs.text(), if syncs.enough() { "" } else { "  does not sync each commit" })
        });
        println!("{:<32} {text:<18} {}{mark}", peer.name, peer.sync_call);
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn figures_are_short() {
        let figures = [0.0, 0.0123, 2.2, 35.52, 9_990.0, 10_610.0, 2_470_000.0, 1_084_000_000.0, 999_800.0];
        assert_eq!(figures.map(short), ["0", "0.012", "2.20", "35.5", "9990", "10.6k", "2.47M", "1.08G", "1.00M"]);
    }
}
