//! `corewal restore`

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use corewal::Epoch;
use corewal_archive::{Target, store};
use serde_json::json;

use super::archive;
use crate::args::{Common, Restore};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Restore) -> Result<Exit, Failure> {
    let from = archive::open(&args.from)?;
    let log_id = archive::only(&from, &args.from, args.store)?;
    let target = match (args.to_epoch, args.to_time) {
        (Some(epoch), _) => Target::Epoch(Epoch(epoch)),
        (None, Some(time)) => Target::Time(nanoseconds(time)),
        (None, None) => Target::Latest,
    };
    let (restored, made) = store::restore(&from, &args.from, log_id, target, &common.dir)?;
    let output = if common.json {
        let value = json!({
            "store": log_id.to_string(),
            "epoch": made.epoch.get(),
            "keys": made.keys,
            "cores": made.to,
            "files": restored.downloaded,
            "bytes": restored.downloaded_bytes,
            "damaged_indexes": restored.passed_over,
        });
        format!("{value}\n")
    } else {
        let mut text = format!(
            "restored epoch {} into {}: {} key(s) on {} core(s); {} file(s), {} bytes read\n",
            made.epoch,
            common.dir.display(),
            made.keys,
            made.to,
            restored.downloaded,
            restored.downloaded_bytes
        );
        for key in &restored.passed_over {
            text += &format!("note: {key} is damaged; the index before it was used\n");
        }
        text
    };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    Ok(Exit::Done)
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
