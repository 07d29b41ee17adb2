//! Crash, open, compare; then sometimes crash the opening itself, open twice,
//! or go on and crash again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;

use corewal::format::{Manifest, RunId, name};
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{Error, Recover, verify_on};
use fastrand::Rng;

use super::campaign::Counts;
use super::life::Life;
use super::oracle::{Oracle, Recovered, Store};
use super::probe::Probe;
use super::promise::{Promise, promised};
use super::{Outcome, Profile, ensure};

pub(crate) const DIR: &str = "/db";
/// A file that is in the way on a small disk, and is removed to make room.
pub(crate) const BALLAST: &str = "/ballast";

/// How deep lives after crashes are nested.
const MAX_DEPTH: u32 = 2;

/// Looks at the steps of an operation: each may be the last before a crash,
/// after which the oracle holds.
pub(crate) type Look<'p> = dyn Fn(&[SimSnapshot], &Oracle) -> Outcome + 'p;

/// What the lives of one seed share.
pub(crate) struct Session<'p> {
    pub(crate) profile: &'p Profile,
    pub(crate) counts: Cell<Counts>,
    /// Who looks in the place of chance.
    pub(crate) look: Option<&'p Look<'p>>,
}

impl<'p> Session<'p> {
    /// Chance decides which crashes are looked at.
    pub(crate) fn by_chance(profile: &'p Profile) -> Self {
        Self { profile, counts: Cell::default(), look: None }
    }

    pub(crate) fn count(&self, what: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        what(&mut counts);
        self.counts.set(counts);
    }
}

/// The crash that made a disk.
#[derive(Clone, Copy, Debug)]
struct Crash {
    kind: CrashKind,
    seed: u64,
}

impl Crash {
    fn pick(rng: &mut Rng) -> Self {
        let kind = if rng.u8(0..3) == 0 { CrashKind::Process } else { CrashKind::Power };
        Self { kind, seed: rng.u64(..) }
    }
}

/// Crashes the disk at each of these steps, or at one in `every` of them.
pub(crate) fn crash_at_each(
    session: &Session<'_>,
    snapshots: &[SimSnapshot],
    oracle: &Oracle,
    rng: &mut Rng,
    depth: u32,
    every: usize,
) -> Outcome {
    if let Some(look) = session.look {
        return look(snapshots, oracle);
    }
    for snapshot in snapshots {
        if every > 1 && rng.usize(0..every) > 0 {
            continue;
        }
        crash_at(session, snapshot, oracle, rng, depth)?;
    }
    Ok(())
}

fn crash_at(session: &Session<'_>, snapshot: &SimSnapshot, oracle: &Oracle, rng: &mut Rng, depth: u32) -> Outcome {
    let crash = Crash::pick(rng);
    let mut disk = snapshot.crash(crash.kind, crash.seed);
    let mut power_last = crash.kind == CrashKind::Power;
    if !power_last && rng.u8(0..4) == 0 {
        // The page cache survived the first and does not survive the second.
        disk = disk.snapshot().crash(CrashKind::Power, rng.u64(..));
        power_last = true;
    }
    session.profile.tell(|| format!("{:depth$}crash at step {}: {crash:?}", "", snapshot.step, depth = depth as usize));
    let outcome = fork(session, disk, power_last, oracle, rng, depth);
    outcome.map_err(|error| format!("{error}\n  after {crash:?} at step {} (depth {depth})", snapshot.step))
}

/// Opens a crashed disk and does what a seed can think of with it.
fn fork(session: &Session<'_>, disk: SimStorage, settled: bool, oracle: &Oracle, rng: &mut Rng, depth: u32) -> Outcome {
    let recover = if rng.u8(0..4) == 0 { other(session.profile.recover) } else { session.profile.recover };
    let crash_within = rng.u8(0..5) == 0;
    disk.record_snapshots(crash_within);
    let mut after = oracle.clone();
    let Some((store, first)) = open(session, &disk, &mut after, recover)? else {
        return Ok(());
    };
    disk.record_snapshots(false);
    let within = disk.take_snapshots();
    if crash_within && !within.is_empty() {
        for _ in 0..2 {
            let snapshot = &within[rng.usize(0..within.len())];
            let crash = Crash::pick(rng);
            let disk = snapshot.crash(crash.kind, crash.seed);
            let again = compare(session, &disk, oracle, recover, settled.then_some(&first));
            again.map_err(|error| format!("{error}\n  after {crash:?} at step {} of an open", snapshot.step))?;
        }
    }
    match rng.u8(0..10) {
        0 => {
            drop(store);
            verify(&disk, true)?;
            let again = compare(session, &disk, &after, recover, Some(&first));
            again.map_err(|error| format!("{error}\n  at the second of two opens"))
        }
        1 | 2 if depth < MAX_DEPTH => {
            disk.record_snapshots(true);
            let seed = rng.u64(..);
            session.profile.tell(|| format!("{:depth$}goes on", "", depth = depth as usize));
            Life::resume(session, disk, store, after, Rng::with_seed(seed), depth + 1).live()
        }
        _ => Ok(()),
    }
}

pub(crate) fn other(recover: Recover) -> Recover {
    match recover {
        Recover::CompleteEpoch => Recover::Latest,
        Recover::Latest => Recover::CompleteEpoch,
    }
}

/// Opens a disk, compares, and demands what an earlier open gave.
pub(crate) fn compare(
    session: &Session<'_>,
    disk: &SimStorage,
    oracle: &Oracle,
    recover: Recover,
    expected: Option<&Recovered>,
) -> Outcome {
    let mut oracle = oracle.clone();
    let Some((_store, found)) = open(session, disk, &mut oracle, recover)? else {
        return Ok(());
    };
    if let Some(expected) = expected {
        ensure!(*expected == found, "the first open gave {expected:?}, the next {found:?}");
    }
    Ok(())
}

