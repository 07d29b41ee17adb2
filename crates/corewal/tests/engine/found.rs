//! What the crash loop found, told as short stories, so that each stays fixed
//! whatever the seeds do.

use std::path::PathBuf;

use corewal::io::{CrashKind, Fault, FaultKind, OperationKind, SimStorage};
use corewal::{Change, Commit, Epoch, Error, Keyed, LogId, Lsn, Opened, Options, Recover, State, Verdict};

type Store = Opened<Keyed, SimStorage>;

fn options(cores: u16) -> Options {
    let small = Options::new().buffers(2).buffer_bytes(4096).segment_bytes(16_384);
    small.cores(cores).log_id(LogId([3; 16])).single_threaded()
}

fn open(disk: &SimStorage, cores: u16, recover: Recover) -> Store {
    options(cores).recover(recover).open_on(disk.clone(), "/db", |_| Keyed::default()).unwrap()
}

fn segment(core: u16, number: u64) -> PathBuf {
    PathBuf::from(format!("/db/core-{core:04}/{number:020}.wal"))
}

fn commit(store: &mut Store, core: usize, input: u64) {
    store.shards[core].commit(&Commit::new().offset_u64("input", input)).unwrap();
    store.shards[core].sync().unwrap();
}

/// The process died behind the rename of the manifest; the next one saw the
/// new manifest in the cache, went on, and a power cut took the rename back.
#[test]
fn a_store_is_not_made_anew_over_what_was_acknowledged() {
    let disk = SimStorage::default();
    disk.record_snapshots(true);
    drop(open(&disk, 1, Recover::Latest));
    for snapshot in disk.take_snapshots() {
        let killed = snapshot.crash(CrashKind::Process, 1);
        let mut store = open(&killed, 1, Recover::Latest);
        commit(&mut store, 0, 7);
        for seed in 0..20 {
            let cut = killed.snapshot().crash(CrashKind::Power, seed);
            let store = open(&cut, 1, Recover::Latest);
            assert_eq!(store.shards[0].offset_u64("input"), Some(7), "killed at step {}, seed {seed}", snapshot.step);
        }
    }
}

/// A crash kept some removals of a release and not others, with more than one
/// gap: the log was called damaged.
#[test]
fn a_half_done_release_may_leave_any_of_its_segments() {
    let disk = SimStorage::default();
    let bare = || options(1).recover(Recover::Latest).open_writers(disk.clone(), "/db").unwrap().0.remove(0);
    let mut writer = bare();
    for number in 0..14_u8 {
        writer.payload(&[number; 100]).unwrap();
        writer.commit(&Commit::new()).unwrap();
        writer.sync().unwrap();
    }
    let old: Vec<_> = (0..5).map(|number| disk.read_file(&segment(0, number))).collect();
    let start = writer.release_below(writer.durable_lsn()).unwrap();
    drop(writer);
    let released = (0..5).take_while(|&number| disk.read_file(&segment(0, number)).is_none()).count();
    assert!(released >= 4, "{released}");
    let after = disk.snapshot();
    for kept in 0..1_u32 << released {
        let disk = after.crash(CrashKind::Process, 0);
        for number in (0..released).filter(|number| kept >> number & 1 == 1) {
            disk.write_file(&segment(0, number as u64), old[number].clone().unwrap());
        }
        let (writers, _) = options(1).recover(Recover::Latest).open_writers(disk, "/db").unwrap();
        assert_eq!(writers[0].start_lsn(), start, "{kept:b}");
    }
}

/// The blocks of a segment whose creation was cut short had been those of
/// another core's segment: the log was called foreign.
#[test]
fn the_unfinished_next_segment_may_hold_what_its_blocks_held_before() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::Latest);
    commit(&mut store, 0, 7);
    drop(store);
    let other = disk.read_file(&segment(1, 0)).unwrap();
    disk.write_file(&segment(0, 1), other[..4096].to_vec());
    assert_eq!(open(&disk, 2, Recover::Latest).shards[0].offset_u64("input"), Some(7));
    // With room for a frame it was more than begun, and is somebody's.
    disk.write_file(&segment(0, 1), other);
    let refused = options(2).open_on(disk, "/db", |_| Keyed::default()).unwrap_err();
    assert_eq!(refused.damage().unwrap().verdict, Verdict::Foreign, "{refused}");
}

