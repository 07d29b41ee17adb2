//! `corewal scan`

use std::io::{BufWriter, Write as _};

use corewal::{Keyed, Reader, Recover};

use crate::args::{Common, Scan};
use crate::exit::{Exit, Failure};
use crate::text;

pub(super) fn run(common: &Common, args: &Scan) -> Result<Exit, Failure> {
    let views = Reader::open(&common.dir)?.replay(Recover::CompleteEpoch, |_| Keyed::default())?;
    let prefix = args.prefix.as_ref().map_or(&b""[..], |prefix| &prefix.0);
    let mut entries: Vec<_> = views
        .iter()
        .flat_map(|view| view.state.iter().map(move |(key, value)| (key, value, view.core)))
        .filter(|(key, ..)| key.starts_with(prefix))
        .collect();
    entries.sort_unstable();
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    for (key, value, core) in entries.into_iter().take(limit) {
        line.clear();
        if common.json {
            text::json_entry(&mut line, key, value, core.get().into());
        } else {
            line.extend_from_slice(text::print(key).as_bytes());
            line.push(b'\t');
            line.extend_from_slice(text::print(value).as_bytes());
        }
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
