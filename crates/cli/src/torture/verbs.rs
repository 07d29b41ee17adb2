//! Faults of the program's other verbs: killed half way, or run to their end.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use corewal::{Keyed, Opened};

use super::fault::Fault;
use super::ground::remove;
use super::oracle::Promise;
use super::rack::{Rack, Store};
use super::seen::Seen;
use super::victim::program;
use crate::exit::Failure;

impl Rack {
    /// Runs a verb on the store in `dir` and kills it after a while, unless it
    /// is faster.
    pub(super) fn kill_verb(&mut self, dir: &Path, args: &[&OsStr]) -> Result<(), Failure> {
        let mut child = program()?
            .args(args)
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(Duration::from_micros(self.random.u64(0..60_000)));
        self.tally.verbs_killed += u64::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Runs a verb on the store in `dir` to its end, which must be a good one.
    fn run_verb(&mut self, dir: &Path, args: &[&OsStr]) -> Result<bool, Failure> {
        let ended = program()?.args(args).arg("--dir").arg(dir).stdin(Stdio::null()).output()?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            let verb: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
            self.broken(
                Promise::Archive,
                format!("`{}` ended with {}: {}", verb.join(" "), ended.status, said.trim_end()),
            );
        }
        Ok(ended.status.success())
    }

    /// Kills a verb that works on a store which nobody has open.
    pub(super) fn verb_killed(&mut self, store: &Store, fault: Fault) -> Result<(), Failure> {
        let dir = self.places.store.clone();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let args = match fault {
            Fault::Checkpoint => words(&["checkpoint", "--keep", "2"]),
            Fault::Reshard => {
                let most = 2 * store.setup.cores.clamp(2, 8);
                words(&["reshard", "--cores", &self.random.u16(1..=most).to_string()])
            }
            _ => return Ok(()),
        };
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        for _ in 0..self.random.u8(1..4) {
            self.kill_verb(&dir, &args)?;
        }
        Ok(())
    }

    /// Pushes to the archive while the store is written to, and lets that be cut
    /// short as often as not.
    pub(super) fn push_beside(&mut self) -> Result<(), Failure> {
        let (dir, archive) = (self.places.store.clone(), self.places.archive.clone());
        let args = [OsStr::new("archive"), OsStr::new("push"), OsStr::new("--to"), archive.as_os_str()];
        if self.random.bool() {
            return self.kill_verb(&dir, &args);
        }
        self.run_verb(&dir, &args).map(drop)
    }

    /// Pushes the store, which is closed, restores it elsewhere and compares.
    pub(super) fn restore(&mut self, store: &Store) -> Result<(), Failure> {
        let (dir, archive, restored) =
            (self.places.store.clone(), self.places.archive.clone(), self.places.restored.clone());
        self.tally.checked(&[Promise::Archive]);
        remove(&restored)?;
        let push = [OsStr::new("archive"), OsStr::new("push"), OsStr::new("--to"), archive.as_os_str()];
        let bring = [OsStr::new("restore"), OsStr::new("--from"), archive.as_os_str()];
        if !self.run_verb(&dir, &push)? {
            return Ok(());
        }
        if self.random.bool() {
            // It goes on where it was.
            self.kill_verb(&restored, &bring)?;
        }
        if !restored.exists() && !self.run_verb(&restored, &bring)? {
            return Ok(());
        }
        match self.options().open_on(store.setup.io.storage(), &restored, |_| Keyed::default()) {
            Ok(mut opened) => self.compare_restored(store, &mut opened),
            Err(error) => self.broken(Promise::Archive, format!("what was restored does not open: {error}")),
        }
        Ok(())
    }

    fn compare_restored(&mut self, store: &Store, opened: &mut Opened) {
        self.tally.of(Fault::Archive).openings += 1;
        let seen = Seen::of(opened);
        let wrong = seen.check(store.workload, &store.oracle);
        wrong.into_iter().for_each(|found| self.broken(Promise::Archive, format!("what was restored: {found}")));
        if seen.offset() != store.oracle.offset() {
            let (pushed, restored) = (store.oracle.offset(), seen.offset());
            self.broken(Promise::Archive, format!("offset {pushed} was pushed, {restored} was restored"));
        }
    }
}
