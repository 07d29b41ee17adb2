//! Pushing in the background.

#![allow(clippy::disallowed_methods, reason = "tests are outside the simulated engine")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{LOG, Machine};
use corewal_archive::{Archive, Archiver, Error, Options, Takeover};
use corewal_format::Epoch;
use object_store::memory::InMemory;

const SOON: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3_600);

struct Rig {
    archive: Archive,
    machine: Arc<Mutex<Machine>>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::with_store(Arc::new(InMemory::new()), "", Options::default()).unwrap();
        let mut machine = Machine::new(&dir.path().join("machine"), 1, 2, 100);
        machine.advance();
        Self { archive, machine: Arc::new(Mutex::new(machine)), _dir: dir }
    }

    fn start(&self, interval: Duration) -> Archiver {
        let owner = self.archive.own(LOG, Takeover::Force).unwrap();
        let machine = Arc::clone(&self.machine);
        Archiver::start(owner, interval, move || Ok(machine.lock().unwrap().inventory())).unwrap()
    }

    fn advance(&self) {
        self.machine.lock().unwrap().advance();
    }
}

/// Waits until something holds; fails if it takes too long.
fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < SOON, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_pushes_at_once_when_asked_and_by_the_clock() {
    let rig = Rig::new();
    let archiver = rig.start(NEVER);
    until(|| archiver.status().epoch == Epoch(1));
    rig.advance();
    archiver.poke();
    until(|| archiver.status().epoch == Epoch(2));
    rig.advance();
    assert_eq!(archiver.flush(SOON).unwrap(), Epoch(3));
    let status = archiver.status();
    assert!(status.error.is_none() && status.fenced.is_none() && status.acknowledged_ns.is_some());
    assert!(status.pushes >= 3 && status.waiting_files == 0);
    drop(archiver);

    let archiver = rig.start(Duration::from_millis(20));
    rig.advance();
    until(|| archiver.status().epoch == Epoch(4));
}

#[test]
fn it_ends_when_it_is_replaced() {
    let rig = Rig::new();
    let archiver = rig.start(NEVER);
    archiver.flush(SOON).unwrap();
    let next = rig.start(NEVER);
    assert!(matches!(*archiver.flush(SOON).unwrap_err(), Error::Fenced { .. }));
    assert!(archiver.status().fenced.is_some());
    assert!(matches!(*archiver.flush(SOON).unwrap_err(), Error::Fenced { .. }), "and again");
    assert_eq!(next.flush(SOON).unwrap(), Epoch(1));
}

#[test]
fn it_goes_on_after_a_failure() {
    let rig = Rig::new();
    let owner = rig.archive.own(LOG, Takeover::First).unwrap();
    let fails = Arc::new(AtomicBool::new(true));
    let (machine, failing) = (Arc::clone(&rig.machine), Arc::clone(&fails));
    let archiver = Archiver::start(owner, NEVER, move || {
        if failing.load(Ordering::SeqCst) {
            return Err(Error::Inventory { detail: "not yet".to_owned() });
        }
        Ok(machine.lock().unwrap().inventory())
    })
    .unwrap();
    assert!(matches!(*archiver.flush(SOON).unwrap_err(), Error::Inventory { .. }));
    assert!(archiver.status().error.is_some());
    fails.store(false, Ordering::SeqCst);
    // It tries again by itself, a second after the first failure.
    until(|| archiver.status().epoch == Epoch(1));
    assert!(archiver.status().error.is_none());
}

#[test]
fn dropping_it_does_not_wait_for_the_interval() {
    let rig = Rig::new();
    let archiver = rig.start(NEVER);
    archiver.flush(SOON).unwrap();
    let begin = Instant::now();
    drop(archiver);
    assert!(begin.elapsed() < Duration::from_secs(2));
}
