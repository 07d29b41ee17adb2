//! Another number of cores: nothing is lost, and a crash in the middle leaves
//! the old number or the new one.

use std::collections::BTreeMap;

use corewal::io::{CrashKind, SimStorage};
use corewal::{Checkpoints, Commit, Error, Keyed, LogId, Opened, Options, Reader, reshard_on, verify_on};

const DIR: &str = "/db";

fn options() -> Options {
    let small = Options::new().buffers(4).buffer_bytes(4096).segment_bytes(16_384);
    small.log_id(LogId([5; 16])).checkpoints(Checkpoints::manual()).single_threaded()
}

type Store = Opened<Keyed, SimStorage>;

fn open(disk: &SimStorage, cores: Option<u16>) -> Store {
    let options = cores.map_or(options(), |cores| options().cores(cores));
    options.open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap()
}

/// Keys with values, and what every core says of offset and watermark.
type Data = (BTreeMap<Vec<u8>, Vec<u8>>, Option<u64>, Option<i64>);

fn data(store: &Store) -> Data {
    for shard in &store.shards {
        let at_home = |(key, _): (&[u8], &[u8])| store.store.route(key) == shard.core();
        assert!(shard.state().iter().all(at_home), "every key is with the core that owns it");
        assert_eq!(shard.offset_u64("in"), store.shards[0].offset_u64("in"));
    }
    let keys = store.shards.iter().flat_map(|shard| shard.state().iter());
    let keys = keys.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    (keys, store.shards[0].offset_u64("in"), store.shards[0].watermark())
}

fn round(store: &mut Store, number: u64) {
    for key in 0..15_u64 {
        let name = format!("key-{}", (number * 7 + key) % 50);
        let core = store.store.route(name.as_bytes());
        let shard = &mut store.shards[core.index()];
        if (number + key).is_multiple_of(6) {
            shard.delete(name.as_bytes()).unwrap();
        } else {
            shard.put(name.as_bytes(), format!("{number}.{key}").as_bytes()).unwrap();
        }
    }
    for shard in &mut store.shards {
        shard.commit(&Commit::new().offset_u64("in", number).watermark(number as i64)).unwrap();
    }
    store.store.announce_epoch();
    for shard in &mut store.shards {
        shard.sync().unwrap();
    }
}

#[test]
fn the_state_goes_through_many_numbers_of_cores() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    let mut number = 0;
    let mut positions = Vec::new();
    for cores in [4, 1, 3, 3, 8, 2] {
        for _ in 0..5 {
            number += 1;
            round(&mut store, number);
        }
        if number % 2 == 0 {
            store.store.checkpoint().unwrap().unwrap();
        }
        let expected = data(&store);
        let epoch = store.store.complete_epoch();
        drop(store);
        let before = Reader::open_on(disk.clone(), DIR).unwrap().info().unwrap().cores;
        let resharded = reshard_on(disk.clone(), DIR, cores, options()).unwrap();
        assert_eq!((resharded.from as usize, resharded.to), (before.len(), cores));
        assert_eq!(resharded.epoch, epoch);
        store = open(&disk, None);
        assert_eq!((store.store.cores(), data(&store)), (cores, expected));
        // No position is given to other bytes.
        if usize::from(cores) != before.len() {
            let begin = store.shards.iter().map(|shard| shard.log().durable_lsn()).min().unwrap();
            assert!(before.iter().all(|core| core.appended_lsn <= begin), "{before:?} {begin}");
            positions.push(begin);
        }
        assert_eq!(verify_on(disk.clone(), DIR).unwrap().findings, []);
    }
    assert!(positions.is_sorted());
    round(&mut store, 100);
    let expected = data(&store);
    drop(store);
    assert_eq!(data(&open(&disk, Some(2))), expected);
}

