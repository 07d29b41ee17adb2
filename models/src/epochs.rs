//! The board on which cores report the epochs they have ended.

#[path = "../../crates/corewal/src/epochs.rs"]
mod board;

use std::sync::Arc;

use corewal_format::{CoreId, Epoch, Lsn};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use self::board::EpochBoard;

const CORES: [CoreId; 2] = [CoreId(0), CoreId(1)];

/// A board of two cores in the first epoch, and what each of them has written.
fn board() -> (Arc<EpochBoard>, Arc<[AtomicU64; 2]>) {
    let board = EpochBoard::new(Epoch(1), [Epoch(0), Epoch(0)].into_iter(), Epoch(u64::MAX));
    (Arc::new(board), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]))
}

/// Two cores end an epoch; who is told that it is complete sees what both wrote.
pub fn two_cores_end() {
    let (board, written) = board();
    let epoch = board.number();
    let cores = CORES.map(|core| {
        let (board, written) = (Arc::clone(&board), Arc::clone(&written));
        thread::spawn(move || {
            written[core.index()].store(1, Ordering::Relaxed);
            board.ended(core, epoch);
        })
    });
    if board.complete() == epoch {
        assert!(written.iter().all(|core| core.load(Ordering::Relaxed) == 1), "complete, and not seen");
        assert_eq!(board.complete(), epoch, "what was complete stays so");
    }
    cores.into_iter().for_each(|core| core.join().unwrap());
    assert_eq!(board.complete(), epoch);
}

/// One is told by what another one was told: the core's own report may be seen
/// by neither's order but through that.
pub fn told_by_another() {
    let (board, written) = board();
    let epoch = board.number();
    board.ended(CoreId(1), epoch);
    let told = {
        let board = Arc::clone(&board);
        thread::spawn(move || board.complete())
    };
    let core = {
        let (board, written) = (Arc::clone(&board), Arc::clone(&written));
        thread::spawn(move || {
            written[0].store(1, Ordering::Relaxed);
            board.ended(CoreId(0), epoch);
        })
    };
    let first = board.complete();
    if first == epoch {
        assert_eq!(written[0].load(Ordering::Relaxed), 1, "complete, and not seen");
    }
    told.join().unwrap();
    core.join().unwrap();
}

/// A core takes part again while another one ends an epoch: never is more
/// complete than the log of some core holds, and nothing becomes less.
pub fn one_takes_part_again() {
    let (board, written) = board();
    board.parked(CoreId(1));
    let epoch = board.number();
    let core = {
        let (board, written) = (Arc::clone(&board), Arc::clone(&written));
        thread::spawn(move || {
            written[0].store(1, Ordering::Relaxed);
            board.ended(CoreId(0), epoch);
        })
    };
    let again = {
        let board = Arc::clone(&board);
        thread::spawn(move || board.resumed(CoreId(1)))
    };
    let (first, second) = (board.complete(), board.complete());
    assert!(first <= second && second <= epoch);
    if second == epoch {
        assert_eq!(written[0].load(Ordering::Relaxed), 1, "complete, and not seen");
    }
    core.join().unwrap();
    again.join().unwrap();
    assert!(board.complete() >= second);
}

/// Numbers are given once, and none is complete before it was given.
pub fn numbers_are_given_once() {
    let (board, _) = board();
    let other = {
        let board = Arc::clone(&board);
        thread::spawn(move || board.number())
    };
    let mine = board.number();
    let others = other.join().unwrap();
    assert_ne!(mine, others);
    assert_eq!(board.highest(), mine.max(others));
    assert_eq!(board.complete(), Epoch(0));
}

/// The checkpoint is written, then the core is told what it may release.
pub fn a_core_releases() {
    let (board, written) = board();
    let keeper = {
        let (board, written) = (Arc::clone(&board), Arc::clone(&written));
        thread::spawn(move || {
            written[0].store(1, Ordering::Relaxed);
            board.may_release(CoreId(0), Lsn(4096));
        })
    };
    if board.floor(CoreId(0)) == Lsn(4096) {
        assert_eq!(written[0].load(Ordering::Relaxed), 1, "released, and not seen");
    }
    keeper.join().unwrap();
}
