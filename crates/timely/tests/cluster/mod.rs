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
    /// Each process has a directory of its own.
    apart: bool,
}

impl Cluster {
    pub(crate) fn new(workload: Workload) -> Self {
        let dir = tempfile::tempdir().unwrap();
        workload.write(&dir.path().join("input"));
        Self { dir, workload, broker: None, apart: false }
    }

    /// With events from the broker at a URL, and output to it.
    #[cfg(feature = "nats")]
    pub(crate) fn on_broker(workload: Workload, url: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), workload, broker: Some(url), apart: false }
    }

    /// With a directory for each process, and the records in object storage.
    #[cfg(feature = "archive")]
    pub(crate) fn apart(workload: Workload) -> Self {
        Self { apart: true, ..Self::new(workload) }
    }

    /// Brings what is in one process's directory to another's.
    #[cfg(feature = "archive")]
    pub(crate) fn bring(&self, from: u16, to: u16) {
        let (from, to) = (self.job_of(from), self.job_of(to));
        let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(&to).status().unwrap();
        assert!(copied.success());
        fs::remove_dir_all(from).unwrap();
    }

    /// Two processes have their directories interchanged.
    #[cfg(feature = "archive")]
    pub(crate) fn swap(&self, one: u16, other: u16) {
        let aside = self.path("aside");
        for (from, to) in
            [(self.job_of(one), aside.clone()), (self.job_of(other), self.job_of(one)), (aside, self.job_of(other))]
        {
            fs::rename(from, to).unwrap();
        }
    }

    /// The job's directory, as a process has it.
    fn job_of(&self, process: u16) -> PathBuf {
        self.path(&if self.apart { format!("job-{process}") } else { "job".into() })
    }

    /// The directories of all its processes.
    fn jobs(&self) -> Vec<PathBuf> {
        let jobs = (0..8).map(|process| self.job_of(process)).filter(|job| job.is_dir());
        jobs.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    fn records(&self) -> PathBuf {
        self.path(if self.apart { "bucket/jobs/events" } else { "job/records" })
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
        let before = complete(&self.records());
        // Free now, and nobody else asks for just these in a moment.
        let listeners: Vec<_> = (0..shape.0).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        drop(listeners);
        let seen = others(&addresses);
        let start = |process: u16| {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["process", "--exact", "--nocapture"])
                .env("COREWAL_TIMELY_DIR", self.dir.path())
                .env("COREWAL_TIMELY_JOB", self.job_of(process))
                .env("COREWAL_TIMELY_STOP", self.path(&format!("stop-{process}")))
                .envs(self.apart.then(|| ("COREWAL_TIMELY_BUCKET", self.path("bucket"))))
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
        Running { processes: (0..shape.0).map(start).collect(), records: self.records(), before }
    }

    /// Asks one process to stop, and waits until all have.
    pub(crate) fn stop(&self, running: Running, asked: u16) {
        let told = self.path(&format!("stop-{asked}"));
        fs::write(&told, b"").unwrap();
        running.wait_until_it_ends();
        fs::remove_file(told).unwrap();
    }

    /// The state and the output, held against what has to come out.
    pub(crate) fn assert_as_the_oracle(&self) {
        self.workload.assert_rows(oracle::rows_of(&self.path("output")));
        self.assert_state();
    }

    /// Rows that are published.
    pub(crate) fn rows(&self) -> usize {
        oracle::rows_of(&self.path("output")).len()
    }

    /// Whether all rows that have to come out are.
    pub(crate) fn is_done(&self) -> bool {
        self.rows() == self.workload.rows()
    }

    pub(crate) fn assert_state(&self) {
        let store = |name: String| {
            let there = self.jobs().into_iter().map(|job| job.join("stores").join(&name)).find(|store| store.is_dir());
            there.unwrap_or_else(|| panic!("{name} is nowhere"))
        };
        self.workload.assert_state(self.stores().into_iter().map(store).collect());
    }

    /// The names of the stores that hold its state.
    fn stores(&self) -> Vec<String> {
        serde_json::from_value(newest(&self.records()).unwrap()["stores"].clone()).unwrap()
    }

    /// Nothing is left of stores that came to nothing or have moved.
    pub(crate) fn assert_no_litter(&self) {
        let jobs = self.jobs();
        let count = |name: &str| jobs.iter().map(|job| fs::read_dir(job.join(name)).unwrap().count()).sum::<usize>();
        assert_eq!((count("stores"), count("staged")), (self.stores().len(), jobs.len()));
    }
}

/// A job's newest record.
fn newest(records: &Path) -> Option<serde_json::Value> {
    let mut paths: Vec<_> = fs::read_dir(records).ok()?.map(|entry| entry.unwrap().path()).collect();
    // Numbers; and what is being written has other names.
    paths.retain(|path| {
        path.file_stem().is_some_and(|name| name.len() == 20) && !path.to_string_lossy().ends_with("draft")
    });
    paths.sort();
    // It may be gone already.
    let bytes = paths.iter().rev().find_map(|path| fs::read(path).ok())?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// What it says is complete.
fn complete(records: &Path) -> u64 {
    newest(records).map_or(0, |record| record["complete"].as_u64().unwrap())
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
    records: PathBuf,
    /// What was complete when they were started.
    before: u64,
}

impl Running {
    /// Waits until epochs of this start are complete.
    pub(crate) fn wait_until_it_goes_on(&mut self) {
        let began = Instant::now();
        let wanted = complete(&self.records).max(self.before).max(1) + 3;
        while complete(&self.records) < wanted {
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
