//! What all handles of one simulated disk share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fastrand::Rng;

use super::content::MAX_LEN;
use super::disk::{Disk, Flight, InFlight, NodeId};
use super::fault::{self, FaultKind, Faults, OperationKind};
use super::file::{ChangeKind, SECTOR};
use super::{SimOptions, SimSnapshot};

/// The disk and all that is about it but not on it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) disk: Disk,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    /// Whether every step is recorded.
    pub(super) recording: bool,
    pub(super) snapshots: Vec<SimSnapshot>,
    /// The locked files, each for as long as its token lives.
    pub(super) locks: BTreeMap<NodeId, Weak<()>>,
    /// The files that somebody has open.
    held: Vec<(NodeId, Weak<()>)>,
    pub(super) next_io: u64,
}

/// A mutex, because clones may be used from several threads. Nothing here
/// waits while it holds it.
pub(super) type Shared = Arc<Mutex<State>>;

/// The state. A panic of another holder is a failed assertion of a test, which
/// has its own report.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(options: SimOptions, disk: Disk) -> Self {
        let rng = Rng::with_seed(options.seed);
        Self {
            options,
            disk,
            rng,
            faults: Faults::default(),
            recording: false,
            snapshots: Vec::new(),
            locks: BTreeMap::new(),
            held: Vec::new(),
            next_io: 0,
        }
    }

    pub(super) fn snapshot(&self) -> SimSnapshot {
        SimSnapshot { step: self.disk.step, disk: self.disk.clone(), options: self.options.clone() }
    }

    /// Counts a step whose effect is there.
    pub(super) fn step(&mut self) {
        self.disk.step += 1;
        if self.recording {
            let snapshot = self.snapshot();
            self.snapshots.push(snapshot);
        }
    }

    /// A token that keeps a file for as long as it lives.
    pub(super) fn hold(&mut self, node: NodeId) -> Arc<()> {
        assert!(self.disk.nodes.contains_key(&node));
        let token = Arc::new(());
        self.held.push((node, Arc::downgrade(&token)));
        token
    }

    /// Forgets files that nothing leads to and nobody has open.
    pub(super) fn collect(&mut self) {
        self.held.retain(|(_, token)| token.strong_count() > 0);
        let held: BTreeSet<NodeId> = self.held.iter().map(|(node, _)| *node).collect();
        self.disk.collect(&held);
    }

    /// Refuses a file that would become longer than files can be, or than the
    /// disk has room for.
    pub(super) fn check_room(&self, node: NodeId, len: u64) -> io::Result<()> {
        if len > MAX_LEN {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let Some(capacity) = self.options.capacity_bytes else {
            return Ok(());
        };
        let growth = len.saturating_sub(self.disk.file(node).cache.len());
        let used = self.disk.used_bytes();
        if growth > 0 && used.saturating_add(growth) > capacity {
            return Err(fault::disk_full());
        }
        Ok(())
    }

    /// Completes an operation in flight: its effect and its result.
    pub(super) fn complete(&mut self, flight: Flight) -> io::Result<usize> {
        let operation = self.disk.in_flight.remove(&flight);
        let result = match operation.expect("only what is in flight is completed") {
            InFlight::Write { node, offset, bytes, data_sync } => self.complete_write(node, offset, &bytes, data_sync),
            InFlight::Sync { node, upto } => {
                let fault = self.faults.strike(OperationKind::Sync);
                self.complete_sync(node, upto, fault).map(|()| 0)
            }
        };
        self.step();
        result
    }

    fn complete_write(&mut self, node: NodeId, offset: u64, bytes: &Arc<[u8]>, data_sync: bool) -> io::Result<usize> {
        let fault = self.faults.strike(OperationKind::Write);
        self.check_room(node, offset + bytes.len() as u64)?;
        let sectors = bytes.len() / SECTOR;
        assert!(sectors > 1, "a write is of whole blocks");
        let (written, result) = match fault {
            None => (sectors, Ok(bytes.len())),
            Some(FaultKind::ShortWrite) => {
                let written = self.rng.usize(1..sectors);
                (written, Ok(written * SECTOR))
            }
            Some(other) => (self.rng.usize(0..=sectors), Err(fault::error(other))),
        };
        let durably = data_sync && result.is_ok() && !self.options.sync_lies;
        let bytes: Arc<[u8]> = if written == sectors { Arc::clone(bytes) } else { bytes[..written * SECTOR].into() };
        if durably {
            self.disk.file_mut(node).write_durably(offset, &bytes);
        } else if written > 0 {
            let sequence = self.disk.next_sequence();
            let kind = ChangeKind::Write { offset, bytes };
            self.disk.file_mut(node).change(sequence, kind);
        }
        result
    }

    /// A sync of what had completed by `upto`, with what a fault makes of it.
    pub(super) fn complete_sync(&mut self, node: NodeId, upto: u64, fault: Option<FaultKind>) -> io::Result<()> {
        let file = self.disk.file_mut(node);
        match fault {
            None if self.options.sync_lies => return Ok(()),
            None => {
                file.sync(upto);
                return Ok(());
            }
            Some(FaultKind::FailedSyncPagesDropped) => file.drop_pages(upto),
            Some(FaultKind::FailedSyncPagesKept) => file.forget_pages(upto),
            Some(FaultKind::FailedSyncHalf) => file.sync_half(upto, &mut self.rng),
            Some(FaultKind::FailedSyncPagesMixed) => file.mix_pages(upto, &mut self.rng),
            Some(FaultKind::Error(_) | FaultKind::ShortWrite) => {}
        }
        Err(fault.map_or_else(fault::input_output, fault::error))
    }

    /// A `set_len` that fails somewhere on its way.
    pub(super) fn fail_set_len(&mut self, node: NodeId, len: u64) {
        let old = self.disk.file(node).cache.len();
        let (low, high) = (old.min(len), old.max(len));
        let reached = match self.rng.u8(0..3) {
            0 => old,
            1 => len,
            _ => self.rng.u64(low..=high),
        };
        assert!(low <= reached && reached <= high);
        if reached != old {
            let sequence = self.disk.next_sequence();
            self.disk.file_mut(node).set_len(sequence, reached);
        }
    }
}