#[test]
fn after_a_crash_at_any_step_it_is_the_old_number_or_the_new_one() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    for number in 1..=6 {
        round(&mut store, number);
    }
    store.store.checkpoint().unwrap();
    round(&mut store, 7);
    let expected = data(&store);
    drop(store);
    disk.record_snapshots(true);
    reshard_on(disk.clone(), DIR, 3, options()).unwrap();
    let snapshots = disk.take_snapshots();
    disk.record_snapshots(false);
    let (mut old, mut new) = (0, 0);
    for (step, snapshot) in snapshots.iter().enumerate() {
        for seed in 0..3 {
            let crashed = snapshot.crash(if seed == 0 { CrashKind::Process } else { CrashKind::Power }, seed);
            let mut opened = open(&crashed, None);
            assert_eq!(data(&opened), expected, "step {step}, seed {seed}");
            *if opened.store.cores() == 2 { &mut old } else { &mut new } += 1;
            round(&mut opened, 8);
            let expected = data(&opened);
            drop(opened);
            // Asked for again, also over the remains of the first try.
            let crashed = crashed.snapshot().crash(CrashKind::Power, seed);
            reshard_on(crashed.clone(), DIR, 3, options()).unwrap();
            assert_eq!(data(&open(&crashed, Some(3))), expected, "step {step}, seed {seed}, again");
        }
    }
    assert!(old > 50 && new > 5, "{old} old, {new} new");
}

#[test]
fn opening_with_another_number_refuses_or_reshards_as_asked() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    round(&mut store, 1);
    let expected = data(&store);
    drop(store);
    let refused = options().cores(5).open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap_err();
    assert!(matches!(refused, Error::CoreCount { store: 2, asked: 5 }));
    let opened = options().cores(5).reshard(true).open_on(disk, DIR, |_| Keyed::default()).unwrap();
    assert_eq!((opened.store.cores(), data(&opened)), (5, expected));
}

#[test]
fn what_cannot_be_moved_is_refused_and_left_as_it_is() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    for (offset, shard) in store.shards.iter_mut().enumerate() {
        shard.commit(&Commit::new().offset_u64("in", offset as u64)).unwrap();
    }
    drop(store);
    // Nothing was durable, so there is nothing to differ.
    reshard_on(disk.clone(), DIR, 3, options()).unwrap();
    let mut store = open(&disk, Some(3));
    for (offset, shard) in store.shards.iter_mut().enumerate() {
        shard.commit(&Commit::new().offset_u64("in", offset as u64)).unwrap();
    }
    store.store.announce_epoch();
    store.shards.iter_mut().for_each(|shard| assert!(shard.sync().is_ok()));
    drop(store);
    let error = reshard_on(disk.clone(), DIR, 2, options()).unwrap_err();
    assert!(matches!(&error, Error::OffsetsDiffer { source } if source == "in"), "{error}");
    let store = open(&disk, Some(3));
    assert_eq!(
        store.shards.iter().map(|shard| shard.offset_u64("in")).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
    assert!(matches!(reshard_on(disk.clone(), DIR, 0, options()), Err(Error::BadOption { .. })));
    assert!(reshard_on(disk, DIR, 2, options()).unwrap_err().is_locked());
}

#[test]
fn who_has_gone_on_alone_speaks_for_a_source() {
    let disk = SimStorage::default();
    let mut store = open(&disk, Some(2));
    let commit = |store: &mut Store, core: usize, name: &str, offset| {
        store.shards[core].commit(&Commit::new().offset_u64(name, offset)).unwrap();
        store.store.announce_epoch();
        store.shards.iter_mut().for_each(|shard| assert!(shard.sync().is_ok()));
    };
    commit(&mut store, 0, "left", 1);
    commit(&mut store, 1, "right", 2);
    let of_all =
        |store: &Store, name: &str| store.shards.iter().map(|shard| shard.offset_u64(name)).collect::<Vec<_>>();
    for (cores, (left, right)) in [3, 1, 4, 2].into_iter().zip((1..).map(|round| (10 * round, 100 * round))) {
        drop(store);
        reshard_on(disk.clone(), DIR, cores, options()).unwrap();
        store = open(&disk, Some(cores));
        assert!(of_all(&store, "left").iter().all(|offset| *offset == of_all(&store, "left")[0]));
        // Each source has one core that goes on with it.
        let last = store.shards.len() - 1;
        commit(&mut store, last, "left", left);
        commit(&mut store, 0, "right", right);
        if cores != 4 {
            // Also where what was given is in an older checkpoint only.
            store.store.checkpoint().unwrap();
        }
    }
    drop(store);
    reshard_on(disk.clone(), DIR, 3, options()).unwrap();
    let mut store = open(&disk, Some(3));
    assert_eq!((of_all(&store, "left"), of_all(&store, "right")), (vec![Some(40); 3], vec![Some(400); 3]));
    // Two that have gone on do not agree.
    commit(&mut store, 0, "left", 41);
    commit(&mut store, 1, "left", 42);
    drop(store);
    let error = reshard_on(disk, DIR, 2, options()).unwrap_err();
    assert!(matches!(&error, Error::OffsetsDiffer { source } if source == "left"), "{error}");
}

