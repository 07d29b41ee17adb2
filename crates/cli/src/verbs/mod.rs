//! The verbs, each in a file of its own.

mod archive;
mod bench;
mod checkpoint;
mod dump;
mod get;
mod info;
mod ingest;
mod offsets;
mod repair;
mod reshard;
mod restore;
mod scan;
mod torture;
mod torture_child;
mod verify;

use crate::args::{Cli, Verb};
use crate::exit::{Exit, Failure};

/// Does what the command line asks for.
pub(crate) fn run(cli: &Cli) -> Result<Exit, Failure> {
    let common = &cli.common;
    match &cli.verb {
        Verb::Ingest(args) => ingest::run(common, args),
        Verb::Get(args) => get::run(common, args),
        Verb::Scan(args) => scan::run(common, args),
        Verb::Info => info::run(common),
        Verb::Dump(args) => dump::run(common, args),
        Verb::Verify => verify::run(common),
        Verb::Repair(args) => repair::run(common, args),
        Verb::Checkpoint(args) => checkpoint::run(common, args),
        Verb::Reshard(args) => reshard::run(common, args),
        Verb::Archive(verb) => archive::run(common, verb),
        Verb::Restore(args) => restore::run(common, args),
        Verb::Torture(args) => torture::run(common, args),
        Verb::Bench(args) => bench::run(common, args),
        Verb::TortureChild(args) => torture_child::run(common, args),
    }
}