/// Opened twice with each core's own commits, each time after a different core
/// had ended an epoch alone: the older of the two was called complete.
#[test]
fn an_epoch_that_one_core_ended_alone_is_never_complete() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::Latest);
    let epoch = store.store.next_epoch();
    for core in 0..2 {
        store.shards[core].end_epoch(epoch).unwrap();
        store.shards[core].sync().unwrap();
    }
    assert_eq!(store.store.complete_epoch(), epoch);
    for core in 0..2 {
        drop(store);
        store = open(&disk, 2, Recover::Latest);
        let alone = store.store.next_epoch();
        store.shards[core].end_epoch(alone).unwrap();
        store.shards[core].sync().unwrap();
        assert_eq!(store.store.complete_epoch(), epoch);
    }
    drop(store);
    let store = open(&disk, 2, Recover::Latest);
    assert_eq!((store.report.complete_epoch, store.store.complete_epoch()), (epoch, epoch));
}

/// With all cores parked, every number given was called complete; it stood in
/// no log, so the next open did not know it, and the one after that called the
/// logs damaged.
#[test]
fn while_all_are_parked_no_epoch_becomes_complete() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::CompleteEpoch);
    let epoch = store.store.announce_epoch();
    for core in 0..2 {
        commit(&mut store, core, 1);
    }
    assert_eq!(store.store.complete_epoch(), epoch);
    for core in 0..2 {
        store.shards[core].park().unwrap();
    }
    store.store.announce_epoch();
    store.store.announce_epoch();
    assert_eq!(store.store.complete_epoch(), epoch);
    store.shards.drain(..).for_each(|shard| shard.close().unwrap());
    drop(store);
    for _ in 0..3 {
        let store = open(&disk, 2, Recover::CompleteEpoch);
        assert!(store.report.complete_epoch >= epoch);
        assert_eq!(store.shards[0].offset_u64("input"), Some(1));
    }
}

/// Parked behind a barrier, the newest epoch of a log was taken for the one in
/// which its run of ended epochs began.
#[test]
fn parking_all_cores_takes_no_epoch_back() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::CompleteEpoch);
    for input in 1..=3 {
        store.store.announce_epoch();
        for core in 0..2 {
            commit(&mut store, core, input);
        }
    }
    store.shards.iter_mut().for_each(|shard| shard.park().unwrap());
    assert_eq!(store.store.complete_epoch(), Epoch(3));
    drop(store);
    let store = open(&disk, 2, Recover::CompleteEpoch);
    assert!(store.report.complete_epoch >= Epoch(3), "{}", store.report);
    assert_eq!(store.shards[1].offset_u64("input"), Some(3));
}

/// After a rollback the log goes on in a later epoch. Parked and unparked in
/// it, the core was taken to have ended the one in between.
#[test]
fn unparking_ends_no_epoch_that_was_rolled_back() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 1, Recover::CompleteEpoch);
    store.store.announce_epoch();
    commit(&mut store, 0, 1);
    assert_eq!(store.store.complete_epoch(), Epoch(1));
    commit(&mut store, 0, 2);
    drop(store);
    let mut store = open(&disk, 1, Recover::CompleteEpoch);
    assert!(store.report.cores[0].rolled_back.is_some());
    store.shards[0].park().unwrap();
    store.shards[0].unpark().unwrap();
    let complete = store.store.complete_epoch();
    drop(store);
    assert_eq!(open(&disk, 1, Recover::CompleteEpoch).report.complete_epoch, complete);
}

/// Fills segment after segment until the next one is needed and cannot be made.
fn fill_to_the_last_segment(disk: &SimStorage, store: &mut Store, core: usize) {
    disk.inject(Fault { on: OperationKind::Create, skip: 0, kind: FaultKind::Error(28), sticky: true });
    while store.shards[core].payload(&[0; 3000]).is_ok() {
        store.shards[core].commit(&Commit::new()).unwrap();
        store.shards[core].sync().unwrap();
    }
}

