//! Group commit as a user sees it: what starts a sync, what tells of it, and
//! what waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corewal::io::{Backend, Fault, FaultKind, FileStorage, OperationKind, SimStorage, Storage};
use corewal::{
    Clock, Commit, DurableLsn, Error, GroupCommit, Keyed, LogId, Lsn, ManualClock, Options, Recover, Shard, TimestampNs,
};

fn open_on<S: Storage>(
    storage: S,
    dir: &std::path::Path,
    policy: GroupCommit,
    clock: Arc<dyn Clock>,
) -> Shard<Keyed, S> {
    let options = Options::new().cores(1).log_id(LogId([7; 16])).recover(Recover::Latest).single_threaded();
    let options = options.clock(clock).group_commit(policy);
    options.open_on(storage, dir, |_| Keyed::default()).unwrap().shards.remove(0)
}

/// On the blocking backend: what is asked for is done at once.
fn blocking(policy: GroupCommit, clock: Arc<dyn Clock>) -> (Shard, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open_on(FileStorage::new(), dir.path(), policy, clock), dir)
}

fn simulated(policy: GroupCommit) -> (Shard<Keyed, SimStorage>, SimStorage) {
    let disk = SimStorage::default();
    (open_on(disk.clone(), "/db".as_ref(), policy, Arc::new(ManualClock::default())), disk)
}

fn commit<S: Storage>(shard: &mut Shard<Keyed, S>, len: usize) -> Lsn {
    shard.put(b"key", &vec![7; len]).unwrap();
    shard.commit(&Commit::new()).unwrap()
}

/// Polls until `lsn` is durable; gives up where polling alone does not do it.
/// A real disk takes its time, which polls alone would not fill.
fn poll_until<S: Storage>(shard: &mut Shard<Keyed, S>, lsn: Lsn) -> bool {
    (0..10_000).any(|_| {
        if shard.log().sync_in_flight() && shard.event_fd().unwrap().is_some() {
            std::thread::sleep(Duration::from_micros(100));
        }
        shard.poll().unwrap() >= lsn
    })
}

#[test]
fn by_hand_nothing_is_synced_unless_it_is_asked_for() {
    let (mut shard, _dir) = blocking(GroupCommit::default(), Arc::new(ManualClock::default()));
    let end = commit(&mut shard, 10);
    shard.poll().unwrap();
    assert!(!shard.ticket(end).is_durable() && shard.next_deadline().is_none());
    shard.sync().unwrap();
    assert!(shard.ticket(end).is_durable());
}

#[test]
fn each_commit_starts_its_own_sync() {
    let (mut shard, _dir) = blocking(GroupCommit::each(), Arc::new(ManualClock::default()));
    for _ in 0..3 {
        let end = commit(&mut shard, 10);
        if shard.event_fd().unwrap().is_some() {
            // The backend does not block: polling takes it in.
            assert!(poll_until(&mut shard, end));
        }
        assert!(shard.ticket(end).is_durable());
    }
    let (mut shard, _) = simulated(GroupCommit::each());
    let end = commit(&mut shard, 10);
    assert!(poll_until(&mut shard, end));
}

#[test]
fn a_number_of_commits_or_of_bytes_starts_a_sync() {
    let policy = GroupCommit::manual().commits(3).bytes(20_000);
    let (mut shard, _) = simulated(policy);
    let (first, second) = (commit(&mut shard, 10), commit(&mut shard, 10));
    assert!(!poll_until(&mut shard, first), "two are no three");
    let third = commit(&mut shard, 10);
    assert!(poll_until(&mut shard, third) && shard.ticket(second).is_durable());
    let fourth = commit(&mut shard, 10);
    assert!(!poll_until(&mut shard, fourth), "they count anew");
    let fifth = commit(&mut shard, 20_000);
    assert!(poll_until(&mut shard, fifth), "so many bytes need no third commit");
    // A sync by hand takes along what waits.
    let sixth = commit(&mut shard, 10);
    shard.sync().unwrap();
    assert!(shard.ticket(sixth).is_durable());
    let (seventh, eighth) = (commit(&mut shard, 10), commit(&mut shard, 10));
    assert!(!poll_until(&mut shard, seventh.max(eighth)), "they count from there");
    // What was handed over and not asked for still waits.
    shard.submit().unwrap();
    let ninth = commit(&mut shard, 10);
    assert!(poll_until(&mut shard, ninth), "it is the third");
}

