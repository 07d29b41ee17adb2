//! A child process, from its start to its killing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corewal::Epoch;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use super::oracle::Acknowledged;
use super::workload::Workload;
use crate::exit::Failure;
use crate::medium::Io;

/// An opening that takes longer than this is taken for one that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running child.
pub(super) struct Victim {
    child: Child,
    lines: Receiver<String>,
    errors: JoinHandle<String>,
}

/// What a killed child left.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// How many epochs it acknowledged.
    pub(super) epochs: u64,
    /// The last one.
    pub(super) last: Option<Acknowledged>,
    /// Whether it had opened the store.
    pub(super) had_opened: bool,
    /// Set if it did not wait to be killed: what it said.
    pub(super) ended: Option<String>,
}

impl Victim {
    /// Starts one.
    pub(super) fn start(dir: &Path, cores: u16, io: Io, workload: Workload) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(&program)
            .arg("torture-child")
            .arg("--dir")
            .arg(dir)
            .args(["--cores", &cores.to_string()])
            .args(["--seed", &workload.seed.to_string()])
            .args(["--keys", &workload.keys.to_string()])
            .args(["--io", &io.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::from(error).context(format!("can't start {}", program.display())))?;
        let (output, mut complaints) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (line, lines) = unbounded();
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
        Ok(Self { child, lines, errors })
    }

    /// Waits until it has opened the store. False if it ended or hangs.
    pub(super) fn wait_for_open(&self, remains: &mut Remains) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !remains.had_opened {
            match self.lines.recv_deadline(deadline) {
                Ok(line) => remains.take(&line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// Kills it, and hears what it had said.
    pub(super) fn kill(mut self, remains: &mut Remains) -> Result<(), Failure> {
        let ended = self.child.try_wait()?;
        self.child.kill()?;
        self.child.wait()?;
        for line in &self.lines {
            remains.take(&line);
        }
        let complaints = self.errors.join().unwrap_or_default();
        if let Some(status) = ended {
            remains.ended = Some(format!("{status}: {}", complaints.trim_end()));
        }
        Ok(())
    }
}

impl Remains {
    fn take(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (word, epoch, offset) = (words.next(), words.next(), words.next());
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        let (Some(epoch), Some(offset)) = (number(epoch), number(offset)) else {
            self.ended.get_or_insert_with(|| format!("it printed `{line}`"));
            return;
        };
        if word == Some("open") {
            self.had_opened = true;
        } else {
            self.epochs += epoch.saturating_sub(self.last.map_or(epoch - 1, |last| last.epoch.get()));
            self.last = Some(Acknowledged { epoch: Epoch(epoch), offset });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_the_last_word_kept() {
        let mut remains = Remains::default();
        for line in ["open 4 100", "ack 5 120", "ack 8 180"] {
            remains.take(line);
        }
        assert!(remains.had_opened && remains.ended.is_none());
        assert_eq!((remains.epochs, remains.last), (4, Some(Acknowledged { epoch: Epoch(8), offset: 180 })));
        remains.take("ack five");
        assert_eq!(remains.ended.as_deref(), Some("it printed `ack five`"));
    }
}