/// Opens a disk and holds what comes back against the oracle. `None` if a disk
/// that is too small for anything is too small for this.
pub(crate) fn open(
    session: &Session<'_>,
    disk: &SimStorage,
    oracle: &mut Oracle,
    recover: Recover,
) -> Outcome<Option<(Store, Recovered)>> {
    session.count(|counts| counts.states += 1);
    let mut opened = try_open(session, disk, recover);
    if opened.is_err() && session.profile.disk.capacity_bytes.is_some() {
        // Once there is room, work goes on. (Unless all of the room is taken by
        // writes that were in flight, which a crash may leave there.)
        if disk.remove_file_durably(Path::new(BALLAST)) {
            opened = try_open(session, disk, recover);
        }
        if opened.as_ref().is_err_and(is_full_disk) {
            return Ok(None);
        }
    }
    let store = opened.map_err(|error| format!("broken: {}: opening refuses: {error}", Promise::TornIsNoDamage))?;
    oracle.choose(manifest(disk).map_or(0, |manifest| manifest.generation));
    session.profile.tell(|| format!("open {recover:?}: {}", store.report));
    promised!(OneDoor, !(oracle.created && store.report.created), "a store that existed was created anew");
    let found = oracle.settle(&store, recover).map_err(|error| format!("{error} ({recover:?})"))?;
    check_files(session, disk, &store)?;
    Ok(Some((store, found)))
}

/// Demands that opening left the files in order: no run but those that the
/// manifest names, and of each log all that its checkpoints do not cover.
fn check_files(session: &Session<'_>, disk: &SimStorage, store: &Store) -> Outcome {
    let manifest = only_named_runs(disk)?;
    let newest = manifest.newest().map(|newest| newest.epoch);
    ensure!(store.report.checkpoint == newest, "the newest checkpoint is of {newest:?}: {:?}", store.report);
    for (core, shard) in store.shards.iter().enumerate() {
        let (start, oldest) = (shard.log().start_lsn(), manifest.checkpoints.first());
        let covered = oldest.map_or(corewal::Lsn(0), |oldest| oldest.cores[core].lsn);
        ensure!(start <= covered, "core {core} begins at {start}, the oldest checkpoint covers it up to {covered}");
    }
    session.count(|counts| {
        counts.resharded += u64::from(manifest.generation > 0);
        counts.from_checkpoint += u64::from(newest.is_some());
        counts.released += u64::from(store.shards.iter().any(|shard| shard.log().start_lsn().get() > 0));
        let piled = |core: &corewal::format::CoreCheckpoint| core.runs.len() > 1;
        counts.piled += u64::from(manifest.newest().is_some_and(|newest| newest.cores.iter().any(piled)));
    });
    Ok(())
}

/// The manifest, if there is one by now.
fn manifest(disk: &SimStorage) -> Option<Manifest> {
    let bytes = disk.read_file(&Path::new(DIR).join(name::MANIFEST))?;
    Manifest::decode(&bytes).ok()
}

/// Demands that the runs on the disk are those that the manifest names.
pub(crate) fn only_named_runs(disk: &SimStorage) -> Outcome<Manifest> {
    let dir = Path::new(DIR);
    let bytes = disk.read_file(&dir.join(name::MANIFEST)).ok_or("there is no manifest")?;
    let manifest = Manifest::decode(&bytes).map_err(|error| format!("the manifest: {error}"))?;
    let parts = manifest.checkpoints.iter().flat_map(|checkpoint| &checkpoint.cores);
    let named: BTreeSet<RunId> = parts.flat_map(|part| &part.runs).map(|run| run.run).collect();
    let runs = dir.join(name::RUNS);
    let files = disk.files().into_iter().filter(|path| path.starts_with(&runs));
    let there: BTreeSet<RunId> =
        files.filter_map(|path| name::parse_run(&path.file_name()?.to_string_lossy())).collect();
    ensure!(named == there, "the manifest names the runs {named:?}, there are {there:?}");
    Ok(manifest)
}

/// Demands that verifying finds nothing that matters; where no write was ever
/// `torn`, nothing at all.
pub(crate) fn verify(disk: &SimStorage, torn: bool) -> Outcome {
    let found = verify_on(disk.clone(), DIR).map_err(|error| format!("verifying: {error}"))?;
    // In a file that is used again, a torn write may leave a whole frame and, in
    // the rest of its last block, what stood there before.
    let wrong: Vec<_> = found.findings.iter().filter(|finding| !torn || finding.kind != "padding").collect();
    ensure!(wrong.is_empty(), "verifying finds {wrong:?}");
    Ok(())
}

/// Demands that nobody else gets in.
pub(crate) fn is_locked(session: &Session<'_>, disk: &SimStorage) -> Outcome {
    match try_open(session, disk, session.profile.recover) {
        Err(Error::Locked { .. }) => Ok(()),
        other => Err(format!("two have the store open: {:?}", other.map(|store| store.report))),
    }
}

pub(crate) fn try_open(session: &Session<'_>, disk: &SimStorage, recover: Recover) -> corewal::Result<Store> {
    // As many as there are, which a change may have made others.
    let cores = manifest(disk).map_or(session.profile.cores, |manifest| manifest.cores);
    let options = session.profile.options.clone().recover(recover).cores(cores);
    options.open_on(disk.clone(), DIR, |_| Probe::default())
}

/// Whether an open failed for want of space.
fn is_full_disk(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        Error::OutOfSpace { .. } => true,
        Error::Latched { kind, .. } => *kind == std::io::ErrorKind::StorageFull,
        _ => false,
    }
}
