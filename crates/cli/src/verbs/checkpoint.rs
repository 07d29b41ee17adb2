//! `corewal checkpoint`

use std::io::Write as _;

use corewal::{CheckpointMade, Checkpoints, Reader};
use serde_json::json;

use crate::args::{Checkpoint, Common};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Checkpoint) -> Result<Exit, Failure> {
    let policy = Checkpoints::manual().keep(usize::from(args.keep));
    let made = corewal::checkpoint(&common.dir, policy)?;
    let output = match made {
        Some(made) if common.json => format!("{}\n", as_json(&made)),
        Some(made) => as_text(&made),
        None => nothing_new(common)?,
    };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    Ok(Exit::Done)
}

fn as_json(made: &CheckpointMade) -> serde_json::Value {
    json!({
        "made": true,
        "number": made.number,
        "epoch": made.epoch.get(),
        "bytes": made.bytes,
        "bytes_written": made.written,
        "runs": made.runs,
    })
}

fn as_text(made: &CheckpointMade) -> String {
    let CheckpointMade { number, epoch, bytes, written, runs } = made;
    format!("checkpoint {number} of epoch {epoch}: {bytes} bytes in {runs} run(s), {written} of them written now\n")
}

fn nothing_new(common: &Common) -> Result<String, Failure> {
    let info = Reader::open(&common.dir)?.info()?;
    let epoch = info.complete_epoch.get();
    Ok(match info.checkpoints.last() {
        _ if common.json => format!("{}\n", json!({ "made": false, "epoch": epoch })),
        Some(newest) => {
            format!("nothing to do: checkpoint {} is of epoch {epoch}, the newest complete one\n", newest.number)
        }
        None => "nothing to do: no epoch is complete yet\n".to_owned(),
    })
}