/// The disk was full when a shard should have parked. It is not parked, what
/// it holds is whole, and it goes on once there is space, in any way it likes.
#[test]
fn a_shard_that_could_not_park_is_not_parked() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::CompleteEpoch);
    fill_to_the_last_segment(&disk, &mut store, 1);
    assert!(matches!(store.shards[1].park(), Err(Error::OutOfSpace { .. })));
    assert!(!store.shards[1].is_parked());
    let epoch = store.store.announce_epoch();
    store.shards[0].sync().unwrap();
    assert_eq!(store.store.complete_epoch(), Epoch(0), "epochs wait for it");
    disk.clear_faults();
    store.shards[1].park().unwrap();
    assert_eq!(store.store.complete_epoch(), epoch);
    store.shards[1].unpark().unwrap();
    store.shards[1].payload(b"again").unwrap();
}

/// The same on the way back: epochs must not go on without a core that was
/// about to take part.
#[test]
fn a_shard_whose_unparking_failed_is_waited_for() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::CompleteEpoch);
    fill_to_the_last_segment(&disk, &mut store, 1);
    disk.clear_faults();
    // Two frames to a segment, and one segment is ready ahead.
    commit(&mut store, 1, 1);
    commit(&mut store, 1, 2);
    disk.inject(Fault { on: OperationKind::Create, skip: 0, kind: FaultKind::Error(28), sticky: true });
    commit(&mut store, 1, 3);
    store.shards[1].park().unwrap();
    store.store.announce_epoch();
    store.shards[0].sync().unwrap();
    assert!(matches!(store.shards[1].unpark(), Err(Error::OutOfSpace { .. })));
    // Nothing was appended, but nobody else can know that.
    let before = store.store.complete_epoch();
    let parked_through = store.store.announce_epoch();
    store.shards[0].sync().unwrap();
    assert_eq!(store.store.complete_epoch(), before);
    disk.clear_faults();
    store.shards[1].unpark().unwrap();
    assert_eq!(store.store.complete_epoch(), parked_through, "it takes part from the next one on");
    let after = store.store.announce_epoch();
    store.shards[0].sync().unwrap();
    assert_eq!(store.store.complete_epoch(), parked_through);
    store.shards[1].sync().unwrap();
    assert_eq!(store.store.complete_epoch(), after);
    drop(store);
    assert_eq!(open(&disk, 2, Recover::CompleteEpoch).report.complete_epoch, after);
}

/// A frame with a sync of its own was in flight when a sync for more was asked
/// for: the wish for more was forgotten with the first.
#[test]
fn a_sync_behind_a_synced_write_is_not_forgotten() {
    for seed in 0..50 {
        let disk = SimStorage::new(corewal::io::SimOptions { seed, ..Default::default() });
        let mut store = open(&disk, 1, Recover::Latest);
        store.shards[0].payload(b"first").unwrap();
        store.shards[0].request_sync().unwrap();
        store.shards[0].payload(b"second").unwrap();
        let lsn: Lsn = store.shards[0].commit(&Commit::new()).unwrap();
        assert!(store.shards[0].sync().unwrap() >= lsn);
    }
}

/// The segment in use was full and the next one still being made: closing said
/// so instead of waiting, and the log ended as after a crash. So did cutting its
/// tail or its head. On real files, where segments are made on another thread.
#[test]
fn the_last_words_wait_for_a_segment_that_is_being_made() {
    let options = || Options::new().cores(1).buffers(2).buffer_bytes(4096).segment_bytes(16_384);
    let files = corewal::io::FileStorage::new;
    for round in 0..16 {
        let dir = tempfile::tempdir().unwrap();
        let bare = || options().recover(Recover::Latest).open_writers(files(), dir.path()).unwrap().0.remove(0);
        let mut writer = bare();
        // Two frames to a segment: these end in the middle of one, or at its end.
        let fill = |writer: &mut corewal::Writer| {
            for _ in 0..round % 4 + 4 {
                while writer.payload(&[1; 3000]).is_err_and(|error| error.is_full()) {
                    writer.submit().unwrap();
                    writer.wait().unwrap();
                }
                writer.commit(&Commit::new()).unwrap();
                writer.sync().unwrap();
            }
        };
        fill(&mut writer);
        let end = writer.appended_lsn();
        writer.truncate_to(Lsn(end.get().next_multiple_of(4096))).unwrap();
        fill(&mut writer);
        writer.release_below(writer.durable_lsn()).unwrap();
        fill(&mut writer);
        writer.close(Epoch(0)).unwrap();

        let mut store = options().recover(Recover::Latest).open(dir.path()).unwrap();
        for _ in 0..round % 4 + 4 {
            store.shards[0].payload(&[1; 3000]).unwrap();
            store.shards[0].commit(&Commit::new()).unwrap();
            store.shards[0].sync().unwrap();
        }
        store.shards.remove(0).close().unwrap();
    }
}

