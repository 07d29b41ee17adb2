//! The writing process, from its start to its killing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use corewal::Epoch;

use super::io::Io;
use super::oracle::Acknowledged;
use super::workload::Workload;

/// An opening that takes longer than this is taken for one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process.
pub(super) struct Victim {
    child: Child,
    lines: Receiver<String>,
    errors: JoinHandle<String>,
    pub(super) said: Said,
}

/// What it said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) opened: bool,
    /// How many epochs it acknowledged.
    pub(super) epochs: u64,
    /// The last of them.
    pub(super) last: Option<Acknowledged>,
    /// How many cores were latched.
    pub(super) latched: u64,
    /// What a latched core granted.
    pub(super) went_on: Vec<String>,
    /// What it printed that nobody understands.
    pub(super) strange: Option<String>,
    /// How it ended, if it did before it was killed.
    pub(super) ended: Option<String>,
}

impl Victim {
    /// Starts one; `more` goes on its command line.
    pub(super) fn start(dir: &Path, cores: u16, io: Io, workload: Workload, more: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("write")
            .arg("--dir")
            .arg(dir)
            .args(["--cores", &cores.to_string(), "--io", io.name()])
            .args(["--seed", &workload.seed.to_string(), "--keys", &workload.keys.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("can't start the writing process")?;
        let (output, mut complaints) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (line, lines) = channel();
        thread::spawn(move || {
            // A line cut short by the kill has no newline: it is nobody's word.
            let mut output = BufReader::new(output);
            let mut text = String::new();
            while output.read_line(&mut text).is_ok_and(|length| length > 0) && text.ends_with('\n') {
                let _ = line.send(text.trim_end().to_owned());
                text.clear();
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = complaints.read_to_string(&mut text);
            text
        });
        Ok(Self { child, lines, errors, said: Said::default() })
    }

    /// Waits until it has opened the store. False if it ended or hangs.
    pub(super) fn wait_for_open(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.opened {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.take(&line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Kills it, and hears what it had said.
    pub(super) fn kill(mut self) -> Result<Said> {
        let ended = self.child.try_wait()?;
        self.child.kill()?;
        self.child.wait()?;
        for line in &self.lines {
            self.said.take(&line);
        }
        let complaints = self.errors.join().unwrap_or_default();
        if complaints.contains("panicked") {
            self.said.strange.get_or_insert_with(|| complaints.trim_end().to_owned());
        }
        if let Some(status) = ended {
            self.said.ended = Some(format!("{status}: {}", complaints.trim_end()));
        }
        Ok(self.said)
    }
}

impl Said {
    fn take(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["latched", _] => self.latched += 1,
            ["went-on", ..] => self.went_on.push(line.to_owned()),
            [word @ ("open" | "ack"), epoch, offset] => match (epoch.parse::<u64>(), offset.parse()) {
                (Ok(_), Ok(_)) if word == "open" => self.opened = true,
                (Ok(epoch), Ok(offset)) => {
                    self.epochs += epoch.saturating_sub(self.last.map_or(epoch - 1, |last| last.epoch.get()));
                    self.last = Some(Acknowledged { epoch: Epoch(epoch), offset });
                }
                _ => self.strange = Some(line.to_owned()),
            },
            _ => self.strange = Some(line.to_owned()),
        }
    }
}
