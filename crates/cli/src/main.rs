//! The `corewal` program: ingest records into a store, look into it, verify,
//! repair, torture and measure it.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "the program is outside the simulated engine")]

mod args;
mod bench;
mod causes;
mod duration;
mod exit;
mod ingest;
mod interrupt;
mod medium;
mod number;
mod reduce;
mod source;
mod text;
mod torture;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let exit = verbs::run(&cli).unwrap_or_else(|failure| failure.report());
    exit.into()
}