/// The disk was full and the commit took the last bytes that were ready; the
/// epoch that it should have ended found no room, and its error was given as
/// the commit's: who committed again did so twice.
#[test]
fn an_error_of_commit_means_that_nothing_was_committed() {
    let (mut refused, mut behind) = (0, 0);
    for len in 3900..4000 {
        let disk = SimStorage::default();
        let mut store = open(&disk, 1, Recover::Latest);
        disk.inject(Fault { on: OperationKind::Create, skip: 0, kind: FaultKind::Error(28), sticky: true });
        let mut commits = 0;
        let shard = &mut store.shards[0];
        while shard.payload(&vec![1; len]).is_ok() {
            store.store.announce_epoch();
            let next = commits + 1;
            match shard.commit(&Commit::new().offset_u64("input", next)) {
                Ok(end) => {
                    commits = next;
                    let synced = shard.sync();
                    assert!(synced.is_ok() || matches!(synced, Err(Error::OutOfSpace { .. })));
                    assert!(shard.log().durable_lsn() >= end, "want of a segment keeps nothing from the disk");
                    behind += u64::from(synced.is_err());
                }
                Err(error) => {
                    assert!(matches!(error, Error::OutOfSpace { .. }), "{error}");
                    assert!(shard.log().batch_open());
                    refused += 1;
                    break;
                }
            }
        }
        assert_eq!(shard.offset_u64("input"), Some(commits));
        disk.clear_faults();
        shard.poll().unwrap();
        shard.commit(&Commit::new()).unwrap();
        store.shards.remove(0).close().unwrap();
        drop(store);
        let store = open(&disk, 1, Recover::Latest);
        assert_eq!(store.shards[0].offset_u64("input"), Some(commits), "payloads of {len} bytes");
    }
    assert!(refused > 0 && behind > 0, "{refused} commits had no room, {behind} left none");
}

/// A store with its first checkpoint, whose logs have let go of what that
/// covers, closed in order; how many keys it held; and the manifest of before.
fn with_a_first_checkpoint() -> (SimStorage, usize, Vec<u8>) {
    let disk = SimStorage::default();
    let mut store = open(&disk, 2, Recover::CompleteEpoch);
    let before = disk.read_file(MANIFEST.as_ref()).unwrap();
    for number in 0..12 {
        for key in 0..40 {
            let key = format!("key-{}", number * 40 + key);
            let core = store.store.route(key.as_bytes()).index();
            store.shards[core].put(key.as_bytes(), &[7; 100]).unwrap();
        }
        (0..2).for_each(|core| commit(&mut store, core, number));
        store.store.announce_epoch();
        for shard in &mut store.shards {
            shard.sync().unwrap();
        }
    }
    store.store.checkpoint().unwrap().unwrap();
    for shard in &mut store.shards {
        shard.poll().unwrap();
        shard.sync().unwrap();
        shard.poll().unwrap();
    }
    let keys = keys(&store);
    store.shards.drain(..).for_each(|shard| shard.close().unwrap());
    drop(store);
    assert!(disk.read_file(&segment(0, 0)).is_none(), "the log has let go of its beginning");
    (disk, keys, before)
}

fn keys(store: &Store) -> usize {
    store.shards.iter().map(|shard| shard.state().len()).sum()
}

const MANIFEST: &str = "/db/MANIFEST";

