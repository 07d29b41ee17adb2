//! Running the built program, and looking at what it left through the library.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use corewal::{Opened, Options};
use serde_json::Value;

/// What a finished run left.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Run {
    /// The JSON it printed, after a good end.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// Checks that it failed with this code and said these things.
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A directory with a store in it, and whatever belongs to the test.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A path beside the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store's directory.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file beside the store.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The program, working beside the store, with `--dir` given; `line` is
    /// split at spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corewal"));
        command.current_dir(self.dir.path()).args(line.split_whitespace());
        if !line.contains("--dir ") {
            command.args(["--dir", "store"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Run {
        self.command(line).output().unwrap().into()
    }

    /// Runs it with `input` on standard input.
    pub(crate) fn run_with(&self, line: &str, input: impl AsRef<[u8]>) -> Run {
        let mut child = self.spawn(line);
        // A program that does not want it all closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        child.wait_with_output().unwrap().into()
    }

    /// Starts it with a pipe for standard input.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        self.command(line).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Opens the store through the library.
    pub(crate) fn open(&self) -> Opened {
        Options::new().create(false).open(self.store()).unwrap()
    }

    /// Keys and values of the store.
    pub(crate) fn state(&self) -> BTreeMap<String, String> {
        let mut opened = self.open();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let shards = opened.shards.iter_mut();
        shards.flat_map(|shard| shard.scan(b"").map(|(k, v)| (text(k), text(v))).collect::<Vec<_>>()).collect()
    }
}

/// The state that a test expects.
pub(crate) fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Sends a signal by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits until `done`, at most half a minute.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}

/// Whether the store exists (its manifest does).
pub(crate) fn is_store(dir: &Path) -> bool {
    dir.join("MANIFEST").exists()
}

/// Whether this machine lets its users have io_uring. (A container may not.)
#[allow(dead_code, reason = "not every test asks")]
pub(crate) fn has_ring() -> bool {
    use corewal::io::{Backend, FileStorage, Storage};

    FileStorage::new().backend(Backend::Uring).io(0).is_ok()
}