/// Counts the readings.
#[derive(Debug, Default)]
struct CountingClock(ManualClock, AtomicU64);

impl Clock for CountingClock {
    fn now(&self) -> TimestampNs {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.now()
    }
}

#[test]
fn time_starts_a_sync_and_a_clock_that_steps_back_starts_the_time_anew() {
    let clock = Arc::new(CountingClock::default());
    let at = |now: u64| clock.0.set(TimestampNs(now));
    let ns = Duration::from_nanos;
    let (mut shard, _dir) = blocking(GroupCommit::manual().delay(ns(500)), clock.clone());
    at(10_000);
    assert_eq!(shard.next_deadline(), None, "nothing waits");
    let readings = clock.1.load(Ordering::Relaxed);
    shard.poll().unwrap();
    let mut end = Lsn(0);
    for _ in 0..100 {
        end = commit(&mut shard, 10);
    }
    assert_eq!(clock.1.load(Ordering::Relaxed) - readings, 1, "one reading a batch, none a record");
    assert_eq!(shard.next_deadline(), Some(ns(500)));
    at(10_400);
    shard.poll().unwrap();
    assert_eq!((shard.next_deadline(), shard.ticket(end).is_durable()), (Some(ns(100)), false));
    at(3_000);
    assert_eq!(shard.next_deadline(), Some(ns(500)), "never longer than the delay");
    at(3_499);
    shard.poll().unwrap();
    assert_eq!((shard.next_deadline(), shard.ticket(end).is_durable()), (Some(ns(1)), false));
    at(3_500);
    assert_eq!(shard.next_deadline(), Some(Duration::ZERO));
    assert!(poll_until(&mut shard, end));
    assert_eq!(shard.next_deadline(), None);
}

/// Whatever the policy and the order of completions: polling alone, with a
/// clock that goes on, makes every commit durable. Nothing is forgotten behind
/// a bound.
#[test]
fn polling_alone_makes_every_commit_durable() {
    let delay = Duration::from_nanos(50);
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bound = rng.u64(0..40_000);
        let policy = match rng.u8(0..4) {
            0 => GroupCommit::each(),
            1 => GroupCommit::manual().commits(rng.u64(0..5)).delay(delay),
            2 => GroupCommit::manual().bytes(rng.u64(0..20_000)).delay(delay),
            _ => GroupCommit::manual().delay(delay),
        };
        let policy = policy.in_flight_bytes(bound);
        let clock = Arc::new(ManualClock::default());
        let mut shard = open_on(SimStorage::default(), "/db".as_ref(), policy, clock.clone());
        let mut end = Lsn(0);
        for now in 0..60 {
            clock.set(TimestampNs(now));
            match rng.u8(0..8) {
                0..4 => end = commit(&mut shard, rng.usize(0..9000)),
                4 => shard.submit().unwrap(),
                _ => drop(shard.poll().unwrap()),
            }
        }
        clock.set(TimestampNs(1000));
        assert!(poll_until(&mut shard, end), "seed {seed}: {policy:?}, {shard:?}");
    }
}

#[test]
fn a_batch_behind_the_bound_grows_and_goes_when_the_one_before_it_has_arrived() {
    let policy = GroupCommit::each().in_flight_bytes(1);
    let mut held_back = 0;
    let (mut shard, _) = simulated(policy);
    for _ in 0..200 {
        // While something is under way, a commit hands nothing over: what is
        // written does not grow by it.
        let under_way = shard.log().sync_in_flight();
        let end = commit(&mut shard, 10);
        if under_way && shard.log().sync_in_flight() && shard.log().written_lsn() < end {
            held_back += 1;
        }
    }
    let end = shard.log().appended_lsn();
    assert!(held_back > 20, "{held_back}");
    assert!(poll_until(&mut shard, end));
    assert!(shard.log().appended_lsn().0 < 200 * 4096, "batches, not a block for each commit");
}

