//! The same work for corewal and for other logs and stores, measured side by side. See README.md.
#![forbid(unsafe_code)]

mod cells;
mod data;
mod machine;
mod peers;
mod report;
mod run;
mod syncs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::cells::Cell;
use crate::peers::Peer;

/// Measures corewal and its peers at the same work and prints a table.
#[derive(Parser)]
struct Args {
    /// How often everything is measured; the table has the medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How long a cell that is bound by time is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 0.8)]
    seconds_per_cell: f64,
    /// No further run is begun that would not end so many minutes after the first one began
    #[arg(long, default_value_t = 15)]
    minutes: u32,
    /// Where the logs are written, on the disk that is to be measured [default: beside the program]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only rows whose name contains one of these
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Only these cells
    #[arg(long, value_delimiter = ',', value_enum, ignore_case = true)]
    cells: Vec<Cell>,
    /// Only count each peer's syncs a commit
    #[arg(long)]
    check_sync: bool,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the results as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(subcommand)]
    job: Option<Job>,
}

/// What the program has a process of its own do.
#[derive(Subcommand)]
enum Job {
    #[command(hide = true)]
    Measure { name: String, cell: Cell, dir: PathBuf, seconds: f64 },
    #[command(hide = true)]
    Commit { name: String, dir: PathBuf, commits: u64 },
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corewal-peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let peers = peers::all();
    match &args.job {
        Some(Job::Measure { name, cell, dir, seconds }) => {
            let measured = cells::measure(named(&peers, name)?, *cell, dir, Duration::from_secs_f64(*seconds))?;
            println!("{}", serde_json::to_string(&measured)?);
            Ok(())
        }
        Some(Job::Commit { name, dir, commits }) => cells::commits(named(&peers, name)?, dir, *commits),
        None => compare(args, peers),
    }
}

fn named<'p>(peers: &'p [Peer], name: &str) -> Result<&'p Peer> {
    peers.iter().find(|peer| peer.name == name).with_context(|| format!("nobody is called {name:?}"))
}

fn compare(args: &Args, mut peers: Vec<Peer>) -> Result<()> {
    ensure!(args.seconds_per_cell > 0.0 && args.seconds_per_cell <= 60.0, "--seconds-per-cell: more than 0, up to 60");
    if !args.only.is_empty() {
        let wanted = |name: &str| args.only.iter().any(|part| name.to_lowercase().contains(&part.to_lowercase()));
        peers.retain(|peer| wanted(peer.name));
        ensure!(!peers.is_empty(), "--only: nobody is called that");
    }
    let cells = if args.cells.is_empty() { Cell::value_variants().to_vec() } else { args.cells.clone() };
    let bench = run::Bench::new(&directory(args.dir.as_deref())?)?;
    let machine = machine::Machine::look(bench.dir());
    if machine.file_system == "tmpfs" {
        bail!("{} is in memory: name a directory on a disk with --dir", bench.dir().display());
    }
    let syncs = bench.syncs(&peers)?;
    if args.check_sync {
        report::print_syncs(&peers, &syncs);
        return Ok(());
    }
    let results = bench.measure(&peers, &cells, args)?;
    let report = report::Report::new(&peers, &cells, machine, args, syncs, results);
    print!("{}", report.text());
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, report.markdown()).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Where to write: where the user says, or beside the directory that the program was built into.
fn directory(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = asked {
        return Ok(dir.to_owned());
    }
    let program = std::env::current_exe().context("find the program")?;
    let dir = program.parent().and_then(Path::parent).context("find the directory of the program")?;
    Ok(dir.to_owned())
}
