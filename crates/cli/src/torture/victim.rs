//! A child process, from its start to its killing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corewal::Epoch;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

#[cfg(unix)]
pub(super) use rustix::process::Signal;

use super::fault::Fault;
use super::oracle::Acknowledged;
use super::setup::Setup;
use crate::exit::Failure;

/// An opening that takes longer than this is taken for one that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running child.
pub(super) struct Victim {
    child: Child,
    lines: Receiver<String>,
    errors: JoinHandle<String>,
}

/// What a killed child left.
#[derive(Clone, Debug, Default)]
pub(super) struct Remains {
    /// How many epochs it acknowledged.
    pub(super) epochs: u64,
    /// The last one.
    pub(super) last: Option<Acknowledged>,
    /// What a reader saw beside it.
    pub(super) seen: Option<Acknowledged>,
    /// Whether it had opened the store.
    pub(super) had_opened: bool,
    /// Set if it did not wait to be killed: what it said.
    pub(super) ended: Option<String>,
}

impl Victim {
    /// Starts one; `fault` says what is going to happen to it.
    pub(super) fn start(dir: &Path, seed: u64, setup: &Setup, fault: Fault) -> Result<Self, Failure> {
        let mut command = match fault {
            Fault::Limit => deaf_command()?,
            _ => program()?,
        };
        command.arg("torture-child").arg("--dir").arg(dir).args(["--seed", &seed.to_string()]).args(setup.args());
        if fault == Fault::Budget {
            command.args(["--budget", &tight(setup).to_string()]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::from(error).context("can't start the process that is to be killed"))?;
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

    /// Sends it a signal.
    #[cfg(unix)]
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(rustix::process::kill_process(self.pid(), signal)?)
    }

    /// From now on none of its files may grow beyond so many bytes.
    #[cfg(target_os = "linux")]
    pub(super) fn limit_files(&self, bytes: u64) -> Result<(), Failure> {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

        // The hard limit stays, which only root may raise.
        let limit = Rlimit { current: Some(bytes), ..getrlimit(Resource::Fsize) };
        Ok(prlimit(Some(self.pid()), Resource::Fsize, limit).map(drop)?)
    }

    /// Elsewhere nobody can set another's limit: what follows is a kill like any.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn limit_files(&self, _bytes: u64) -> Result<(), Failure> {
        Ok(())
    }

    #[cfg(unix)]
    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait()?.is_some())
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

/// This program, in a group of its own: Ctrl-C is for the one who kills.
pub(super) fn program() -> Result<Command, Failure> {
    let mut command = Command::new(this_program()?);
    own_group(&mut command);
    Ok(command)
}

/// What runs here, also where its file has been replaced by another since: by
/// whoever builds while this goes on.
fn this_program() -> std::io::Result<PathBuf> {
    let running = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

/// The same, deaf to the signal that comes with a write beyond a limit of
/// length: the write shall fail, and the process see it.
fn deaf_command() -> Result<Command, Failure> {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(this_program()?);
    own_group(&mut command);
    Ok(command)
}

fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// A budget that the log of a few checkpoints spends: twice what they are due
/// at, or the least that a store takes.
fn tight(setup: &Setup) -> u64 {
    let first = setup.segment_bytes.min(1 << 20).max(4 * u64::from(setup.buffer_bytes));
    (2 * setup.checkpoint_bytes).max(8 * first * u64::from(setup.cores))
}

impl Remains {
    /// Whether it ended because there was no space to write to.
    pub(super) fn ended_for_want_of_space(&self) -> bool {
        const SIGNS: [&str; 4] = ["out of space", "(os error 28)", "(os error 27)", "SIGXFSZ"];
        self.ended.as_ref().is_some_and(|said| SIGNS.iter().any(|sign| said.contains(sign)))
    }

    /// The newest epoch that somebody was told of, in whatever way.
    pub(super) fn known(&self) -> Option<Acknowledged> {
        [self.last, self.seen].into_iter().flatten().max_by_key(|known| known.epoch)
    }

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
