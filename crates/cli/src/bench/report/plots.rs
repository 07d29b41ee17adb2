//! The plots, as SVG.

use std::ops::Range;

use plotters::prelude::*;

use super::super::cell::{Cell, DEPTH};
use super::super::figures::Latencies;
use super::super::limits::Limit;
use super::super::results::Results;
use crate::exit::Failure;
use crate::medium::Io;

const SIZE: (u32, u32) = (640, 400);
const INK: RGBColor = RGBColor(52, 64, 84);
const FAINT: RGBColor = RGBColor(234, 236, 240);
const MACHINE: RGBColor = RGBColor(152, 162, 179);

/// One line of a plot.
struct Line {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// An axis: what it counts, how far one goes from tick to tick, and how a tick
/// is printed. Plots are drawn in [`Axis::place`]s, so that every axis is
/// linear with whole steps.
#[derive(Clone, Copy)]
struct Axis {
    title: &'static str,
    /// The factor from tick to tick; 0 where values are places already.
    factor: f64,
    tick: fn(f64) -> String,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        if self.factor > 0.0 { value.ln() / self.factor.ln() } else { value }
    }

    fn print(&self, place: f64) -> String {
        (self.tick)(if self.factor > 0.0 { self.factor.powf(place) } else { place })
    }

    /// The places from one whole step to another that hold all values.
    fn span(&self, values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
        let places = values.map(|value| self.place(value));
        let least = places.clone().fold(f64::INFINITY, f64::min).floor();
        least..places.fold(least + 1.0, f64::max).ceil()
    }
}

const LATENCY: Axis = Axis { title: "latency", factor: 10.0, tick: print_latency };
const SHARE: Axis = Axis { title: "share of commits that took no longer", factor: 0.0, tick: print_nines };
const DEPTHS: Axis = Axis { title: "commits in flight", factor: 2.0, tick: |depth| format!("{depth:.0}") };
const COMMITS: Axis = Axis { title: "durable commits a second", factor: 10.0, tick: print_rate };
const BATCHES: Axis = Axis { title: "records a commit", factor: 4.0, tick: |batch| format!("{batch:.0}") };
const RECORDS: Axis = Axis { title: "durable records a second", factor: 10.0, tick: print_rate };

/// All plots for which there is something to draw.
pub(super) fn all(results: &Results) -> Result<Vec<String>, Failure> {
    let mut plots = Vec::new();
    for (cell, limit) in [
        (Cell::Single, Some(Limit::writes(4 << 10, 1))),
        (Cell::InFlight(DEPTH), Some(Limit::writes(4 << 10, DEPTH))),
        (Cell::HalfLoad, None),
    ] {
        let title = format!("Latency: {}", cell.title().replace(" (p50)", "").replace(" (p99)", ""));
        plots.push((title, LATENCY, SHARE, distributions(results, cell, limit)));
    }
    plots.push(("Commits by depth".to_owned(), DEPTHS, COMMITS, by_depth(results)));
    let title = format!("Throughput by batch, {DEPTH} commits in flight");
    plots.push((title, BATCHES, RECORDS, by_batch(results)));
    plots
        .into_iter()
        .filter_map(|(title, x, y, mut lines)| {
            lines.retain(|line| line.points.len() > 1);
            (!lines.is_empty()).then(|| draw(&title, x, y, &lines))
        })
        .collect()
}

fn color(io: Io) -> RGBColor {
    match io {
        Io::Auto => RGBColor(105, 65, 198),
        Io::Uring => RGBColor(21, 94, 239),
        Io::Blocking => RGBColor(220, 104, 3),
        Io::Buffered => RGBColor(9, 146, 80),
    }
}

fn distributions(results: &Results, cell: Cell, limit: Option<Limit>) -> Vec<Line> {
    let points = |latencies: &Latencies| {
        let shares = latencies.distribution().into_iter();
        shares.filter(|(_, share)| *share < 1.0).map(|(nanos, share)| (nanos, nines(share))).collect()
    };
    let machine = limit.and_then(|limit| {
        let row = results.limits.get(&limit)?;
        Some(Line { name: limit.to_string(), color: MACHINE, points: points(&row.latencies) })
    });
    let rows = results.of(cell).filter_map(|row| {
        Some(Line { name: row.io.to_string(), color: color(row.io), points: points(row.latencies.as_ref()?) })
    });
    machine.into_iter().chain(rows).collect()
}

