//! Faults of the disk that a life may meet.

use corewal::io::{Fault, FaultKind, OperationKind};

use super::super::profile::pick;
use super::Life;

impl Life<'_> {
    /// A fault that a checkpoint may meet.
    pub(super) fn plant_checkpoint_fault(&mut self) {
        let rng = &mut self.checkpoint_rng;
        let (on, skip) = match rng.u8(0..12) {
            0 => (OperationKind::Create, 4),
            1 | 2 => (OperationKind::Rename, 2),
            3 => (OperationKind::Remove, 4),
            4 => (OperationKind::SetLen, 2),
            5 => (OperationKind::SyncDir, 3),
            6 => (OperationKind::Settle, 5),
            7 | 10 | 11 => (OperationKind::Write, 6),
            8 => (*pick(rng, &[OperationKind::Read, OperationKind::Open, OperationKind::List]), 20),
            _ => (OperationKind::Any, 60),
        };
        let failed_syncs = [
            FaultKind::FailedSyncPagesDropped,
            FaultKind::FailedSyncPagesKept,
            FaultKind::FailedSyncHalf,
            FaultKind::FailedSyncPagesMixed,
        ];
        let kind = match on {
            OperationKind::Settle => *pick(rng, &failed_syncs),
            OperationKind::Write if rng.bool() => FaultKind::ShortWrite,
            OperationKind::Write => *pick(rng, &[FaultKind::Error(5), FaultKind::Error(28)]),
            _ => *pick(rng, &[FaultKind::Error(5), FaultKind::Error(28)]),
        };
        let fault = Fault { on, skip: rng.u64(0..skip), kind, sticky: rng.u8(0..8) == 0 };
        self.session.profile.tell(|| format!("plant {fault:?} for a checkpoint"));
        self.disk.inject(fault);
    }

    pub(super) fn plant_fault(&mut self) {
        let errors = [FaultKind::Error(5), FaultKind::Error(28)];
        let failed_syncs = [
            FaultKind::Error(5),
            FaultKind::FailedSyncPagesDropped,
            FaultKind::FailedSyncPagesKept,
            FaultKind::FailedSyncHalf,
            FaultKind::FailedSyncPagesMixed,
        ];
        let (on, kind) = match self.rng.u8(0..10) {
            0 => (OperationKind::Write, *pick(&mut self.rng, &errors)),
            1 | 2 => (OperationKind::Write, FaultKind::ShortWrite),
            3 | 4 => (OperationKind::Sync, *pick(&mut self.rng, &failed_syncs)),
            5 => (OperationKind::Settle, *pick(&mut self.rng, &failed_syncs)),
            6 => (OperationKind::Create, *pick(&mut self.rng, &errors)),
            7 => (OperationKind::SyncDir, errors[0]),
            8 => (OperationKind::SetLen, *pick(&mut self.rng, &errors)),
            _ => (OperationKind::Any, *pick(&mut self.rng, &errors)),
        };
        let fault = Fault { on, skip: self.rng.u64(0..5), kind, sticky: self.rng.u8(0..8) == 0 };
        self.session.profile.tell(|| format!("plant {fault:?}"));
        self.disk.inject(fault);
    }
}
