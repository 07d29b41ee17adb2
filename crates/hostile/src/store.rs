//! Real stores, from which inputs are made and on which they are put.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use corewal::format::{Manifest, RunRef};
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{
    Checkpoints, Commit, Keyed, LogId, ManualClock, Opened, Options, Recover, TimestampNs, checkpoint_on, reshard_on,
};

pub(crate) const DIR: &str = "/db";
pub(crate) const SEGMENT: &str = "/db/core-0000/00000000000000000000.wal";
pub(crate) const LOG: LogId = LogId([7; 16]);

pub(crate) fn options() -> Options {
    let options = Options::new().buffers(2).buffer_bytes(4096).segment_bytes(16_384).log_id(LOG);
    options.checkpoints(Checkpoints::manual()).clock(clock()).create(false).single_threaded()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(TimestampNs(1_700_000_000_000_000_000)))
}

pub(crate) fn open(disk: &SimStorage, options: Options) -> corewal::Result<Opened<Keyed, SimStorage>> {
    options.open_on(disk.clone(), DIR, |_| Keyed::default())
}

/// Epochs before each checkpoint: some segments' worth.
const EPOCHS: u8 = 4;

/// Work of all kinds, epoch by epoch.
fn work(store: &mut Opened<Keyed, SimStorage>, epochs: std::ops::Range<u8>) -> corewal::Result<()> {
    for round in epochs {
        let epoch = store.store.next_epoch();
        for n in 0..9_u8 {
            let key = [b'k', n];
            let shard = &mut store.shards[store.store.route(&key).index()];
            match (round + n) % 4 {
                0 => shard.delete(&key)?,
                1 => shard.put(&key, &[])?,
                _ => shard.put(&key, &[round; 70])?,
            }
        }
        for shard in &mut store.shards {
            let commit = Commit::new().offset_u64("input", round.into()).offset_u64("other", 3).watermark(-9);
            shard.commit(&commit)?;
            shard.end_epoch(epoch)?;
            shard.sync()?;
        }
    }
    Ok(())
}

/// Checkpoints of changes, then more log behind them, its end uncommitted.
fn make(cores: u16, checkpoints: u8, behind: u8) -> corewal::Result<SimSnapshot> {
    let disk = SimStorage::default();
    let mut epochs = 0;
    for _ in 0..checkpoints {
        let mut store = open(&disk, options().cores(cores).create(true))?;
        work(&mut store, epochs..epochs + EPOCHS)?;
        epochs += EPOCHS;
        store.shards.into_iter().try_for_each(|shard| shard.close())?;
        drop(store.store);
        checkpoint_on(disk.clone(), DIR, Checkpoints::manual().keep(2), clock())?.expect("there is a new epoch");
    }
    let mut store = open(&disk, options().cores(cores).create(true))?;
    work(&mut store, epochs..epochs + behind)?;
    // An epoch that one core has ended, and what the others do not know of.
    let epoch = store.store.next_epoch();
    let shard = &mut store.shards[0];
    shard.end_epoch(epoch)?;
    shard.checkpoint_mark(4)?;
    shard.park()?;
    shard.unpark()?;
    shard.sync()?;
    Ok(disk.snapshot())
}

/// The state in a checkpoint, and logs that hold nothing.
fn make_resharded(from: u16, to: u16) -> corewal::Result<SimSnapshot> {
    let disk = disk(&make(from, 0, EPOCHS)?);
    reshard_on(disk.clone(), DIR, to, options())?;
    Ok(disk.snapshot())
}

/// A store of one core whose log has not been closed.
pub(crate) static LOG_ONLY: LazyLock<SimSnapshot> = LazyLock::new(|| make(1, 0, 2).expect("a store"));
/// A store of one core that has all it holds from a checkpoint.
pub(crate) static CHECKPOINT_ONLY: LazyLock<SimSnapshot> = LazyLock::new(|| make_resharded(2, 1).expect("a store"));
/// A store of two cores with two checkpoints and several segments behind them.
pub(crate) static WHOLE: LazyLock<SimSnapshot> = LazyLock::new(|| make(2, 2, 3).expect("a store"));

/// Another disk with the same files.
pub(crate) fn disk(snapshot: &SimSnapshot) -> SimStorage {
    snapshot.crash(CrashKind::Process, 0)
}

pub(crate) fn copy(of: &SimStorage) -> SimStorage {
    disk(&of.snapshot())
}

pub(crate) fn manifest_path() -> PathBuf {
    Path::new(DIR).join("MANIFEST")
}

pub(crate) fn manifest(disk: &SimStorage) -> Manifest {
    let bytes = disk.read_file(&manifest_path()).expect("a store has one");
    Manifest::decode(&bytes).expect("it is intact")
}

/// The one run of the newest checkpoint of core 0, and its path.
pub(crate) fn run(disk: &SimStorage) -> (RunRef, PathBuf) {
    let manifest = manifest(disk);
    let run = manifest.newest().expect("a checkpoint").cores[0].runs[0];
    (run, Path::new(DIR).join(corewal::run_name(run.run)))
}

/// The files of a disk but for the lock, which holds nothing.
pub(crate) fn files(disk: &SimStorage) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk.files().into_iter().filter(|path| !path.ends_with("LOCK"));
    paths.map(|path| (path.clone(), disk.read_file(&path).expect("it was listed"))).collect()
}

/// Everything that an opened store holds: keys, offsets, watermark by core.
pub(crate) fn content(store: &Opened<Keyed, SimStorage>) -> Vec<String> {
    let core = |shard: &corewal::Shard<Keyed, SimStorage>| {
        let keys: BTreeMap<_, _> = shard.state().iter().collect();
        format!("{keys:?} {:?} {:?}", shard.offsets(), shard.watermark())
    };
    store.shards.iter().map(core).collect()
}

/// Both ways to open.
pub(crate) const WAYS: [Recover; 2] = [Recover::CompleteEpoch, Recover::Latest];
