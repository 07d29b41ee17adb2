//! A job of several processes, as its parent sees it.

mod cut;
mod job;
mod oracle;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use cut::Cut;
pub(crate) use job::process_if_told;
pub(crate) use oracle::Workload;

/// How many processes, and workers of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape(pub u16, pub u16);

/// Nothing takes longer than this, on a slow machine with much to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A job, started again and again.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    workload: Workload,
    broker: Option<String>,
}

impl Cluster {
    pub(crate) fn new(workload: Workload) -> Self {
        let dir = tempfile::tempdir().unwrap();
        workload.write(&dir.path().join("input"));
        Self { dir, workload, broker: None }
    }

    /// With events from the broker at a URL, and output to it.
    #[cfg(feature = "nats")]
    pub(crate) fn on_broker(workload: Workload, url: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), workload, broker: Some(url) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts all processes of the job.
    pub(crate) fn start(&mut self, shape: Shape, take_over: bool) -> Running {
        self.start_over(shape, take_over, |addresses| addresses.to_vec())
    }

    /// Two processes, with a network between them that can be cut.
    pub(crate) fn start_to_be_cut(&mut self, workers: u16) -> (Running, Cut) {
        let mut cut = None;
        let running = self.start_over(Shape(2, workers), false, |addresses| {
            let network = cut.insert(Cut::before(&addresses[0]));
            vec![network.address().to_owned(), addresses[1].clone()]
        });
        (running, cut.expect("made for the start"))
    }

    /// `others` gives the addresses at which all but the first see the processes.
    fn start_over(&mut self, shape: Shape, take_over: bool, others: impl FnOnce(&[String]) -> Vec<String>) -> Running {
        let before = complete(&self.path("job"));
        // Free now, and nobody else asks for just these in a moment.
        let listeners: Vec<_> = (0..shape.0).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        drop(listeners);
        let seen = others(&addresses);
        let start = |process: u16| {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["process", "--exact", "--nocapture"])
                .env("COREWAL_TIMELY_DIR", self.dir.path())
                .env("COREWAL_TIMELY_PROCESS", process.to_string())
                .env("COREWAL_TIMELY_WORKERS", shape.1.to_string())
                .env("COREWAL_TIMELY_ADDRESSES", if process == 0 { &addresses } else { &seen }.join(","))
                .env("COREWAL_TIMELY_PARTITIONS", self.workload.partitions.to_string())
                .envs(self.broker.iter().map(|url| ("COREWAL_TIMELY_BROKER", url)))
                .env("COREWAL_TIMELY_TAKE_OVER", u8::from(take_over).to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn();
            Process(child.unwrap())
        };
        Running { processes: (0..shape.0).map(start).collect(), job: self.path("job"), before }
    }

    /// The state and the output, held against what has to come out.
    pub(crate) fn assert_as_the_oracle(&self) {
        self.workload.assert_rows(oracle::rows_of(&self.path("output")));
        self.assert_state();
    }

    pub(crate) fn assert_state(&self) {
        let job = self.path("job");
        let stores = newest(&job).unwrap()["stores"].clone();
        self.workload.assert_state(&job, serde_json::from_value(stores).unwrap());
    }

    /// Nothing is left of stores that came to nothing or have moved.
    pub(crate) fn assert_no_litter(&self) {
        let count = |name: &str| fs::read_dir(self.path("job").join(name)).unwrap().count();
        let stores = newest(&self.path("job")).unwrap()["stores"].as_array().unwrap().len();
        assert_eq!((count("stores"), count("staged")), (stores, 1));
    }
}

/// A job's newest record.
fn newest(job: &Path) -> Option<serde_json::Value> {
    let mut paths: Vec<_> = fs::read_dir(job.join("records")).ok()?.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    // It may be gone already.
    let bytes = paths.iter().rev().find_map(|path| fs::read(path).ok())?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// What it says is complete.
fn complete(job: &Path) -> u64 {
    newest(job).map_or(0, |record| record["complete"].as_u64().unwrap())
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end: whether it was a good one, and what it said.
    fn wait(&mut self) -> (bool, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "a process does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        (status.success(), said)
    }
}

/// The processes of one start.
pub(crate) struct Running {
    processes: Vec<Process>,
    job: PathBuf,
    /// What was complete when they were started.
    before: u64,
}

impl Running {
    /// Waits until epochs of this start are complete.
    pub(crate) fn wait_until_it_goes_on(&mut self) {
        let began = Instant::now();
        let wanted = complete(&self.job).max(self.before).max(1) + 3;
        while complete(&self.job) < wanted {
            let mut ended = 0;
            for process in &mut self.processes {
                if let Some(status) = process.0.try_wait().unwrap() {
                    assert!(status.success(), "{}", process.wait().1);
                    ended += 1;
                }
            }
            // On a slow machine the job may have come to its end.
            if ended == self.processes.len() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "nothing becomes complete");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self, process: usize) {
        self.processes[process].0.kill().unwrap();
        self.processes[process].wait();
    }

    pub(crate) fn kill_all(mut self) {
        self.processes.iter_mut().for_each(|process| process.0.kill().unwrap());
        self.processes.iter_mut().for_each(|process| drop(process.wait()));
    }

    pub(crate) fn stop(&self, process: usize) {
        self.processes[process].signal(rustix::process::Signal::STOP);
    }

    pub(crate) fn go_on(&self, process: usize) {
        self.processes[process].signal(rustix::process::Signal::CONT);
    }

    pub(crate) fn wait_for(&mut self, process: usize) -> String {
        let (well, said) = self.processes[process].wait();
        assert!(!well, "it came to its end");
        said
    }

    /// What the others say that do not come to their end: they do if the one was
    /// killed when it had.
    pub(crate) fn wait_for_the_others(mut self, but: usize) -> Vec<String> {
        let others = self.processes.iter_mut().enumerate().filter(|(process, _)| *process != but);
        others.map(|(_, process)| process.wait()).filter(|(well, _)| !well).map(|(_, said)| said).collect()
    }

    /// One of them fails; what it said, and the others, which are ended.
    pub(crate) fn wait_for_failure(mut self) -> Vec<String> {
        let began = Instant::now();
        while !self.processes.iter_mut().any(|process| process.0.try_wait().unwrap().is_some()) {
            assert!(began.elapsed() < PATIENCE, "none fails");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(200));
        self.processes.iter_mut().for_each(|process| drop(process.0.kill()));
        self.processes.iter_mut().map(|process| process.wait().1).collect()
    }

    pub(crate) fn wait_until_it_ends(mut self) {
        for process in &mut self.processes {
            let (well, said) = process.wait();
            assert!(well, "{said}");
        }
    }
}
