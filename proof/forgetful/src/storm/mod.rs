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
mod tally;
mod victim;
#[path = "../../../../crates/cli/src/torture/workload.rs"]
mod workload;
mod writer;

use std::thread;
use std::time::Instant;

use anyhow::Result;

pub(crate) use self::io::Io;
#[cfg(feature = "planted-bugs")]
pub(crate) use self::plant::Plant;
use self::rack::Rack;
use self::tally::Tally;
pub(crate) use self::writer::run as write;
use crate::Storm;

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