mod copies {
    use corewal::io::SimStorage;
    use corewal::{Assembly, Epoch, Parts, Reader, Until, assemble_on, run_name, segment_name};

    use super::*;

    /// Copies what an archive would have of a store at this moment.
    fn copy(from: &SimStorage, parts: &Parts, checkpoint: Option<usize>) -> (SimStorage, Assembly) {
        let (to, dir) = (SimStorage::default(), std::path::Path::new(DIR));
        corewal::io::Storage::create_dir(&to, dir).unwrap();
        let checkpoint = checkpoint.map(|index| parts.checkpoints[index].clone());
        for run in checkpoint.iter().flat_map(|checkpoint| &checkpoint.cores).flat_map(|core| &core.runs) {
            let name = dir.join(run_name(run.run));
            to.write_file(&name, from.read_file(&name).unwrap());
        }
        let mut leads = vec![None; usize::from(parts.cores)];
        for sealed in &parts.segments {
            let name = dir.join(segment_name(sealed.core, parts.generation, sealed.segment));
            assert_eq!(name, sealed.path);
            to.write_file(&name, from.read_file(&name).unwrap());
            leads[sealed.core.index()] = Some((sealed.next, sealed.next_base));
        }
        let Parts { log_id, cores, generation, .. } = *parts;
        (to, Assembly { log_id, cores, generation, checkpoint, leads, until: Until::Latest })
    }

    #[test]
    fn copies_of_the_parts_make_a_store_of_any_epoch_that_they_hold() {
        let disk = SimStorage::default();
        let options = || options().checkpoints(Checkpoints::manual().keep(3));
        let mut store = options().cores(2).open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
        let mut states = vec![data(&store)];
        for number in 1..=40 {
            round(&mut store, number);
            states.push(data(&store));
            if number % 9 == 0 {
                store.store.checkpoint().unwrap();
            }
        }
        let parts = Reader::open_on(disk.clone(), DIR).unwrap().parts();
        assert!(parts.segments.len() > 4 && parts.checkpoints.len() == 3, "{parts:?}");
        let mut made = 0;
        for checkpoint in [Some(0), Some(1), Some(2)] {
            let (_, assembly) = copy(&disk, &parts, checkpoint);
            let first = assembly.checkpoint.as_ref().unwrap().epoch;
            // What all cores had ended by the end of their last sealed segment.
            let by_core = |core: u16| parts.segments.iter().filter(move |sealed| sealed.core.get() == core);
            let reach = (0..2).map(|core| by_core(core).map(|sealed| sealed.ended).max().unwrap_or(Epoch(0))).min();
            for epoch in first.get()..=reach.unwrap().get() {
                let (to, assembly) = copy(&disk, &parts, checkpoint);
                let assembly = Assembly { until: Until::Epoch(Epoch(epoch)), ..assembly };
                let moved = assemble_on(to.clone(), DIR, &assembly, Options::new()).unwrap();
                assert_eq!(moved.epoch, Epoch(epoch));
                let mut store = open(&to, Some(2));
                assert_eq!(data(&store), states[usize::try_from(epoch).unwrap()], "epoch {epoch} of {checkpoint:?}");
                assert_eq!(verify_on(to.clone(), DIR).unwrap().findings, []);
                round(&mut store, 99);
                made += 1;
            }
        }
        assert!(made > 20, "{made}");
        // A checkpoint alone.
        let (to, assembly) = copy(&disk, &Parts { segments: Vec::new(), ..parts.clone() }, Some(2));
        let moved = assemble_on(to.clone(), DIR, &assembly, Options::new()).unwrap();
        assert_eq!(data(&open(&to, None)), states[usize::try_from(moved.epoch.get()).unwrap()]);
        // An epoch that is not in the copies is refused.
        let (to, assembly) = copy(&disk, &parts, Some(2));
        let assembly = Assembly { until: Until::Epoch(Epoch(1000)), ..assembly };
        assert!(
            assemble_on(to, DIR, &assembly, Options::new()).unwrap_err().to_string().contains("complete in the copies")
        );
    }

