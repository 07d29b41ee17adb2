//! `mount`: the file system by itself, commanded by lines.

use std::io::BufRead as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fuser::Errno;

use crate::disk::{Disk, Fault, On, Pages, Survive, Where};
use crate::mount::Mounted;

const HELP: &str = "\
cut [SEED]      power is lost and comes back; without a seed only what was synced survives, with one
                a part of the rest as well. Whoever has files open must have gone
fail WHAT [N] [xTIMES] [ERROR] [PAGES]
                after N that go well a write, sync or syncdir fails, or TIMES of them, with eio or
                enospc; `short` makes writes short; after a sync the pages are kept, dropped or half
ok              nothing fails any more
lie             syncs do nothing from here on
counts          what was asked for since the mount
quit            unmounts, as does the end of the input";

/// Mounts at `dir` and does what standard input says.
pub(crate) fn run(dir: &Path) -> Result<()> {
    let mut mounted = Mounted::new(dir, Disk::new(0))?;
    println!("mounted at {}", dir.display());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        match obey(&mut mounted, &words) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => println!("{error:#}"),
        }
    }
    Ok(())
}

/// Does one command. False at the last.
fn obey(mounted: &mut Mounted, words: &[&str]) -> Result<bool> {
    match words {
        [] => {}
        ["quit"] => return Ok(false),
        ["cut"] => mounted.cut(Survive::Nothing, 0)?,
        ["cut", seed] => mounted.cut(Survive::Some(0.5), seed.parse().context("the seed is a number")?)?,
        ["fail", rest @ ..] => mounted.disk().arm(fault(rest)?),
        ["ok"] => mounted.disk().disarm(),
        ["lie"] => mounted.disk().lie(),
        ["counts"] => println!("{:?}", mounted.disk().counts),
        _ => println!("{HELP}"),
    }
    println!("done");
    Ok(true)
}

fn fault(words: &[&str]) -> Result<Fault> {
    let (what, words) = words.split_first().context("what is to fail?")?;
    let (on, short) = match *what {
        "write" => (On::Write, false),
        "short" => (On::Write, true),
        "sync" => (On::Sync, false),
        "syncdir" => (On::SyncDir, false),
        other => bail!("`{other}` is none of write, short, sync, syncdir"),
    };
    let mut fault = Fault { on, of: Where::Any, skip: 0, times: 1, short, errno: Errno::EIO, pages: Pages::Dropped };
    for word in words {
        match *word {
            "eio" => fault.errno = Errno::EIO,
            "enospc" => fault.errno = Errno::ENOSPC,
            "kept" => fault.pages = Pages::Kept,
            "dropped" => fault.pages = Pages::Dropped,
            "half" => fault.pages = Pages::Half,
            times if times.starts_with('x') => fault.times = times[1..].parse().context("xTIMES")?,
            number => fault.skip = number.parse().with_context(|| format!("`{number}` is no number"))?,
        }
    }
    Ok(fault)
}
