//! Processes that run a program.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::run::{RUN, Ran, Run};

/// A process; it is killed where nobody waits for its end.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(run: &Run) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(RUN, serde_json::to_string(run).expect("text")).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("a process"))
    }

    /// Waits for its end, which has to be a good one.
    fn wait(mut self) -> Ran {
        let mut said = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        assert!(self.0.wait().expect("it ends").success(), "a run failed");
        // Timely says things there as well, of its connections.
        let line = said.lines().rfind(|line| line.starts_with('{')).expect("how it went");
        serde_json::from_str(line).expect("as it wrote it")
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }

    /// It has to run still.
    pub(crate) fn check(&mut self) {
        assert!(self.0.try_wait().expect("a process").is_none(), "the run has ended");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end, in as many processes; the longest time counts.
pub(crate) fn run(run: &Run, processes: usize) -> Ran {
    // Free now, and nobody else asks for just these in a moment.
    let listeners: Vec<_> =
        (0..processes).filter(|_| processes > 1).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect();
    drop(listeners);
    let start = |process| Running::start(&Run { process, addresses: addresses.clone(), ..run.clone() });
    let running: Vec<_> = (0..processes).map(start).collect();
    let ran = running.into_iter().map(Running::wait);
    ran.max_by_key(|ran| ran.took).expect("one or more")
}