/// A flipped bit of the newest manifest made the one before it count, which
/// knew no checkpoint; what had been released with it was taken for something
/// that its user has elsewhere, and the store opened without it.
#[test]
fn the_manifest_before_the_first_checkpoint_does_not_count_for_logs_that_were_released() {
    let (disk, whole_keys, _) = with_a_first_checkpoint();
    let whole = disk.read_file(MANIFEST.as_ref()).unwrap();
    for bit in (0..whole.len() * 8).step_by(37) {
        let copy = disk.snapshot().crash(CrashKind::Process, 0);
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        copy.write_file(MANIFEST.as_ref(), bytes);
        let files = copy.files();
        let error = options(2).open_on(copy.clone(), "/db", |_| Keyed::default()).unwrap_err();
        assert_eq!(error.damage().unwrap().path, PathBuf::from(MANIFEST), "bit {bit}: {error}");
        assert_eq!(copy.files(), files, "nothing was changed");
        assert!(corewal::Reader::open_on(copy.clone(), "/db").is_err(), "nor is it shown");
        assert!(!corewal::verify_on(copy, "/db").unwrap().findings.is_empty());
    }
    // Whoever gives the checkpoint up says so, and keeps its runs.
    disk.remove_file_durably(MANIFEST.as_ref());
    let repair = corewal::repair_on(disk.clone(), "/db", true).unwrap();
    assert!(repair.steps[0].loss.contains("checkpoint"), "{:?}", repair.steps);
    let kept = disk.files().into_iter().filter(|path| path.starts_with("/db/damaged-0001"));
    assert!(kept.filter(|path| path.extension().is_some_and(|found| found == "run")).count() >= 2);
    let left = open(&disk, 2, Recover::CompleteEpoch);
    assert!(self::keys(&left) < whole_keys, "what it named as lost is lost");
}

/// The same by hand: a manifest from before the first checkpoint put back in
/// the place of the newest, whole and intact. The one that stands beside it is
/// newer.
#[test]
fn a_manifest_of_the_past_is_noticed_by_the_newer_one_beside_it() {
    let (disk, _, before) = with_a_first_checkpoint();
    disk.write_file(MANIFEST.as_ref(), before);
    let error = options(2).open_on(disk, "/db", |_| Keyed::default()).unwrap_err();
    assert!(error.to_string().contains("is not newer than the one before it"), "{error}");
    assert_eq!(error.damage().unwrap().path, PathBuf::from(MANIFEST));
}

/// A segment was sealed before its end, for the next frame did not fit, and then
/// there was no buffer for that frame: the log ended behind the seal, which
/// `durable_lsn` said. Once it had gone on in the next segment, `truncate_to`
/// would not take that position for one at which a frame begins or a segment
/// ends.
#[test]
fn a_log_is_cut_where_a_segment_ended_before_its_end() {
    let disk = SimStorage::default();
    let mut writer = options(1).recover(Recover::Latest).open_writers(disk.clone(), "/db").unwrap().0.remove(0);
    let (mut kept, mut random) = (0, fastrand::Rng::with_seed(1));
    let (end, next) = loop {
        writer.payload(b"small").unwrap();
        writer.commit(&Commit::new()).unwrap();
        writer.submit().unwrap();
        kept += 1;
        // Two blocks. The seal takes the last buffer, if it comes to that.
        let refused = writer.payload(&vec![1; random.usize(5_000..9_000)]).is_err_and(|error| error.is_full());
        let end = writer.sync().unwrap();
        let next = writer.payload(b"taken back").unwrap();
        writer.commit(&Commit::new()).unwrap();
        writer.sync().unwrap();
        if refused && next.get() > end.get() + 2 * 4096 {
            break (end, next);
        }
        writer.truncate_to(end).unwrap();
        assert!(kept < 100, "no segment ends before its end");
    };
    let inside = Lsn(end.get() - 4096 + 8);
    assert!(matches!(writer.truncate_to(inside), Err(Error::BadLsn { asked, .. }) if asked == inside));
    let between = Lsn(end.get() + 8);
    assert!(between < next && matches!(writer.truncate_to(between), Err(Error::BadLsn { .. })));
    let to = writer.truncate_to(end).unwrap();
    assert!(to <= end, "{to} is behind {end}");
    drop(writer);
    let opened = options(1).recover(Recover::Latest).open_on(disk, "/db", |_| Payloads::default()).unwrap();
    let Payloads(found) = opened.shards[0].state();
    assert!(found.iter().all(|payload| payload != b"taken back"), "{found:?}");
    assert_eq!(found.iter().filter(|payload| *payload == b"small").count(), kept);
}

#[derive(Default)]
struct Payloads(Vec<Vec<u8>>);

impl State for Payloads {
    fn apply(&mut self, change: Change<'_>) {
        if let Change::Payload(bytes) = change {
            self.0.push(bytes.to_vec());
        }
    }
}
