//! What a seed decides before the first operation.

use std::sync::Arc;
use std::time::Duration;

use corewal::io::{SimOptions, SimStorage};
use corewal::{Checkpoints, GroupCommit, LogId, Options, Recover};
use fastrand::Rng;

use super::clock::LifeClock;

/// What kind of workload a seed runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Shards on a healthy disk.
    Shards,
    /// Shards on a disk that fails now and then.
    Faults,
    /// Bare writers: truncate, release, reset.
    Bare,
}

/// Everything that stays the same through all lives of one store.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) seed: u64,
    pub(crate) workload: Workload,
    pub(crate) cores: u16,
    pub(crate) options: Options,
    /// Ends of epochs are sent as numbers; otherwise they are announced.
    pub(crate) markers: bool,
    /// The mode in which the workload itself opens; forks try both.
    pub(crate) recover: Recover,
    pub(crate) clock: Arc<LifeClock>,
    pub(crate) disk: SimOptions,
    pub(crate) operations: usize,
    /// How often payloads stand in the place of keys, in 256: a log that holds
    /// any gets no checkpoint.
    pub(crate) payloads: u8,
    /// Whether checkpoints are asked for.
    pub(crate) checkpoints: bool,
    pub(crate) verbose: bool,
}

impl Profile {
    pub(crate) fn of(seed: u64) -> Self {
        let workload = match seed % 8 {
            0..5 => Workload::Shards,
            5..7 => Workload::Faults,
            _ => Workload::Bare,
        };
        Self::with(seed, workload)
    }

    pub(crate) fn with(seed: u64, workload: Workload) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x0070_726f_6669_6c65);
        let cores = if workload == Workload::Bare { 1 } else { *pick(&mut rng, &[1, 2, 2, 2, 3, 4]) };
        let buffer_bytes = *pick(&mut rng, &[4096, 4096, 8192]);
        let segment_bytes = buffer_bytes as u64 * *pick(&mut rng, &[4, 4, 5, 8]);
        let (payloads, checkpoints, policy) = checkpoints(seed, segment_bytes);
        let clock = Arc::new(LifeClock::new(seed.is_multiple_of(3)));
        let options = Options::new()
            .cores(cores)
            .buffers(rng.usize(2..=4))
            .buffer_bytes(buffer_bytes)
            .segment_bytes(segment_bytes)
            .log_id(LogId([rng.u8(..); 16]))
            .clock(clock.clone())
            .group_commit(group_commit(seed))
            .checkpoints(policy)
            .single_threaded();
        let capacity = 60_000 + u64::from(cores) * 30_000;
        let full_disk = workload == Workload::Faults && rng.u8(0..4) == 0;
        let disk =
            SimOptions { seed, capacity_bytes: full_disk.then_some(capacity), direct: rng.bool(), sync_lies: false };
        Self {
            seed,
            workload,
            cores,
            options,
            markers: rng.bool(),
            recover: if rng.u8(0..3) > 0 { Recover::CompleteEpoch } else { Recover::Latest },
            clock,
            disk,
            operations: operations(&mut rng),
            payloads,
            checkpoints,
            verbose: false,
        }
    }

    /// Two cores with small segments, and nothing that comes on its own.
    pub(crate) fn directed(direct: bool, recover: Recover, chance: u64) -> Self {
        let clock = Arc::new(LifeClock::new(recover == Recover::Latest));
        let options = Options::new()
            .cores(2)
            .buffers(3)
            .buffer_bytes(4096)
            .segment_bytes(16_384)
            .log_id(LogId([7; 16]))
            .clock(clock.clone())
            .group_commit(GroupCommit::manual())
            .checkpoints(Checkpoints::manual())
            .single_threaded();
        Self {
            seed: chance,
            workload: Workload::Shards,
            cores: 2,
            options,
            markers: false,
            recover,
            clock,
            disk: SimOptions { seed: chance, direct, ..SimOptions::default() },
            operations: 0,
            payloads: 0,
            checkpoints: true,
            verbose: false,
        }
    }

    pub(crate) fn new_disk(&self) -> SimStorage {
        SimStorage::new(self.disk.clone())
    }

    /// Tells what happens, when one seed is replayed.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{}", what());
        }
    }
}

/// From 50 to 500: most lives are short, so that there are many of them.
fn operations(rng: &mut Rng) -> usize {
    let length = rng.usize(50..=100);
    match rng.u8(0..12) {
        0 => 5 * length,
        1 => 2 * length,
        _ => length,
    }
}

/// How many payloads there are, whether checkpoints are asked for, and when
/// they come on their own. (Drawn apart, as below.)
fn checkpoints(seed: u64, segment_bytes: u64) -> (u8, bool, Checkpoints) {
    let mut rng = Rng::with_seed(seed ^ 0x0066_6f6c_6473);
    let policy = match rng.u8(0..8) {
        0..4 => Checkpoints::manual(),
        4..7 => Checkpoints::manual().bytes(rng.u64(1..4 * segment_bytes)),
        _ => Checkpoints::manual().every(Duration::from_nanos(rng.u64(0..1_000_000))),
    };
    let policy = policy.keep(*pick(&mut rng, &[1, 1, 2, 3]));
    let policy = if rng.u8(0..4) == 0 { policy.keep_for(Duration::from_nanos(rng.u64(0..1_000_000))) } else { policy };
    match rng.u8(0..8) {
        // As it always was: no checkpoints, or asked for and refused.
        0 => (32, false, Checkpoints::manual()),
        1 => (32, true, policy),
        // Refused sooner or later.
        2 => (2, true, policy),
        _ => (0, true, policy),
    }
}

/// By hand, or by limits that a few operations reach. (Drawn apart, so that a
/// seed decides all else as it always did.)
fn group_commit(seed: u64) -> GroupCommit {
    let mut rng = Rng::with_seed(seed ^ 0x0067_726f_7570);
    let policy = match rng.u8(0..8) {
        0..4 => return GroupCommit::manual(),
        4 => GroupCommit::each(),
        5 => GroupCommit::manual().commits(rng.u64(1..5)),
        6 => GroupCommit::manual().bytes(rng.u64(1..12_000)),
        _ => GroupCommit::manual().delay(Duration::from_nanos(rng.u64(0..1_000_000))),
    };
    let policy = if rng.bool() { policy.delay(Duration::from_nanos(rng.u64(1..2_000_000))) } else { policy };
    if rng.bool() { policy.in_flight_bytes(rng.u64(1..20_000)) } else { policy }
}

pub(crate) fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}
