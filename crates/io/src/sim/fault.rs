//! Faults that a test plants in a simulated disk.

use std::io;

/// The operations a [`Fault`] can be planted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// A submitted write, when it completes.
    Write,
    /// A submitted sync, when it completes.
    Sync,
    /// Creating a file: [`OpenMode::CreateNew`](crate::OpenMode::CreateNew),
    /// or a lock whose file is missing.
    Create,
    /// [`Storage::create_dir`](crate::Storage::create_dir).
    CreateDir,
    /// [`Storage::rename`](crate::Storage::rename).
    Rename,
    /// [`Storage::remove`](crate::Storage::remove).
    Remove,
    /// [`Storage::set_len`](crate::Storage::set_len).
    SetLen,
    /// [`Storage::sync_dir`](crate::Storage::sync_dir).
    SyncDir,
    /// [`Storage::read_at`](crate::Storage::read_at).
    Read,
    /// Opening a file that exists.
    Open,
    /// [`Storage::list`](crate::Storage::list).
    List,
    /// [`Storage::settle`](crate::Storage::settle).
    Settle,
    /// Each of the others.
    Any,
}

/// What a [`Fault`] does to its operation.
///
/// On an operation that a kind does not speak of it acts as
/// `Error(5)` (`EIO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The operation fails with this error number of the operating system
    /// (5 is `EIO`, 28 is `ENOSPC`).
    ///
    /// A write may have reached the cache with any prefix of its sectors; a
    /// `set_len` may have set any length between the old and the new; what a
    /// sync covers stays pending; all else has no effect.
    Error(i32),
    /// A write stops after some of its sectors, and its completion says so.
    ShortWrite,
    /// A sync or `settle` fails with `EIO`, and the cache goes back to what
    /// the medium has of what the sync covers.
    FailedSyncPagesDropped,
    /// A sync or `settle` fails with `EIO`. The cache keeps the bytes but
    /// they look clean: no later sync writes them, and a power cut loses them.
    FailedSyncPagesKept,
    /// As [`FaultKind::FailedSyncPagesKept`], but a random part of the bytes
    /// had become durable.
    FailedSyncHalf,
    /// As [`FaultKind::FailedSyncHalf`], but of the pages that the sync covers
    /// a random part goes back to what the medium has.
    FailedSyncPagesMixed,
}

/// A fault planted with [`SimStorage::inject`](crate::SimStorage::inject).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The operation that it strikes.
    pub on: OperationKind,
    /// How many such operations pass first.
    pub skip: u64,
    /// What it does.
    pub kind: FaultKind,
    /// Whether it strikes every such operation from then on, or only one.
    pub sticky: bool,
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What strikes an operation of this kind now: the earliest planted fault
    /// that is due. All that wait for such operations count it.
    pub(super) fn strike(&mut self, kind: OperationKind) -> Option<FaultKind> {
        assert_ne!(kind, OperationKind::Any, "an operation has one kind");
        let mut struck = None;
        self.0.retain_mut(|fault| {
            if fault.on != kind && fault.on != OperationKind::Any {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            if struck.is_some() {
                return true;
            }
            struck = Some(fault.kind);
            fault.sticky
        });
        struck
    }

    /// The error of an operation for which only failing makes sense.
    pub(super) fn fail(&mut self, kind: OperationKind) -> io::Result<()> {
        self.strike(kind).map_or(Ok(()), |fault| Err(error(fault)))
    }
}

/// The error that a fault gives.
pub(super) fn error(fault: FaultKind) -> io::Error {
    match fault {
        FaultKind::Error(number) => io::Error::from_raw_os_error(number),
        _ => input_output(),
    }
}

/// `EIO`, or Windows' `ERROR_IO_DEVICE`.
pub(super) fn input_output() -> io::Error {
    io::Error::from_raw_os_error(if cfg!(windows) { 1117 } else { 5 })
}

/// `ENOSPC`, or Windows' `ERROR_DISK_FULL`.
pub(super) fn disk_full() -> io::Error {
    io::Error::from_raw_os_error(if cfg!(windows) { 112 } else { 28 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(on: OperationKind, skip: u64, number: i32, sticky: bool) -> Fault {
        let kind = FaultKind::Error(number);
        Fault { on, skip, kind, sticky }
    }

    #[test]
    fn a_fault_strikes_once_after_the_skipped_operations() {
        let mut faults = Faults::default();
        faults.add(fault(OperationKind::Write, 2, 5, false));
        let struck: Vec<bool> = (0..5).map(|_| faults.strike(OperationKind::Write).is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false]);
    }

    #[test]
    fn a_sticky_fault_strikes_until_it_is_cleared() {
        let mut faults = Faults::default();
        faults.add(fault(OperationKind::Any, 1, 5, true));
        assert!(faults.strike(OperationKind::Read).is_none());
        assert!(faults.strike(OperationKind::Sync).is_some());
        assert!(faults.strike(OperationKind::Rename).is_some());
        faults.clear();
        assert!(faults.strike(OperationKind::Rename).is_none());
    }

    #[test]
    fn other_operations_neither_strike_nor_count() {
        let mut faults = Faults::default();
        faults.add(fault(OperationKind::Sync, 1, 5, false));
        assert!(faults.strike(OperationKind::Write).is_none());
        assert!(faults.strike(OperationKind::Sync).is_none());
        assert!(faults.strike(OperationKind::Sync).is_some());
    }

    #[test]
    fn of_two_faults_that_are_due_the_older_strikes_first() {
        let mut faults = Faults::default();
        faults.add(fault(OperationKind::Write, 0, 5, false));
        faults.add(fault(OperationKind::Write, 0, 28, false));
        assert_eq!(faults.strike(OperationKind::Write), Some(FaultKind::Error(5)));
        assert_eq!(faults.strike(OperationKind::Write), Some(FaultKind::Error(28)));
    }
}