#[test]
fn who_waits_hears_of_a_failed_sync_and_of_a_writer_that_is_gone() {
    let (mut shard, disk) = simulated(GroupCommit::manual());
    let end = commit(&mut shard, 10);
    let (ticket, durable) = (shard.ticket(end), shard.durable());
    disk.inject(Fault { on: OperationKind::Sync, skip: 0, kind: FaultKind::Error(5), sticky: false });
    disk.inject(Fault { on: OperationKind::Write, skip: 0, kind: FaultKind::Error(5), sticky: false });
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ticket.wait());
        assert!(shard.sync().is_err_and(|error| error.is_latched()));
        assert!(waiter.join().unwrap().is_err_and(|error| error.is_latched()));
    });
    assert_eq!(shard.next_deadline(), None);
    assert!(durable.get() < end && durable.wait(durable.get()).is_ok());

    let (mut shard, _) = simulated(GroupCommit::manual());
    let end = commit(&mut shard, 10);
    let ticket = shard.ticket(end);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ticket.wait());
        drop(shard);
        assert!(matches!(waiter.join().unwrap(), Err(Error::WriterGone { lsn }) if lsn == end));
    });
    let (mut shard, _) = simulated(GroupCommit::manual());
    let end = commit(&mut shard, 10);
    let ticket = shard.ticket(end);
    shard.close().unwrap();
    assert!(ticket.is_durable() && ticket.wait().unwrap() >= end, "an orderly close keeps what it was given");
}

/// Threads and futures by the dozen on one log, some of which give up: each
/// that stays is told, and told the truth.
#[test]
fn many_waiters_are_all_told() {
    const WAITERS: u64 = 16;
    const COMMITS: u64 = 500;
    let (mut shard, _) = simulated(GroupCommit::manual().commits(3).bytes(9000));
    let durable = shard.durable();
    // Every commit's position, as it becomes known.
    let ends: Vec<AtomicU64> = (0..COMMITS).map(|_| AtomicU64::new(0)).collect();
    let wait = |waiter: u64, durable: &DurableLsn| {
        let mut rng = fastrand::Rng::with_seed(waiter);
        let mut told = 0;
        for end in &ends {
            let lsn = loop {
                match end.load(Ordering::Acquire) {
                    0 => std::thread::yield_now(),
                    lsn => break Lsn(lsn),
                }
            };
            match rng.u8(0..8) {
                0 => drop(durable.wait_timeout(lsn, Duration::from_micros(50)).unwrap()),
                1 => drop(durable.reached(lsn)),
                2 => continue, // falls behind the others
                _ => {
                    let reached = durable.ticket(lsn).wait().unwrap();
                    assert!(reached >= lsn && durable.is_durable(lsn));
                    told += 1;
                }
            }
        }
        told
    };
    std::thread::scope(|scope| {
        let (durable, wait) = (&durable, &wait);
        let threads: Vec<_> = (0..WAITERS).map(|waiter| scope.spawn(move || wait(waiter, durable))).collect();
        for end in &ends {
            let lsn = commit(&mut shard, 10);
            end.store(lsn.0, Ordering::Release);
            shard.poll().unwrap();
        }
        shard.sync().unwrap();
        for thread in threads {
            assert!(thread.join().unwrap() > COMMITS / 4);
        }
    });
}

