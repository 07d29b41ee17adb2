//! `corewal get`

use std::io::Write as _;

use corewal::{Keyed, Reader, Recover};

use crate::args::{Common, Get};
use crate::exit::{Exit, Failure};
use crate::text;

pub(super) fn run(common: &Common, args: &Get) -> Result<Exit, Failure> {
    let reader = Reader::open(&common.dir)?;
    let key = args.key.0.as_slice();
    let owner = reader.router().route(key);
    let views = reader.replay(Recover::CompleteEpoch, |_| Keyed::default())?;
    let Some(value) = views[owner.index()].state.get(key) else {
        eprintln!("no such key: {}", text::print(key));
        return Ok(Exit::Findings);
    };
    let mut line = Vec::new();
    if common.json {
        text::json_entry(&mut line, key, value, owner.get().into());
    } else {
        line.extend_from_slice(text::print(value).as_bytes());
    }
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line)?;
    Ok(Exit::Done)
}