fn by_depth(results: &Results) -> Vec<Line> {
    let depths =
        |cell: Cell| if let Cell::InFlight(depth) = cell { Some(f64::from(u32::try_from(depth).ok()?)) } else { None };
    with_limit(results, "raw 4 KiB writes", depths)
}

fn by_batch(results: &Results) -> Vec<Line> {
    // One record a commit at the same depth is P32.
    let batches = |cell: Cell| match cell {
        Cell::Batch(batch) => Some(f64::from(u32::try_from(batch).ok()?)),
        Cell::InFlight(DEPTH) => Some(1.0),
        _ => None,
    };
    with_limit(results, "raw writes of the same size", batches)
}

/// Figures of the cells that have an `x`, and the best limit at each.
fn with_limit(results: &Results, machine: &str, x: impl Fn(Cell) -> Option<f64>) -> Vec<Line> {
    let mut lines = vec![Line { name: machine.to_owned(), color: MACHINE, points: Vec::new() }];
    for row in &results.rows {
        let Some(x) = x(row.cell) else { continue };
        let name = row.io.to_string();
        let at = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            lines.push(Line { name, color: color(row.io), points: Vec::new() });
            lines.len() - 1
        });
        lines[at].points.push((x, row.figure.median()));
        let limit = row.limit.median();
        match lines[0].points.iter_mut().find(|point| point.0.to_bits() == x.to_bits()) {
            Some(point) => point.1 = point.1.max(limit),
            None => lines[0].points.push((x, limit)),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|one, other| one.0.total_cmp(&other.0)));
    lines
}

/// How many nines a share has: 0.9 has one, 0.99 two. It spreads the slowest
/// commits out, which matter most.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn print_nines(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    match nines {
        _ if nines < 0.01 => "0 %".to_owned(),
        _ if nines < 2.01 => format!("{percent:.0} %"),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few decimals")]
        _ => format!("{percent:.0$} %", nines.round() as usize - 2),
    }
}

fn print_latency(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e6 => format!("{:.0} µs", nanos / 1e3),
        nanos if nanos < 1e9 => format!("{:.0} ms", nanos / 1e6),
        nanos => format!("{:.0} s", nanos / 1e9),
    }
}

fn print_rate(rate: f64) -> String {
    match rate {
        rate if rate < 1e3 => format!("{rate:.0}"),
        rate if rate < 1e6 => format!("{:.0} k", rate / 1e3),
        rate => format!("{:.0} M", rate / 1e6),
    }
}

fn draw(title: &str, x: Axis, y: Axis, lines: &[Line]) -> Result<String, Failure> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (xs, ys) = (x.span(points().map(|point| point.0)), y.span(points().map(|point| point.1)));
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let text = ("sans-serif", 13).into_font().color(&INK);
    // As many ticks as there are whole steps.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and few")]
    let ticks = |span: &Range<f64>| (span.end - span.start) as usize + 1;
    let (x_ticks, y_ticks) = (ticks(&xs), ticks(&ys));
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 17).into_font().style(FontStyle::Bold).color(&INK))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(80)
        .build_cartesian_2d(xs, ys)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(MACHINE)
        .label_style(text.clone())
        .x_desc(x.title)
        .y_desc(y.title)
        .x_labels(x_ticks)
        .y_labels(y_ticks)
        .x_label_formatter(&|place| x.print(*place))
        .y_label_formatter(&|place| y.print(*place))
        .draw()?;
    let places = |line: &Line| {
        line.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect::<Vec<_>>().into_iter()
    };
    for line in lines {
        let style = line.color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(places(line), style))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // Lines of many points are curves; those of few have points to see.
        if line.points.len() < 16 {
            chart.draw_series(places(line).map(|place| Circle::new(place, 3, line.color.filled())))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(10)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font(text)
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_goes_from_whole_step_to_whole_step() {
        assert_eq!(DEPTHS.span([1.0, 64.0].into_iter()), 0.0..6.0);
        assert_eq!(LATENCY.span([90e3, 2e6].into_iter()), 4.0..7.0);
        assert_eq!(SHARE.span([0.0, 0.2].into_iter()), 0.0..1.0);
        assert_eq!(BATCHES.print(5.0), "1024");
    }

    #[test]
    fn ticks_print_with_their_unit() {
        let printed = [0.0, 1.0, 2.0, 3.0, 4.0].map(print_nines);
        assert_eq!(printed, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert_eq!([100.0, 1e4, 1e6].map(print_latency), ["100 ns", "10 µs", "1 ms"]);
        assert_eq!([10.0, 1e5, 1e6].map(print_rate), ["10", "100 k", "1 M"]);
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
    }
}
