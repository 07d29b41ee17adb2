//! `corewal reshard`

use std::io::Write as _;

use corewal::Options;
use corewal::io::FileStorage;
use serde_json::json;

use crate::args::{Common, Reshard};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Reshard) -> Result<Exit, Failure> {
    let options = Options::new().recover(args.recover.into());
    let done = corewal::reshard_on(FileStorage::new(), &common.dir, args.cores, options)?;
    let output = if common.json {
        let (from, to, epoch) = (done.from, done.to, done.epoch.get());
        format!("{}\n", json!({ "from": from, "to": to, "epoch": epoch, "keys": done.keys }))
    } else if done.from == done.to {
        format!("nothing to do: the store has {} core(s)\n", done.to)
    } else {
        format!("{} key(s) moved from {} to {} core(s), at epoch {}\n", done.keys, done.from, done.to, done.epoch)
    };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    Ok(Exit::Done)
}
