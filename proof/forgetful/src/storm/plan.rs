//! What a round does, by its seed.

use std::time::Duration;

use fastrand::Rng;
use fuser::Errno;

use super::io::Io;
use crate::disk::{Fault, On, Pages, Survive, Where};

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The power goes.
    Power,
    /// The process dies. What it had written is in the cache.
    Process,
}

/// A round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) fault: Option<Fault>,
    pub(super) end: End,
    pub(super) survive: Survive,
    /// The end comes so long after the start, not after the opening.
    pub(super) while_opening: bool,
    pub(super) life: Duration,
    /// The power goes once more right after the opening.
    pub(super) again: bool,
    pub(super) seed: u64,
}

impl Plan {
    /// The plan that follows from `random`.
    pub(super) fn draw(random: &mut Rng, faults: bool, io: Io) -> Self {
        let fault = (faults && random.u8(0..5) < 3).then(|| fault(random));
        // A direct write that comes out short on FUSE the kernel ends through
        // the cache; if that is short too, its place in the caller's buffer is
        // wrong, and io_uring goes on there (Linux 6.18): it skips bytes and
        // says that they are written.
        let fault = fault.filter(|fault| !(fault.short && io == Io::Uring));
        let while_opening = random.u8(0..5) == 0;
        Self {
            fault,
            end: if random.u8(0..4) == 0 { End::Process } else { End::Power },
            survive: match random.u8(0..4) {
                0 => Survive::Nothing,
                1 => Survive::Some(0.05),
                2 => Survive::Some(0.5),
                _ => Survive::Some(0.95),
            },
            while_opening,
            life: if while_opening {
                Duration::from_micros(random.u64(0..20_000))
            } else {
                // As likely within 1 to 2 ms as within 50 to 100.
                Duration::from_secs_f64((random.f64() * 6.6).exp2() / 1000.0)
            },
            again: random.u8(0..4) == 0,
            seed: random.u64(..),
        }
    }
}

fn fault(random: &mut Rng) -> Fault {
    let (on, of, short, most) = match random.u8(0..10) {
        0..4 => (On::Sync, Where::Log, false, 60),
        4 => (On::Sync, Where::Any, false, 60),
        5 => (On::SyncDir, Where::Any, false, 12),
        6 => (On::Write, Where::Log, false, 120),
        7 => (On::Write, Where::Any, false, 200),
        _ => (On::Write, Where::Any, true, 120),
    };
    Fault {
        on,
        of,
        skip: random.u64(0..most),
        times: if short { random.u64(1..200) } else { *pick(random, &[1, 1, 3, u64::MAX]) },
        short,
        errno: *pick(random, &[Errno::EIO, Errno::ENOSPC]),
        pages: *pick(random, &[Pages::Kept, Pages::Dropped, Pages::Half]),
    }
}

fn pick<'v, T>(random: &mut Rng, values: &'v [T]) -> &'v T {
    &values[random.usize(0..values.len())]
}
