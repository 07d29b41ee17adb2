//! A server of one's own.

use std::collections::VecDeque;
use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::Info as ConsumerInfo;
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use corewal_timely::nats::Broker;
use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Longest wait for anything that has to happen.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Where the program is, found once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/nats-server.sh");
        let output = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{} has not found nats-server", script.display());
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    })
}

/// A server with JetStream, its store in a directory of its own. It is killed
/// when this is dropped, also by a test that fails.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { dir: tempfile::tempdir().unwrap(), port: 0, arguments, child: None };
        // A port that is free now may be another's a moment later.
        for _ in 0..5 {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if server.try_run() {
                return server;
            }
        }
        panic!("nats-server does not start: {}", server.log());
    }

    /// Starts it again, on the same port and the same store.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let started = Instant::now();
        while !self.try_run() {
            assert!(started.elapsed() < LONG, "nats-server does not start again: {}", self.log());
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn try_run(&mut self) -> bool {
        let child = Command::new(program())
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js"])
            .args([Path::new("-sd"), &self.dir.path().join("store"), Path::new("-l"), &self.dir.path().join("log")])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let started = Instant::now();
        while started.elapsed() < LONG {
            if child.try_wait().unwrap().is_some() {
                self.child = None;
                return false;
            }
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let mut greeting = [0; 4];
                stream.set_read_timeout(Some(LONG)).unwrap();
                if stream.read_exact(&mut greeting).is_ok() && &greeting == b"INFO" {
                    return true;
                }
            }
            sleep(Duration::from_millis(20));
        }
        false
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn broker(&self) -> Broker {
        Broker::new(self.url()).patience(LONG)
    }

    /// A connection as an operator has it. It does not outlive a restart.
    pub(crate) fn admin(&self) -> Admin {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(self.url())).unwrap();
        // The context has a task of its own.
        let context = runtime.block_on(async { jetstream::new(client) });
        Admin { runtime, context }
    }

    /// With a stream that takes these subjects.
    pub(crate) fn with_stream(subjects: &[&str]) -> Self {
        let server = Self::start();
        server.admin().create("S", subjects);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not `kill`: nothing here may panic once more.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A message as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) payload: String,
    /// Its `Nats-Msg-Id`.
    pub(crate) name: Option<String>,
}

/// What an operator does, one thing after the other.
pub(crate) struct Admin {
    runtime: Runtime,
    pub(crate) context: Context,
}

impl Admin {
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn create(&self, name: &str, subjects: &[&str]) {
        self.create_with(Config { name: name.to_owned(), subjects: owned(subjects), ..Config::default() });
    }

    pub(crate) fn create_with(&self, config: Config) {
        self.run(self.context.create_stream(config)).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        self.run(self.context.delete_stream(name)).unwrap();
    }

    /// Deletes the messages before a sequence.
    pub(crate) fn purge(&self, name: &str, before: u64) {
        self.run(async { self.context.get_stream(name).await.unwrap().purge().sequence(before).await.unwrap() });
    }

    /// Publishes messages, many at once.
    pub(crate) fn publish<S: AsRef<str>>(&self, messages: impl IntoIterator<Item = (S, String)>) {
        self.run(async {
            let mut stored = VecDeque::new();
            for (subject, payload) in messages {
                stored.push_back(self.context.publish(subject.as_ref().to_owned(), payload.into()).await.unwrap());
                if stored.len() == 1000 {
                    stored.pop_front().unwrap().await.unwrap();
                }
            }
            for stored in stored {
                stored.await.unwrap();
            }
        });
    }

    /// All messages of a stream.
    pub(crate) fn stored(&self, name: &str) -> Vec<Stored> {
        self.run(async {
            let stream = self.context.get_stream(name).await.unwrap();
            let state = &stream.cached_info().state;
            let mut all = Vec::new();
            for sequence in state.first_sequence..=state.last_sequence {
                let message = stream.get_raw_message(sequence).await.unwrap();
                all.push(Stored {
                    sequence,
                    subject: message.subject.to_string(),
                    payload: String::from_utf8(message.payload.to_vec()).unwrap(),
                    name: message.headers.get("Nats-Msg-Id").map(ToString::to_string),
                });
            }
            all
        })
    }

    pub(crate) fn consumers(&self, name: &str) -> Vec<ConsumerInfo> {
        self.run(async { self.context.get_stream(name).await.unwrap().consumers().try_collect().await.unwrap() })
    }

    /// Waits until the one consumer of a stream is as it should be.
    pub(crate) fn until_consumer(&self, name: &str, is: impl Fn(&ConsumerInfo) -> bool) -> ConsumerInfo {
        let started = Instant::now();
        loop {
            let mut consumers = self.consumers(name);
            if consumers.len() == 1 && is(&consumers[0]) {
                return consumers.remove(0);
            }
            assert!(started.elapsed() < LONG, "{consumers:?}");
            sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
