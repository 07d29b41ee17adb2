//! `corewal dump`

use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;

use corewal::format::{Record, RunRef};
use corewal::{CoreId, Lsn, Reader, RecordView};
use serde_json::{Map, Value, json};

use super::offsets;
use crate::args::{Common, Dump};
use crate::exit::{Exit, Failure};
use crate::text;

pub(super) fn run(common: &Common, args: &Dump) -> Result<Exit, Failure> {
    let reader = Reader::open(&common.dir)?;
    let cores = reader.router().cores();
    if let Some(core) = args.core.filter(|&core| core >= cores) {
        return Err(Failure::usage(format!("--core {core}: the store has cores 0 to {}", cores - 1)));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut failed = Ok(());
    let mut print = |line: Line<'_>| {
        failed = if common.json { writeln!(out, "{}", line.as_json()) } else { writeln!(out, "{}", line.as_text()) };
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let core = args.core.map(CoreId);
    if args.checkpoint {
        reader.for_each_run_record(core, |run, view| print(Line { run: Some(run), view }))?;
    } else {
        reader.for_each_record(core, Lsn(args.from.unwrap_or(0)), |view| match args.epoch {
            Some(wanted) if view.epoch.get() > wanted => ControlFlow::Break(()),
            Some(wanted) if view.epoch.get() < wanted => ControlFlow::Continue(()),
            _ => print(Line { run: None, view }),
        })?;
    }
    failed?;
    out.flush()?;
    Ok(Exit::Done)
}

/// The operation's own fields.
fn fields(record: &Record<'_>) -> Map<String, Value> {
    let printed = |bytes: &[u8]| Value::from(text::print(bytes));
    let fields = match *record {
        Record::Put { key, value } => json!({ "key": printed(key), "value": printed(value) }),
        Record::Delete { key } => json!({ "key": printed(key) }),
        Record::Payload(bytes) => json!({ "payload": printed(bytes) }),
        Record::Commit(commit) => {
            let offsets: Map<_, _> = commit
                .offsets()
                .filter(|offset| !offset.name.contains('\0'))
                .map(|offset| (offset.name.to_owned(), offsets::json(offset.value)))
                .collect();
            json!({ "offsets": offsets, "watermark": commit.watermark() })
        }
        Record::Barrier { epoch, complete } => json!({ "ends": epoch.get(), "complete_epoch": complete.get() }),
        Record::CheckpointMark { id } => json!({ "id": id }),
        Record::Park { epoch } | Record::Unpark { epoch } | Record::Open { epoch } => json!({ "from": epoch.get() }),
        Record::Close { complete } => json!({ "complete_epoch": complete.get() }),
        Record::Rollback { to, epoch } => json!({ "to": to.get(), "keeps_epoch": epoch.get() }),
        Record::Release { to, epoch } => json!({ "to": to.get(), "ended_epoch": epoch.get() }),
        Record::Repair { segment, base_lsn, sequence, forgiven } => json!({
            "segment": segment.get(),
            "base_lsn": base_lsn.get(),
            "next_sequence": sequence.get(),
            "forgiven_epoch": forgiven.get(),
        }),
        Record::Seal { base_lsn } => json!({ "next_base_lsn": base_lsn.get() }),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => unreachable!("each is an object"),
    }
}

/// A record, and the run of a checkpoint that it stands in, if in none of the
/// logs.
struct Line<'a> {
    run: Option<&'a RunRef>,
    view: RecordView<'a>,
}

impl Line<'_> {
    fn as_json(&self) -> Value {
        let view = &self.view;
        let mut line = json!({
            "core": view.core.get(),
            "lsn": view.lsn.get(),
            "epoch": view.epoch.get(),
            "sequence": view.sequence.get(),
            "timestamp_ns": view.timestamp.get(),
            "op": view.record.name(),
            "counts": view.counts,
        });
        let all = line.as_object_mut().expect("made as one");
        if let Some(run) = self.run {
            all.extend([("run".to_owned(), run.run.get().into()), ("level".to_owned(), run.level.into())]);
        }
        all.extend(fields(&view.record));
        line
    }

    fn as_text(&self) -> String {
        let view = &self.view;
        let mut line = format!(
            "epoch {:<6} core {:<3} lsn {:<12} seq {:<10} {:<9}",
            view.epoch.get(),
            view.core.get(),
            view.lsn.get(),
            view.sequence.get(),
            view.record.name()
        );
        if let Some(run) = self.run {
            line.insert_str(0, &format!("run {:<6} ", run.run));
        }
        for (name, value) in fields(&view.record) {
            line += &match value {
                Value::String(text) => format!(" {name}={text}"),
                other => format!(" {name}={other}"),
            };
        }
        if !view.counts {
            line += " (rolled back)";
        }
        line
    }
}
