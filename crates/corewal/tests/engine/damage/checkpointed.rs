//! A store as it stands in the middle of its life: two cores, a checkpoint of
//! a base and of changes, two manifests, recycled segments, and a log of 64 KiB
//! that goes on behind the checkpoint. What its files held before is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corewal::format::{Manifest, name};
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{Checkpoints, Commit, Keyed, Lsn, Options, Recover};

use super::world::{CoreData, DIR, Judgement, Store, World, data_of, data_of_core, options};

pub(crate) struct Checkpointed {
    pub(crate) world: World,
    /// By core: what it held when a commit ended at this position.
    pub(crate) points: Vec<Vec<(Lsn, CoreData)>>,
    /// By file: what stood in it before, under this name and under others,
    /// oldest first.
    pub(crate) older: BTreeMap<PathBuf, Vec<Vec<u8>>>,
    /// How many checkpoints are kept.
    pub(crate) kept: usize,
}

/// The keys of which the changes of the second checkpoint are.
const FEW: u64 = 2;

/// The last round; the second checkpoint is of the eleventh.
const LAST: u64 = 13;

impl Checkpointed {
    /// Closed in order, at a complete epoch.
    pub(crate) fn closed(keep: usize) -> Self {
        Self::build(options(7).recover(Recover::CompleteEpoch), keep, true)
    }

    /// Its power went right after a sync, behind commits that no epoch ends.
    pub(crate) fn crashed(keep: usize) -> Self {
        Self::build(options(7).recover(Recover::Latest), keep, false)
    }

    fn build(options: Options, keep: usize, close: bool) -> Self {
        let options = options.checkpoints(Checkpoints::manual().keep(keep));
        let disk = SimStorage::default();
        disk.record_snapshots(true);
        let mut store = options.clone().open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
        let mut points = vec![Vec::new(); 2];
        // The base is three times as large as the changes, so they stay apart.
        for number in 1..=7 {
            round(&mut store, &mut points, number, 0..40, 7, true);
        }
        checkpoint(&mut store);
        for number in 8..=11 {
            round(&mut store, &mut points, number, 0..FEW, 1, true);
        }
        checkpoint(&mut store);
        for number in 12..=LAST {
            // The last commit of a log that is not closed ends no epoch.
            round(&mut store, &mut points, number, 0..40, 13, close || number < LAST);
        }
        let data = data_of(&store);
        if close {
            store.shards.drain(..).for_each(|shard| shard.close().unwrap());
        }
        drop(store);
        let steps = disk.take_snapshots();
        disk.record_snapshots(false);
        // What an opening removes unseen.
        for path in disk.files().iter().filter(|path| path.extension().is_some_and(|found| found == "spare")) {
            assert!(disk.remove_file_durably(path));
        }
        let disk = disk.snapshot().crash(CrashKind::Power, 0).snapshot();
        let world = World { disk, data, options };
        let older = older(&world, &steps);
        let built = Self { world, points, older, kept: keep };
        built.check();
        built
    }

    /// That it is what this module says.
    fn check(&self) {
        let Self { world, .. } = self;
        assert!(matches!(world.judge(|_| {}), Judgement::Identical), "undamaged it is whole");
        let manifest = Manifest::decode(&world.read(&manifest())).unwrap();
        assert_eq!(manifest.checkpoints.len(), self.kept);
        let newest = manifest.newest().unwrap();
        for (core, part) in newest.cores.iter().enumerate() {
            let levels: Vec<_> = part.runs.iter().map(|run| run.level).collect();
            assert_eq!(levels, [1, 0], "core {core}: a base and changes");
            let log: usize = world.segments(core as u16).iter().map(|path| world.read(path).len()).sum();
            assert!(log >= 32 << 10, "core {core}: {:?}", world.segments(core as u16));
            assert!(part.lsn < self.points[core].last().unwrap().0, "core {core}: a log goes on behind it");
        }
        assert_eq!(world.ready().len(), 2, "one a core");
        assert!(self.older.values().filter(|older| !older.is_empty()).count() >= 6, "files with a past");
    }

