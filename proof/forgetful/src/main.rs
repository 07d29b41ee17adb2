//! `forgetful`: a file system that forgets what was not synced and fails on
//! demand, by itself (`mount`) or with corewal on it (`storm`).

mod command;
mod disk;
mod mount;
mod serve;
mod storm;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::storm::Io;

/// A file system that forgets what was not synced and fails on demand.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Mounts it and does what standard input says, a command a line: `help` lists them
    Mount {
        /// Where
        dir: PathBuf,
    },
    /// Runs corewal on it, cuts power, fails, opens again, compares; ends with 1 if a promise was broken
    Storm(Storm),
    /// The process that writes, for `storm`
    #[command(hide = true)]
    Write(Write),
}

/// `forgetful storm`
#[derive(Args, Clone, Debug)]
pub(crate) struct Storm {
    /// How many rounds: a life of the writing process and what is done to it
    #[arg(long, value_name = "N", default_value_t = 200)]
    rounds: u64,
    /// Stop after so much time, even if fewer rounds were made (40s, 10m)
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Decide all but the moments by this number [default: another one each time, printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only this way of writing [default: all that the file system lets pass]
    #[arg(long, value_name = "HOW")]
    io: Option<Io>,
    /// Only power cuts, no faults
    #[arg(long)]
    no_faults: bool,
    /// Syncs do nothing and say that they are done: losses have to be found
    #[arg(long)]
    lie: bool,
    /// A bug that is planted in corewal and has to be found: early (a sync acknowledged before its end) or tail (what
    /// the cache shows is believed)
    #[cfg(feature = "planted-bugs")]
    #[arg(long, value_name = "BUG")]
    plant: Option<storm::Plant>,
    /// So many file systems side by side
    #[arg(long, value_name = "N", default_value_t = 2)]
    beside: u64,
    /// Print each round
    #[arg(long, short)]
    verbose: bool,
}

/// `forgetful write`
#[derive(Args, Clone, Debug)]
pub(crate) struct Write {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    cores: u16,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    keys: u64,
    #[arg(long)]
    io: Io,
    #[cfg(feature = "planted-bugs")]
    #[arg(long)]
    plant: Option<storm::Plant>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Mount { dir } => command::run(&dir).map(|()| true),
        Verb::Storm(storm) => storm::run(&storm),
        Verb::Write(write) => storm::write(&write).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(3)
        }
    }
}
