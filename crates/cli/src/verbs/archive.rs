//! `corewal archive`

use std::io::Write as _;

use corewal::{Checkpoints, Error, LogId, Reader};
use corewal_archive::{Archive, Finding, Options, store};
use serde_json::{Value, json};

use crate::args::{self, ArchivePlace, ArchivePush, Common};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, verb: &args::Archive) -> Result<Exit, Failure> {
    let (exit, output) = match verb {
        args::Archive::Push(args) => push(common, args)?,
        args::Archive::Ls(place) => list(common, place)?,
        args::Archive::Verify(place) => verify(common, place)?,
        args::Archive::Gc(place) => gc(common, place)?,
    };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    Ok(exit)
}

/// Opens an archive to look at: unlike one to push to, it has to be there.
pub(super) fn open(url: &str) -> Result<Archive, Failure> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    if !path.contains("://") && !std::path::Path::new(path).is_dir() {
        return Err(Failure::data(format!(
            "there is no archive at {path}: push a store there first, with corewal archive push"
        )));
    }
    Ok(Archive::open(url, Options::default())?)
}

/// The store that is meant: the one named, or the only one there is.
pub(super) fn only(archive: &Archive, url: &str, named: Option<LogId>) -> Result<LogId, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    match archive.stores()?[..] {
        [] => Err(Failure::data(format!("{url} holds no store: push one first, with corewal archive push --to {url}"))),
        [only] => Ok(only),
        ref several => {
            let several: Vec<_> = several.iter().map(LogId::to_string).collect();
            Err(Failure::usage(format!("{url} holds several stores, say which with --store: {}", several.join(", "))))
        }
    }
}

/// That of the directory, if there is a store.
fn meant(common: &Common, archive: &Archive, place: &ArchivePlace) -> Result<LogId, Failure> {
    let own = match Reader::open(&common.dir) {
        Ok(reader) => Some(reader.info()?.log_id),
        Err(Error::NotAStore { .. }) => None,
        // Its archive may be what somebody wants to look at just now.
        Err(_) if place.store.is_some() => None,
        Err(error) => return Err(error.into()),
    };
    only(archive, &place.to, place.store.or(own))
}

