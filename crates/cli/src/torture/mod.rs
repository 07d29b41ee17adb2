//! `torture`: a child process writes, and it, its store and copies of that are
//! ill-treated in every way that needs no rights; each time everything is
//! compared with what must be there. Again and again.
//!
//! | module | what is in it |
//! |---|---|
//! | `setup`, `workload` | the store's options; what is written, a function of a seed |
//! | `child`, `victim` | the process that writes; its starting, hearing and killing |
//! | `fault` | the kinds of ill-treatment |
//! | `rack` | a round of each, and the openings after it |
//! | `mistreat` | faults of the writing process |
//! | `verbs` | faults of the program's other verbs |
//! | `copies`, `aside` | copies, damage to them; what may come of it |
//! | `seen`, `oracle` | what a store shows; what it must show |
//! | `ground`, `tally` | the directory; the report |

mod aside;
mod child;
mod copies;
mod fault;
mod ground;
mod mistreat;
mod oracle;
mod rack;
mod seen;
mod setup;
mod tally;
mod verbs;
mod victim;
mod workload;

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

use indicatif::ProgressBar;

pub(crate) use self::fault::Fault;
use self::ground::Ground;
use self::rack::Rack;
pub(crate) use self::setup::Setup;
use crate::args::{Common, Torture, TortureChild};
use crate::exit::{Exit, Failure};
use crate::interrupt;

/// Does what `corewal torture-child` asks for.
pub(crate) fn child(common: &Common, args: &TortureChild) -> Result<Exit, Failure> {
    child::run(&common.dir, args)?;
    Ok(Exit::Done)
}

/// Does what `corewal torture` asks for.
pub(crate) fn run(common: &Common, args: &Torture) -> Result<Exit, Failure> {
    let began = Instant::now();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    if args.setup.segment_bytes < 4 * u64::from(args.setup.buffer_bytes) {
        return Err(Failure::usage("--segment-bytes must be at least four times --buffer-bytes"));
    }
    let mut ground = Ground::take(&common.dir)?;
    let interrupted = interrupt::watch("ending this round, then the report", || {})?;
    eprintln!("torturing {} with --seed {seed}", common.dir.display());
    let bar = ProgressBar::new(u64::from(args.kills));
    let mut rack = Rack::new(&ground, args, seed);
    let over = |rack: &Rack| {
        bar.set_position(rack.tally.kills);
        rack.has_killed_enough()
            || !rack.tally.violations.is_empty()
            || interrupted.load(Ordering::Acquire)
            || args.duration.is_some_and(|most| began.elapsed() >= most)
    };
    let mut ended = Ok(());
    while ended.is_ok() && !over(&rack) {
        let seed = rack.next_seed();
        ground.clear(seed, &args.setup)?;
        ended = rack.one_store(seed, over);
    }
    bar.finish_and_clear();
    let mut tally = rack.tally;
    tally.time = began.elapsed();
    tally.interrupted = interrupted.load(Ordering::Acquire);
    let text = if common.json { format!("{}\n", tally.json()) } else { tally.text() };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    if tally.violations.is_empty() {
        return ended.map(|()| Exit::Done);
    }
    ground.keep()?;
    for violation in &tally.violations {
        eprintln!("broken promise: {violation}");
    }
    eprintln!(
        "{} is kept as it is; try again with --seed {seed} (the same faults in the same order; their moments will differ)",
        common.dir.display()
    );
    Ok(Exit::Findings)
}
