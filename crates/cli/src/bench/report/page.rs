//! The page: tables, plots, notes.

use std::fmt::Write as _;

use super::super::figures::Unit;
use super::super::limits::{Limit, LimitRow};
use super::super::results::{Backend, Results, Row};
use super::super::table::{NOTES, mark, quantiles, setting};
use super::plots;
use crate::exit::Failure;

const STYLE: &str = include_str!("style.css");

/// All of it.
pub(super) fn page(results: &Results) -> Result<String, Failure> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>corewal bench</title>\n<style>\n{STYLE}</style>\n<h1>corewal bench</h1>\n"
    );
    let _ = writeln!(page, "<p>{}</p>", escape(&results.machine.line()));
    let _ = writeln!(page, "<p class=\"soft\">{}</p>", escape(&setting(results)));
    page += &cells(results);
    page += "<h2>Plots</h2>\n<div class=\"plots\">\n";
    for svg in plots::all(results)? {
        let _ = writeln!(page, "<figure>\n{svg}</figure>");
    }
    page += "</div>\n";
    page += &limits(results);
    page += "<h2>Ways of writing</h2>\n";
    results.backends.iter().for_each(|backend| page += &way(backend));
    let _ = writeln!(page, "<p><b>limits</b> {}</p>", results.way);
    page += "<h2>What is measured</h2>\n";
    for note in NOTES {
        let _ = writeln!(page, "<p>{}</p>", escape(note));
    }
    page += "</html>\n";
    Ok(page)
}

fn cells(results: &Results) -> String {
    if results.rows.is_empty() {
        return String::new();
    }
    let mut table = "<h2>Corewal against the limits</h2>\n<div class=\"wide\"><table>\n<tr><th>cell<th><th>backend\
                     <th class=\"n\">figure<th class=\"n\">±<th class=\"n\">limit<th class=\"n\">ratio<th>target\
                     <th class=\"n\">p50<th class=\"n\">p99<th>against</tr>\n"
        .to_owned();
    let mut before = None;
    for row in &results.rows {
        let is_first = before != Some(row.cell);
        before = Some(row.cell);
        table += &cell(row, is_first);
    }
    table + "</table></div>\n"
}

fn cell(row: &Row, is_first: bool) -> String {
    let unit = row.cell.unit();
    let (name, title) = if is_first { (row.cell.to_string(), row.cell.title()) } else { Default::default() };
    let class = match row.is_met() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    let [p50, p99] = quantiles(row.latencies.as_ref());
    format!(
        "<tr{}><td><b>{name}</b><td>{title}<td>{}<td class=\"n\">{}<td class=\"n soft\">{}<td class=\"n\">{}\
         <td class=\"n\">{}<td class=\"{class}\">{} {}<td class=\"n\">{p50}<td class=\"n\">{p99}\
         <td class=\"soft\">{}</tr>\n",
        if is_first { " class=\"first\"" } else { "" },
        row.io,
        unit.print(row.figure.median()),
        row.figure.deviation(),
        row.limit.print(|limit| unit.print(limit)),
        row.ratio.print(|ratio| format!("{ratio:.2}x")),
        mark(row.is_met()).trim(),
        row.target(),
        escape(&row.against),
    )
}

fn limits(results: &Results) -> String {
    let mut table =
        "<h2>The limits of this machine</h2>\n<div class=\"wide\"><table>\n<tr><th>limit<th class=\"n\">figure\
                     <th class=\"n\">±<th class=\"n\">bandwidth<th class=\"n\">p50<th class=\"n\">p99</tr>\n"
            .to_owned();
    results.limits.iter().for_each(|(limit, row)| table += &limit_line(*limit, row));
    table + "</table></div>\n"
}

fn limit_line(limit: Limit, row: &LimitRow) -> String {
    let median = row.figure.median();
    let [p50, p99] = quantiles(Some(&row.latencies));
    format!(
        "<tr><td>{limit}<td class=\"n\">{}<td class=\"n soft\">{}<td class=\"n\">{}<td class=\"n\">{p50}\
         <td class=\"n\">{p99}</tr>\n",
        limit.unit().print(median),
        row.figure.deviation(),
        limit.bandwidth(median).map_or_else(String::new, |bytes| Unit::Bytes.print(bytes)),
    )
}

fn way(backend: &Backend) -> String {
    let what = match &backend.storage {
        Ok((_, path)) => path.to_string(),
        Err(reason) => format!("left out: {reason}"),
    };
    format!("<p><b>{}</b> {}</p>\n", backend.io, escape(&what))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
