//! Stores whose epochs others have a say in: opening goes back to just the epoch
//! that they confirmed last, whatever the logs, checkpoints and crashes say.

use std::collections::BTreeMap;

use corewal::io::{CrashKind, SimStorage};
use corewal::{Checkpoints, Commit, Epoch, Error, Keyed, LogId, Opened, Options, Reader, Recover, Shard};

type Store = Opened<Keyed, SimStorage>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(epoch: u64) -> Options {
    let small = Options::new().cores(2).buffers(4).buffer_bytes(4096).segment_bytes(16_384);
    let small = small.log_id(LogId([6; 16])).checkpoints(Checkpoints::manual().bytes(20_000)).single_threaded();
    small.coordinated(Epoch(epoch))
}

fn open(disk: &SimStorage, epoch: u64) -> Store {
    options(epoch).open_on(disk.clone(), "/db", |_| Keyed::default()).unwrap()
}

fn state(store: &Store) -> Model {
    let keys = store.shards.iter().flat_map(|shard| shard.state().iter());
    keys.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Changes a key, in one of three ways.
fn change(shard: &mut Shard<Keyed, SimStorage>, key: &[u8], value: Option<&[u8]>, way: u8) -> corewal::Result<()> {
    let keys = [key];
    let mut entries;
    let mut entry = match (way, value) {
        (0, Some(value)) => return shard.put(key, value),
        (0, None) => return shard.delete(key),
        (1, _) => shard.entry(key)?,
        _ => {
            entries = shard.entries(&keys).write_through();
            entries.next_entry().expect("one for each")?
        }
    };
    match value {
        Some(value) => entry.put(value),
        None => entry.delete(),
    }
}

/// Changes some keys, and ends an epoch on both cores.
fn epoch(store: &mut Store, model: &mut Model, epoch: u64, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(..40) {
        let key = format!("key-{}", random.u8(..60)).into_bytes();
        let core = store.store.route(&key);
        let shard = &mut store.shards[core.index()];
        let value = (random.u8(..5) > 0).then(|| vec![random.u8(..); random.usize(1..300)]);
        change(shard, &key, value.as_deref(), random.u8(..3)).unwrap();
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
    for shard in &mut store.shards {
        shard.commit(&Commit::new().offset_u64("in", epoch)).unwrap();
        shard.end_epoch(Epoch(epoch)).unwrap();
        shard.sync().unwrap();
    }
}

#[test]
fn after_a_crash_at_any_step_it_opens_at_the_epoch_that_was_confirmed() {
    let (mut opened_behind, mut with_checkpoint) = (0, 0);
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = SimStorage::default();
        let mut store = open(&disk, 0);
        let mut model = Model::new();
        let mut states = BTreeMap::from([(0, Model::new())]);
        // What the others have confirmed, by step of the disk.
        let (mut confirmed, mut by_step) = (0, Vec::new());
        disk.record_snapshots(true);
        // Numbers leap, as where each start has a range of its own.
        let mut number = 1_u64 << 40;
        for _ in 0..40 {
            number += random.u64(1..4);
            epoch(&mut store, &mut model, number, &mut random);
            states.insert(number, model.clone());
            by_step.extend(disk.take_snapshots().into_iter().map(|snapshot| (confirmed, snapshot)));
            // They are some epochs behind, and this store hears of it later.
            if random.bool() {
                let durable: Vec<u64> = states.keys().copied().filter(|&epoch| epoch > confirmed).collect();
                confirmed = durable[random.usize(..durable.len())];
                store.store.confirm_epoch(Epoch(confirmed));
                assert_eq!(store.store.complete_epoch(), Epoch(confirmed));
            }
        }
        for (step, (confirmed, snapshot)) in by_step.iter().enumerate().skip(1).step_by(29) {
            for kind in [CrashKind::Power, CrashKind::Process] {
                let crashed = snapshot.crash(kind, step as u64);
                let reader = Reader::open_on(crashed.clone(), "/db");
                let mut again = open(&crashed, *confirmed);
                assert_eq!(state(&again), states[confirmed], "seed {seed}, step {step}, {kind:?}");
                assert_eq!(again.store.complete_epoch(), Epoch(*confirmed));
                opened_behind += u32::from(again.report.cores.iter().any(|core| core.rolled_back.is_some()));
                with_checkpoint += u32::from(again.report.checkpoint.is_some());
                if let Ok(reader) = reader {
                    let views = reader.until(Epoch(*confirmed)).replay(Recover::CompleteEpoch, |_| Keyed::default());
                    let keys = views.unwrap().into_iter().flat_map(|view| {
                        view.state.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<Vec<_>>()
                    });
                    assert_eq!(keys.collect::<Model>(), states[confirmed], "seed {seed}, step {step}, {kind:?}");
                }
                // And it goes on from there, in a range of its own.
                let mut model = states[confirmed].clone();
                let next = 2_u64 << 40;
                epoch(&mut again, &mut model, next, &mut random);
                drop(again);
                assert_eq!(state(&open(&crashed, *confirmed)), states[confirmed], "it was not confirmed");
                let mut again = open(&crashed, *confirmed);
                epoch(&mut again, &mut model, next + 7, &mut random);
                drop(again);
                // (Drawn anew: both tries differ.)
                let last = open(&crashed, next + 7);
                assert_eq!(last.store.complete_epoch(), Epoch(next + 7));
            }
        }
    }
    assert!(
        opened_behind > 50 && with_checkpoint > 50,
        "{opened_behind} and {with_checkpoint}: hardly anything is tried"
    );
}

#[test]
fn an_epoch_that_the_store_does_not_hold_is_refused_and_nothing_is_changed() {
    let disk = SimStorage::default();
    let mut store = open(&disk, 0);
    let (mut model, mut random) = (Model::new(), fastrand::Rng::with_seed(1));
    epoch(&mut store, &mut model, 5, &mut random);
    drop(store);
    let before: Vec<_> = disk.files().iter().map(|path| disk.read_file(path)).collect();
    let refused = options(6).open_on(disk.clone(), "/db", |_| Keyed::default());
    assert!(
        matches!(&refused, Err(Error::BadOption { name: "coordinated", must }) if must.contains("not after 6 is 5"))
    );
    let refused = options(5).recover(Recover::Latest).open_on(disk.clone(), "/db", |_| Keyed::default());
    assert!(matches!(refused, Err(Error::BadOption { name: "recover", .. })));
    assert_eq!(disk.files().iter().map(|path| disk.read_file(path)).collect::<Vec<_>>(), before);
    assert_eq!(state(&open(&disk, 5)), model);
}