/// The loop of a reactor, on whatever the operating system offers.
#[cfg(unix)]
#[test]
fn a_reactor_can_sleep_between_its_polls() {
    use std::io::Read;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let dir = tempfile::tempdir().unwrap();
    let policy = GroupCommit::manual().commits(8).delay(Duration::from_millis(2));
    let mut shard = open_on(FileStorage::new(), dir.path(), policy, Arc::new(corewal::SystemClock));
    let mut completions = shard.event_fd().unwrap().map(std::fs::File::from);
    for batch in 0..20 {
        let mut end = Lsn(0);
        for _ in 0..batch {
            end = commit(&mut shard, 100);
        }
        let mut turns = 0;
        while shard.poll().unwrap() < end {
            turns += 1;
            assert!(turns < 100, "it sleeps, it does not spin");
            let left = shard.next_deadline();
            assert!(left.is_some() || completions.is_some(), "something must wake it");
            let timeout = left.or(Some(Duration::from_secs(10))).map(|left| Timespec::try_from(left).unwrap());
            let mut ready: Vec<_> = completions.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            let woken = poll(&mut ready, timeout.as_ref()).unwrap();
            assert!(woken > 0 || left.is_some(), "nothing woke it for ten seconds");
            if woken > 0 {
                completions.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
            }
        }
    }
}

/// In turns of some commits each, none of which has begun before the poll: all
/// become durable, and are there again, the last of them on every backend.
#[test]
fn commits_that_are_queued_become_durable_in_order() {
    fn turns<S: Storage + Clone>(storage: &S, dir: &std::path::Path) {
        let mut shard = open_on(storage.clone(), dir, GroupCommit::manual(), Arc::new(ManualClock::default()));
        let mut random = fastrand::Rng::with_seed(3);
        let mut ends = std::collections::VecDeque::new();
        for number in 0..200_u32 {
            shard.put(b"newest", &number.to_le_bytes()).unwrap();
            shard.put(b"bulk", &vec![1; random.usize(0..30_000)]).unwrap();
            ends.push_back(shard.commit(&Commit::new()).unwrap());
            shard.queue_sync().unwrap();
            if random.u8(0..12) == 0 {
                let durable = if random.u8(0..3) > 0 { shard.poll() } else { shard.sync() }.unwrap();
                while ends.pop_front_if(|end| *end <= durable).is_some() {}
            }
        }
        let last = shard.log().appended_lsn();
        assert!(poll_until(&mut shard, last), "{shard:?}");
        assert_eq!(shard.log().records_since_sync(), 0);
        drop(shard);
        let shard = open_on(storage.clone(), dir, GroupCommit::manual(), Arc::new(ManualClock::default()));
        assert_eq!(shard.get(b"newest").unwrap(), 199_u32.to_le_bytes());
    }
    turns(&SimStorage::default(), "/db".as_ref());
    for backend in [Backend::Auto, Backend::Blocking] {
        let dir = tempfile::tempdir().unwrap();
        turns(&FileStorage::new().backend(backend), dir.path());
    }
}

/// By calls that block, full frames wait to be written together. Who submits has
/// them written before anybody polls.
#[test]
fn what_was_submitted_has_begun_also_where_it_had_been_kept_for_more() {
    for backend in [Backend::Auto, Backend::Blocking] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().cores(1).buffer_bytes(16 << 10).buffers(8);
        let (mut writers, _) = options.open_writers(FileStorage::new().backend(backend), dir.path()).unwrap();
        let log = &mut writers[0];
        while log.appended_lsn() < Lsn(70 << 10) {
            log.payload(&[7; 1000]).unwrap();
            log.submit_full().unwrap();
        }
        let end = usize::try_from(log.appended_lsn().get()).unwrap();
        let segment = dir.path().join("core-0000/00000000000000000000.wal");
        let first = std::fs::read(&segment).unwrap()[9000];
        assert!(backend != Backend::Blocking || first == 0, "full frames wait for each other");
        // Then there is nothing that it could go with.
        log.queue_sync().unwrap();
        log.submit().unwrap();
        let is_there = || std::fs::read(&segment).unwrap()[end - 100..end].iter().all(|&byte| byte == 7);
        let waited = || (0..500).any(|_| is_there() || (std::thread::sleep(Duration::from_millis(10)), false).1);
        assert!(waited(), "{backend:?}");
    }
}