    #[test]
    fn a_store_of_copies_has_of_each_core_its_own_offsets() {
        let disk = SimStorage::default();
        let mut store = open(&disk, Some(2));
        round(&mut store, 1);
        drop(store);
        reshard_on(disk.clone(), DIR, 3, options()).unwrap();
        let mut store = open(&disk, Some(3));
        for (number, shard) in store.shards.iter_mut().enumerate() {
            shard.commit(&Commit::new().offset_u64("in", 7 + number as u64)).unwrap();
        }
        store.store.announce_epoch();
        store.shards.iter_mut().for_each(|shard| assert!(shard.sync().is_ok()));
        store.store.checkpoint().unwrap();
        let parts = Reader::open_on(disk.clone(), DIR).unwrap().parts();
        let newest = parts.checkpoints.len() - 1;
        let (to, assembly) = copy(&disk, &Parts { segments: Vec::new(), ..parts }, Some(newest));
        assemble_on(to.clone(), DIR, &assembly, Options::new()).unwrap();
        let offsets: Vec<_> = open(&to, None).shards.iter().map(|shard| shard.offset_u64("in")).collect();
        assert_eq!(offsets, [Some(7), Some(8), Some(9)]);
    }

    /// The crash loop found it: a core that writes little has its newest sealed
    /// segment end before that of a busy one. The busy one's says of an epoch
    /// that it was complete, the other copy does not hold the end of it, and a
    /// restore of the newest epoch was refused as if a log had lost its tail.
    #[test]
    fn one_log_may_be_copied_further_than_another() {
        let disk = SimStorage::default();
        let mut store = open(&disk, Some(2));
        let busy = (0_u32..).map(|number| format!("busy-{number}").into_bytes());
        let busy = { busy }.find(|key| store.store.route(key).get() == 0).unwrap();
        let (mut states, mut further) = (vec![data(&store)], 0);
        for number in 1..=30 {
            for byte in 0..3 {
                store.shards[0].put(&busy, &[byte; 3000]).unwrap();
                store.shards[0].sync().unwrap();
            }
            round(&mut store, number);
            states.push(data(&store));
            if number == 3 {
                store.store.checkpoint().unwrap();
            }
            let parts = Reader::open_on(disk.clone(), DIR).unwrap().parts();
            let newest = |core: u16| {
                let of_core = parts.segments.iter().filter(move |sealed| sealed.core.get() == core);
                of_core.map(|sealed| sealed.ended.get()).max().unwrap_or(0)
            };
            let (ahead, behind) = (newest(0), newest(1));
            if parts.checkpoints.is_empty() || behind <= 3 {
                continue;
            }
            further += u64::from(ahead > behind + 1);
            let (to, assembly) = copy(&disk, &parts, Some(0));
            let moved = assemble_on(to.clone(), DIR, &assembly, Options::new()).unwrap();
            assert_eq!(moved.epoch, Epoch(ahead.min(behind)), "after {number} epochs");
            assert_eq!(data(&open(&to, Some(2))), states[usize::try_from(moved.epoch.get()).unwrap()]);
        }
        assert!(further > 0, "no log was copied further than the other");
    }
}