    /// All files but the lock: segments, those that only wait too, runs,
    /// manifests.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = self.world.disk.crash(CrashKind::Process, 0).files();
        files.into_iter().filter(|path| path.starts_with(DIR) && !path.ends_with(name::LOCK)).collect()
    }
}

pub(crate) fn manifest() -> PathBuf {
    Path::new(DIR).join(name::MANIFEST)
}

/// One epoch: some of `keys` set, a commit a core, which is made durable.
fn round(
    store: &mut Store,
    points: &mut [Vec<(Lsn, CoreData)>],
    number: u64,
    keys: std::ops::Range<u64>,
    step: u64,
    ends: bool,
) {
    let epoch = store.store.next_epoch();
    let owned: Vec<_> = (0..2).map(|core| owned_by(store, core, keys.clone())).collect();
    for (core, owned) in owned.into_iter().enumerate() {
        let shard = &mut store.shards[core];
        for key in owned.into_iter().filter(|key| (key.0 + number) % step < 4) {
            let value = format!("{number}.{} {}", key.0, "v".repeat(if number < 8 { 425 } else { 100 }));
            shard.put(key.1.as_bytes(), value.as_bytes()).unwrap();
        }
        let end = shard.commit(&Commit::new().offset_u64("input", number).watermark(number as i64 * 10)).unwrap();
        if ends {
            shard.end_epoch(epoch).unwrap();
        }
        shard.sync().unwrap();
        points[core].push((end, data_of_core(shard)));
    }
}

/// Of the keys that core `core` owns those with these numbers.
fn owned_by(store: &Store, core: usize, numbers: std::ops::Range<u64>) -> Vec<(u64, String)> {
    let keys = (0..).map(|number| format!("key-{number}"));
    let owned = keys.filter(|key| store.store.route(key.as_bytes()).index() == core);
    let most = numbers.end as usize;
    (0..).zip(owned.take(most)).filter(|(number, _)| numbers.contains(number)).collect()
}

/// Makes a checkpoint, and lets the cores give back what it covers.
fn checkpoint(store: &mut Store) {
    store.store.checkpoint().unwrap().expect("there is a new epoch");
    for shard in &mut store.shards {
        shard.poll().unwrap();
        shard.sync().unwrap();
        shard.poll().unwrap();
    }
}

/// What the files of a store held before. A file is followed through its
/// renames: where a name vanishes, its content is found under another.
fn older(world: &World, steps: &[SimSnapshot]) -> BTreeMap<PathBuf, Vec<Vec<u8>>> {
    let contents = |snapshot: &SimSnapshot| -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = snapshot.crash(CrashKind::Process, 0);
        let read = |path: PathBuf| (path.clone(), disk.read_file(&path).unwrap());
        disk.files().into_iter().map(read).collect()
    };
    let mut pasts: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
    let mut before = BTreeMap::new();
    for now in steps.iter().chain([&world.disk]).map(contents) {
        for (path, content) in before.iter().filter(|(path, _)| !now.contains_key(*path)) {
            let past = pasts.remove(path).unwrap_or_default();
            let renamed = now.iter().find(|&(to, found)| found == content && before.get(to) != Some(found));
            if let Some((to, _)) = renamed {
                let past_of_name = pasts.remove(to).unwrap_or_default();
                pasts.insert(to.clone(), [past, past_of_name].concat());
            }
        }
        for (path, content) in &now {
            let past = pasts.entry(path.clone()).or_default();
            if past.last() != Some(content) {
                past.push(content.clone());
            }
        }
        before = now;
    }
    for (path, past) in &mut pasts {
        past.retain(|content| content != &before[path]);
    }
    pasts.retain(|path, _| before.contains_key(path));
    pasts
}
