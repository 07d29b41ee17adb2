//! Runs the measurements: each in a process of its own, so that nobody finds what another left in memory, peers one
//! after the other within a cell, in another order each time.

use std::fs;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;

use crate::Args;
use crate::cells::{Cell, Measure};
use crate::peers::Peer;
use crate::syncs::{self, Syncs};

/// Nothing that is measured takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
const COMMITS: u64 = 50;

/// What a process gave: a measure, nothing because the peer does not have the cell, or why it failed.
pub(crate) type Outcome = Result<Option<Measure>, String>;

pub(crate) struct Bench {
    dir: TempDir,
    stop: Arc<AtomicBool>,
}

impl Bench {
    /// Works in a new directory in `dir`, which goes away with it.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let prefix = "corewal-peers-";
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(dir).context("make a directory for the logs")?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)).context("watch for Ctrl-C")?;
        Ok(Self { dir, stop })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything, as often as asked and as time allows. By peer and by cell the outcomes of all runs.
    pub(crate) fn measure(&self, peers: &[Peer], cells: &[Cell], args: &Args) -> Result<Vec<Vec<Vec<Outcome>>>> {
        let bar = bar(u64::from(args.runs) * (cells.len() * peers.len()) as u64);
        let mut outcomes = vec![vec![Vec::new(); cells.len()]; peers.len()];
        let (time, began) = (Duration::from_secs(60 * u64::from(args.minutes)), Instant::now());
        for run in 0..args.runs {
            if run > 0 && began.elapsed() * (run + 1) / run > time {
                break;
            }
            for (column, cell) in cells.iter().enumerate() {
                for turn in 0..peers.len() {
                    let row = (turn + run as usize + column) % peers.len();
                    let peer = &peers[row];
                    bar.set_message(format!("run {}: {} {}", run + 1, cell.name(), peer.name));
                    outcomes[row][column].push(self.measure_one(peer, *cell, args.seconds_per_cell)?);
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(outcomes)
    }

    fn measure_one(&self, peer: &Peer, cell: Cell, seconds: f64) -> Result<Outcome> {
        let dir = tempfile::tempdir_in(&self.dir).context("make a directory for a log")?;
        let mut command = program(dir.path())?;
        command.args(["measure", peer.name, cell.name()]).arg(dir.path()).arg(seconds.to_string());
        let outcome = self.run(command)?.and_then(|output| {
            // Some peers print as they go; the result is the last line.
            let line = output.lines().last().unwrap_or_default();
            serde_json::from_str(line).map_err(|error| error.to_string())
        });
        // Before the next one starts: files that go away keep the disk busy.
        dir.close().context("remove a log")?;
        Ok(outcome)
    }

    /// Counts the syncs of each peer; `None` where strace cannot.
    pub(crate) fn syncs(&self, peers: &[Peer]) -> Result<Vec<Option<Syncs>>> {
        let bar = bar(peers.len() as u64);
        let counted = peers.iter().map(|peer| {
            bar.set_message(format!("syncs of {}", peer.name));
            bar.inc(1);
            let (with, without) = (self.trace(peer, COMMITS)?, self.trace(peer, 0)?);
            Ok(with.zip(without).map(|(with, without)| Syncs::of(&with, &without, COMMITS)))
        });
        let counted = counted.collect();
        bar.finish_and_clear();
        counted
    }

    fn trace(&self, peer: &Peer, commits: u64) -> Result<Option<String>> {
        let dir = tempfile::tempdir_in(&self.dir).context("make a directory for a log")?;
        let trace = dir.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", syncs::TRACED, "-e", "signal=none", "-o"]).arg(&trace);
        prepare(command.arg(std::env::current_exe()?), dir.path());
        command.args(["commit", peer.name]).arg(dir.path()).arg(commits.to_string());
        match self.run(command)? {
            Ok(_) => Ok(fs::read_to_string(trace).ok()),
            Err(_) => Ok(None),
        }
    }

    /// Runs a process to its end and returns what it printed, or what it complained about.
    fn run(&self, mut command: Command) -> Result<Result<String, String>> {
        let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("{}: {error}", command.get_program().display()))),
        };
        let printed = drain(child.stdout.take());
        let complained = drain(child.stderr.take());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.stop.load(Ordering::Relaxed) {
                end(&mut child);
                bail!("stopped");
            }
            if began.elapsed() > PATIENCE {
                end(&mut child);
                return Ok(Err(format!("not done after {} s", PATIENCE.as_secs())));
            }
            thread::sleep(Duration::from_millis(2));
        };
        if self.stop.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        let (printed, complained) = (printed.join().unwrap_or_default(), complained.join().unwrap_or_default());
        let last =
            complained.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect::<Vec<_>>().join("; ");
        Ok(if status.success() { Ok(printed) } else { Err(format!("{status}: {last}")) })
    }
}

fn program(dir: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find the program")?);
    prepare(&mut command, dir);
    Ok(command)
}

fn prepare(command: &mut Command, dir: &Path) {
    // walrus-rust writes into the working directory and prints what it does. A complaint is one line, not a backtrace.
    command.current_dir(dir).env("WALRUS_QUIET", "1").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
}

fn end(child: &mut Child) {
    // It may have ended by itself in the meantime, which is as good.
    let _ = child.kill();
    let _ = child.wait();
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn bar(len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}").expect("a valid template"));
    bar
}