fn push(common: &Common, args: &ArchivePush) -> Result<(Exit, String), Failure> {
    let info = Reader::open(&common.dir)?.info()?;
    let log_id = info.log_id;
    if !info.live {
        // What stands in the last segments goes along by way of a checkpoint;
        // those there are stay.
        let policy = Checkpoints::manual().keep(info.checkpoints.len() + 1);
        match corewal::checkpoint(&common.dir, policy) {
            Ok(_) | Err(Error::NotFoldable) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let archive = Archive::open(&args.to, Options::default())?;
    let mut owner = store::own(&archive, &args.to, &common.dir, log_id, args.force).map_err(|error| {
        let diverged = matches!(error, corewal_archive::Error::Diverged { .. });
        let failure = Failure::from(error);
        if !diverged {
            return failure;
        }
        failure.context(format!(
            "{} is not pushed to {} (--force makes it the archive's newest all the same; restore looks at what is there)",
            common.dir.display(),
            args.to
        ))
    })?;
    let pushed = store::push(&mut owner, &args.to, &common.dir)?;
    let output = if common.json {
        let value = json!({
            "store": log_id.to_string(),
            "epoch": pushed.epoch.get(),
            "complete_epoch": info.complete_epoch.get(),
            "owner": owner.term().0,
            "files": pushed.uploaded,
            "bytes": pushed.uploaded_bytes,
            "files_there": pushed.kept,
            "vanished": pushed.vanished,
            "removed": pushed.removed,
        });
        format!("{value}\n")
    } else {
        let mut text = format!(
            "pushed {} file(s), {} bytes; {} were there; the archive reaches epoch {}\n",
            pushed.uploaded, pushed.uploaded_bytes, pushed.kept, pushed.epoch
        );
        for name in &pushed.vanished {
            text += &format!("note: {name} was released before it could be sent\n");
        }
        if info.live && pushed.epoch < info.complete_epoch {
            text += &format!(
                "note: the store is open and complete up to epoch {}: the rest goes with the first push after its next checkpoint\n",
                info.complete_epoch
            );
        }
        text
    };
    Ok((Exit::Done, output))
}

fn list(common: &Common, place: &ArchivePlace) -> Result<(Exit, String), Failure> {
    let archive = open(&place.to)?;
    let log_id = meant(common, &archive, place)?;
    let found = archive.list(log_id)?;
    if common.json {
        let coverage = |part: &corewal_archive::Coverage| json!({ "checkpoint": part.checkpoint, "epoch": part.epoch.get(), "reaches": part.reaches.get() });
        let value = json!({
            "store": log_id.to_string(),
            "owner": found.index.0.0,
            "index": found.index.1,
            "time_ns": found.time_ns,
            "cores": found.cores,
            "epoch": found.epoch.get(),
            "coverage": found.coverage.iter().map(coverage).collect::<Vec<_>>(),
            "segments": found.segments,
            "parts": found.parts,
            "bytes": found.bytes,
            "objects": found.objects,
            "object_bytes": found.object_bytes,
            "damaged_indexes": found.passed_over,
        });
        return Ok((Exit::Done, format!("{value}\n")));
    }
    let mut lines = vec![
        format!("store       {log_id}"),
        format!("owner       {} (index {}, {})", found.index.0.0, found.index.1, time(found.time_ns)),
        format!("cores       {}", found.cores),
        format!("reaches     epoch {}", found.epoch),
    ];
    for part in &found.coverage {
        let from = part.checkpoint.map_or_else(|| "the beginning".to_owned(), |number| format!("checkpoint {number}"));
        lines.push(format!("restorable  epochs {} to {}, from {from}", part.epoch, part.reaches));
    }
    lines.push(format!("segments    {}", found.segments));
    lines.push(format!("files       {} of {} bytes", found.parts, found.bytes));
    lines.push(format!("objects     {} of {} bytes", found.objects, found.object_bytes));
    lines.extend(found.passed_over.iter().map(|key| format!("damaged     {key}: the index before it counts")));
    lines.push(String::new());
    Ok((Exit::Done, lines.join("\n")))
}

fn time(nanoseconds: i64) -> String {
    let since = std::time::Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

fn verify(common: &Common, place: &ArchivePlace) -> Result<(Exit, String), Failure> {
    let archive = open(&place.to)?;
    let found = archive.verify(meant(common, &archive, place)?)?;
    let exit = if found.findings.is_empty() { Exit::Done } else { Exit::Findings };
    let kind = |finding: &Finding| format!("{:?}", finding.wrong).to_lowercase();
    if common.json {
        let finding = |finding: &Finding| -> Value {
            json!({ "key": finding.key, "kind": kind(finding), "detail": finding.detail })
        };
        let value = json!({
            "ok": found.findings.is_empty(),
            "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
            "parts": found.parts,
            "bytes": found.bytes,
            "orphans": found.orphans,
            "orphan_bytes": found.orphan_bytes,
        });
        return Ok((exit, format!("{value}\n")));
    }
    let mut text = String::new();
    for finding in &found.findings {
        text += &format!("{}: {} [{}]\n", kind(finding), finding.detail, finding.key);
    }
    if found.orphans > 0 {
        text += &format!(
            "note: {} object(s), {} bytes, that nothing refers to; archive gc removes them\n",
            found.orphans, found.orphan_bytes
        );
    }
    let findings = match found.findings.len() {
        0 => "no findings".to_owned(),
        n => format!("{n} finding(s)"),
    };
    text += &format!("read {} file(s), {} bytes, {} index(es): {findings}\n", found.parts, found.bytes, found.indexes);
    Ok((exit, text))
}

fn gc(common: &Common, place: &ArchivePlace) -> Result<(Exit, String), Failure> {
    let archive = open(&place.to)?;
    let done = archive.gc(meant(common, &archive, place)?)?;
    let output = if common.json {
        let waits = done.waits_for.map(|term| term.0);
        let value = json!({ "removed": done.removed, "bytes": done.removed_bytes, "left": done.unremoved, "waits_for_owner": waits });
        format!("{value}\n")
    } else if let Some(term) = done.waits_for {
        format!("nothing removed: owner {} has taken the archive and not pushed yet; try again when it has\n", term.0)
    } else {
        format!("removed {} object(s), {} bytes\n", done.removed, done.removed_bytes)
    };
    Ok((Exit::Done, output))
}
