//! The plots, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::super::cell::{Cell, DEPTH};
use super::super::figures::{Latencies, Unit};
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

/// An axis: what it counts, how a tick is printed, and whether zero is none.
struct Axis {
    title: &'static str,
    tick: fn(&f64) -> String,
}

/// All plots for which there is something to draw.
pub(super) fn all(results: &Results) -> Result<Vec<String>, Failure> {
    let mut svgs = Vec::new();
    let mut add = |title: &str, x: &Axis, y: &Axis, scale: Scale, lines: Vec<Line>| -> Result<(), Failure> {
        let lines: Vec<Line> = lines.into_iter().filter(|line| line.points.len() > 1).collect();
        if !lines.is_empty() {
            svgs.push(draw(title, x, y, scale, &lines)?);
        }
        Ok(())
    };
    let latency = Axis { title: "latency", tick: |nanos| Unit::Latency.print(*nanos) };
    let share = Axis { title: "share of commits that took no longer", tick: |nines| print_nines(*nines) };
    for (cell, limit) in [
        (Cell::Single, Some(Limit::writes(4 << 10, 1))),
        (Cell::InFlight(DEPTH), Some(Limit::writes(4 << 10, DEPTH))),
        (Cell::HalfLoad, None),
    ] {
        let title = format!("Latency: {}", cell.title().replace(" (p50)", "").replace(" (p99)", ""));
        add(&title, &latency, &share, Scale::LogX, distributions(results, cell, limit))?;
    }
    let depth = Axis { title: "commits in flight", tick: |depth| format!("{depth:.0}") };
    let commits = Axis { title: "commits a second", tick: |rate| Unit::Commits.print(*rate) };
    add("Durable commits by depth", &depth, &commits, Scale::LogLog, by_depth(results))?;
    let batch = Axis { title: "records a commit", tick: |batch| format!("{batch:.0}") };
    let records = Axis { title: "durable records a second", tick: |rate| Unit::Records.print(*rate) };
    add("Throughput by batch, 32 commits in flight", &batch, &records, Scale::LogLog, by_batch(results))?;
    Ok(svgs)
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
        nines if nines < 0.01 => "0 %".to_owned(),
        nines if nines < 2.01 => format!("{percent:.0} %"),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few decimals")]
        nines => format!("{percent:.0$} %", nines.round() as usize - 2),
    }
}

/// Which axes are logarithmic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    LogX,
    LogLog,
}

fn draw(title: &str, x: &Axis, y: &Axis, scale: Scale, lines: &[Line]) -> Result<String, Failure> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let xs = span(points().map(|point| point.0));
    let ys = span(points().map(|point| point.1));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        match scale {
            Scale::LogX => plot(&area, title, (x, y), xs.log_scale(), 0.0..ys.end.ceil().max(1.0), lines)?,
            Scale::LogLog => {
                plot(&area, title, (x, y), xs.log_scale(), (ys.start / 1.5..ys.end * 1.5).log_scale(), lines)?
            }
        }
        area.present()?;
    }
    Ok(svg)
}

fn span(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let (least, most) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
    // A range of nothing can't be drawn.
    if least < most { least..most } else { least * 0.9..least * 1.1 + 1e-9 }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn plot<X, Y>(area: &Area<'_>, title: &str, axes: (&Axis, &Axis), x: X, y: Y, lines: &[Line]) -> Result<(), Failure>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17).into_font().style(FontStyle::Bold).color(&INK))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(x, y)?;
    let text = ("sans-serif", 12).into_font().color(&INK);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(MACHINE)
        .label_style(text.clone())
        .x_desc(axes.0.title)
        .y_desc(axes.1.title)
        .x_label_formatter(&axes.0.tick)
        .y_label_formatter(&axes.1.tick)
        .x_labels(8)
        .y_labels(6)
        .draw()?;
    for line in lines {
        let style = line.color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // Lines of many points are curves; those of few have points to see.
        if line.points.len() < 16 {
            chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 3, line.color.filled())))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(10)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font(text)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_print_as_percent() {
        let printed = [0.0, 1.0, 2.0, 3.0, 4.0].map(print_nines);
        assert_eq!(printed, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
    }
}
