//! `corewal info`

use std::io::Write as _;

use corewal::format::Checkpoint;
use corewal::io::WritePath;
use corewal::{Info, Reader, Recover, Space};
use corewal_archive::store::Remembered;
use serde_json::{Map, Value, json};

use super::offsets;
use crate::args::Common;
use crate::exit::{Exit, Failure};
use crate::{medium, text};

pub(super) fn run(common: &Common) -> Result<Exit, Failure> {
    let reader = Reader::open(&common.dir)?;
    let info = reader.info()?;
    let path = reader.write_path()?;
    let views = reader.progress(Recover::CompleteEpoch)?;
    let merged = offsets::merge(&views);
    let offsets: Map<String, Value> =
        merged.iter().map(|(name, value)| ((*name).to_owned(), offsets::json(value))).collect();
    let watermark = offsets::watermark(&views);
    let archives = corewal_archive::store::remembered(&common.dir)?;
    let output = if common.json {
        let mut value = as_json(&info, &path, offsets, watermark);
        let epochs_behind = |known: &Remembered| info.complete_epoch.get().saturating_sub(known.epoch);
        value["archives"] = archives
            .iter()
            .map(|known| json!({ "url": known.url, "epoch": known.epoch, "epochs_behind": epochs_behind(known), "timestamp_ns": known.time_ns }))
            .collect();
        format!("{value}\n")
    } else {
        let mut text = as_text(common, &info, &path, &offsets, watermark);
        for Remembered { url, epoch, .. } in &archives {
            let behind = info.complete_epoch.get().saturating_sub(*epoch);
            text += &format!("archive         {url}: reaches epoch {epoch}, {behind} behind\n");
        }
        text
    };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    Ok(Exit::Done)
}

fn as_json(info: &Info, path: &WritePath, offsets: Map<String, Value>, watermark: Option<i64>) -> Value {
    let by_core = |fact: fn(&corewal::CoreInfo) -> u64| info.cores.iter().map(fact).collect::<Vec<_>>();
    json!({
        "log_id": info.log_id.to_string(),
        "cores": info.cores.len(),
        "live": info.live,
        "complete_epoch": info.complete_epoch.get(),
        "epoch": by_core(|core| core.epoch.get()),
        "start_lsn": by_core(|core| core.start_lsn.get()),
        "appended_lsn": by_core(|core| core.appended_lsn.get()),
        "durable_lsn": by_core(|core| core.durable_lsn.get()),
        "offsets": offsets,
        "watermark": watermark,
        "records": by_core(|core| core.records),
        "segments": info.cores.iter().map(|core| core.segments).sum::<u64>(),
        "bytes": info.cores.iter().map(|core| core.bytes).sum::<u64>(),
        "checkpoints": info.checkpoints.iter().map(checkpoint_json).collect::<Vec<_>>(),
        "space": {
            "checkpoints": info.space.checkpoints,
            "other_runs": info.space.other_runs,
            "segments": info.space.segments,
            "spares": info.space.spares,
        },
        "note": info.note,
        "strangers": info.strangers.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "write_path": medium::json(path),
    })
}

fn checkpoint_json(checkpoint: &Checkpoint) -> Value {
    let runs = || checkpoint.cores.iter().flat_map(|core| &core.runs);
    json!({
        "number": checkpoint.number,
        "epoch": checkpoint.epoch.get(),
        "timestamp_ns": checkpoint.time.get(),
        "lsn": checkpoint.cores.iter().map(|core| core.lsn.get()).collect::<Vec<_>>(),
        "runs": runs().count(),
        "bytes": runs().map(|run| run.bytes).sum::<u64>(),
    })
}

fn as_text(
    common: &Common,
    info: &Info,
    path: &WritePath,
    offsets: &Map<String, Value>,
    watermark: Option<i64>,
) -> String {
    let mut lines = vec![
        format!("store           {} ({})", common.dir.display(), info.log_id),
        format!("state           {}", if info.live { "open for writing by a process" } else { "not open for writing" }),
        format!("written by      {path}"),
        format!("cores           {}", info.cores.len()),
        format!("complete epoch  {}", info.complete_epoch),
        format!("watermark       {}", watermark.map_or_else(|| "none".to_owned(), |watermark| watermark.to_string())),
    ];
    if offsets.is_empty() {
        lines.push("offsets         none".to_owned());
    }
    for (name, offset) in offsets {
        lines.push(format!("offset          {} of {}", offset, text::print(name.as_bytes())));
    }
    if info.checkpoints.is_empty() {
        lines.push("checkpoints     none".to_owned());
    }
    for checkpoint in &info.checkpoints {
        let runs = || checkpoint.cores.iter().flat_map(|core| &core.runs);
        let bytes: u64 = runs().map(|run| run.bytes).sum();
        let (number, epoch) = (checkpoint.number, checkpoint.epoch);
        lines.push(format!("checkpoint      {number} of epoch {epoch}: {bytes} bytes in {} run(s)", runs().count()));
    }
    let Space { checkpoints, other_runs, segments, spares } = info.space;
    lines.push(format!("space           {} bytes", checkpoints + other_runs + segments + spares));
    for (bytes, what) in [
        (checkpoints, "checkpoints"),
        (other_runs, "runs that no checkpoint names (yet, or any more)"),
        (segments, "log segments, those included that wait to be used"),
        (spares, "released segments, kept to be used again"),
    ] {
        if bytes > 0 {
            lines.push(format!("                {bytes} {what}"));
        }
    }
    lines.extend(info.note.iter().map(|note| format!("note            {note}")));
    for stranger in &info.strangers {
        lines.push(format!("not the store's {}", stranger.display()));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:>4} {:>8} {:>16} {:>16} {:>12} {:>9} {:>14}  end",
        "core", "epoch", "durable LSN", "appended LSN", "records", "segments", "bytes"
    ));
    for core in &info.cores {
        lines.push(format!(
            "{:>4} {:>8} {:>16} {:>16} {:>12} {:>9} {:>14}  {}",
            core.core.get(),
            core.epoch.get(),
            core.durable_lsn.get(),
            core.appended_lsn.get(),
            core.records,
            core.segments,
            core.bytes,
            if core.closed { "closed in order" } else { "open" },
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
