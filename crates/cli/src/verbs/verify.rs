//! `corewal verify`

use std::io::Write as _;

use corewal::{Finding, Verification};
use serde_json::{Value, json};

use crate::args::Common;
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common) -> Result<Exit, Failure> {
    let found = corewal::verify(&common.dir)?;
    let output = if common.json { format!("{}\n", as_json(&found)) } else { as_text(&found) };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    Ok(if found.findings.is_empty() { Exit::Done } else { Exit::Findings })
}

fn as_json(found: &Verification) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "core": finding.core.map(corewal::CoreId::get),
            "segment": finding.segment.map(corewal::SegmentId::get),
            "offset": finding.offset,
            "kind": finding.kind,
            "detail": finding.detail,
        })
    };
    json!({
        "ok": found.findings.is_empty(),
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "notes": found.notes,
        "segments": found.segments,
        "records": found.records,
        "bytes": found.bytes,
    })
}

fn as_text(found: &Verification) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        let place = match (finding.core, finding.segment) {
            (Some(core), Some(segment)) => format!("core {core}, segment {segment}, offset {}", finding.offset),
            (Some(core), None) => format!("core {core}"),
            _ => "manifest".to_owned(),
        };
        text += &format!("{}: {place}: {}\n", finding.kind, finding.detail);
    }
    for note in &found.notes {
        text += &format!("note: {note}\n");
    }
    let Verification { segments, records, bytes, .. } = found;
    text += &format!("read {records} records, {bytes} bytes in {segments} segment(s): ");
    text += &match found.findings.len() {
        0 => "no findings\n".to_owned(),
        count => format!("{count} finding(s); `corewal repair` says what can be done\n"),
    };
    text
}
