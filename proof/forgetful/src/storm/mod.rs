//! `storm`: corewal on the forgetful disk. A process writes and says what is
//! durable; the power goes, syncs and writes fail, the process dies; what is
//! left is opened by the library and compared with what must be there.

mod io;
#[allow(dead_code, reason = "the oracle of `corewal torture`, of which not all is used here")]
#[path = "../../../../crates/cli/src/torture/oracle.rs"]
mod oracle;
mod plan;
#[cfg(feature = "planted-bugs")]
mod plant;
mod rack;
#[allow(dead_code, reason = "as the oracle")]
#[path = "../../../../crates/cli/src/torture/seen.rs"]
mod seen;
mod tally;
mod victim;
#[path = "../../../../crates/cli/src/torture/workload.rs"]
mod workload;
mod writer;

use std::thread;
use std::time::Instant;

use anyhow::Result;
use corewal::{Checkpoints, Options};

pub(crate) use self::io::Io;
#[cfg(feature = "planted-bugs")]
pub(crate) use self::plant::Plant;
use self::rack::Rack;
use self::tally::Tally;
use self::workload::Workload;
pub(crate) use self::writer::run as write;
use crate::Storm;

/// As `corewal torture` has it: small, so that the ends of buffers and segments
/// are met often, and many checkpoints.
fn options(cores: u16) -> Options {
    let checkpoints = Checkpoints::default().bytes(512 << 10).keep(2);
    Options::new().cores(cores).segment_bytes(256 << 10).buffer_bytes(16 << 10).checkpoints(checkpoints)
}

/// What is written by it.
fn workload(seed: u64, keys: u64) -> Workload {
    Workload::new(seed, keys, 40_000)
}

/// Storms, side by side. False if a promise was broken.
pub(crate) fn run(args: &Storm) -> Result<bool> {
    let began = Instant::now();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let beside = args.beside.clamp(1, 64);
    println!("storm with --seed {seed} --beside {beside}");
    let tallies: Vec<Result<Tally>> = thread::scope(|scope| {
        let racks: Vec<_> = (0..beside)
            .map(|at| {
                let rounds = args.rounds / beside + u64::from(at < args.rounds % beside);
                scope.spawn(move || Rack::new(args, seed, at)?.run(rounds, began))
            })
            .collect();
        racks.into_iter().map(|rack| rack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally?);
    }
    print!("{}", all.text(began.elapsed()));
    for broken in &all.broken {
        println!("broken promise: {broken}");
    }
    if !all.broken.is_empty() {
        println!("try again with --seed {seed} --beside {beside} (the moments will differ)");
    }
    Ok(all.broken.is_empty())
}
