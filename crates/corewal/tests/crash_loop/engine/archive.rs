//! What an archive takes of a store, and a store made of it on another disk:
//! the choice of files and the steps of the archive's own restore
//! (`crates/archive`, `plan.rs` and `restore.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::format::{Checkpoint, name};
use corewal::io::{CrashKind, SimStorage};
use corewal::{
    Assembly, Epoch, Error, Options, Parts, Reader, Recover, Resharded, SealedSegment, Until, assemble_on, run_name,
    segment_name,
};

use fastrand::Rng;

use super::check::{self, DIR, Session};
use super::clock::LifeClock;
use super::oracle::Oracle;
use super::{Outcome, Workload, ensure};

/// A checkpoint's runs and the sealed segments, copied.
pub(crate) struct Copies {
    files: BTreeMap<PathBuf, Vec<u8>>,
    parts: Parts,
    checkpoint: Checkpoint,
    /// By core, the segments that go on from the checkpoint.
    chains: Vec<Vec<SealedSegment>>,
}

impl Copies {
    /// Takes them beside the live store, with one of its checkpoints; `None` if
    /// it has none.
    pub(crate) fn of(disk: &SimStorage, pick: impl FnOnce(usize) -> usize) -> Outcome<Option<Self>> {
        let reader = Reader::open_on(disk.clone(), DIR).map_err(|error| format!("a reader: {error}"))?;
        let parts = reader.parts();
        if parts.checkpoints.is_empty() {
            return Ok(None);
        }
        let checkpoint = parts.checkpoints[pick(parts.checkpoints.len())].clone();
        let chain = |core| {
            let log: Vec<_> = parts.segments.iter().filter(|sealed| sealed.core.get() == core).cloned().collect();
            let begins = log.iter().rposition(|sealed| sealed.first_epoch <= checkpoint.epoch);
            log[begins.unwrap_or(0)..].to_vec()
        };
        let chains: Vec<_> = (0..parts.cores).map(chain).collect();
        let runs = checkpoint.cores.iter().flat_map(|core| &core.runs).map(|run| run_name(run.run));
        let segments = chains.iter().flatten().map(|sealed| name_of(&parts, sealed));
        let copy = |name: String| {
            let path = Path::new(DIR).join(name);
            let bytes = disk.read_file(&path).ok_or_else(|| format!("{} is not there", path.display()))?;
            Ok((path, bytes))
        };
        let files = runs.chain(segments).map(copy).collect::<Outcome<_>>()?;
        Ok(Some(Self { files, parts, checkpoint, chains }))
    }

    /// The epoch of the checkpoint: the oldest that can be had.
    pub(crate) fn oldest(&self) -> u64 {
        self.checkpoint.epoch.get()
    }

    /// The files that make a store of an epoch, or of the newest, and what to
    /// make of them.
    pub(crate) fn up_to(&self, epoch: Option<u64>) -> Gathered<'_> {
        let base = self.checkpoint.epoch;
        let ended = |chain: &Vec<SealedSegment>| chain.last().map_or(base, |last| last.ended.max(base));
        let reach = self.chains.iter().map(ended).min().unwrap_or(base);
        let target = epoch.map_or(reach, Epoch);
        let Parts { log_id, cores, generation, .. } = self.parts;
        let mut leads = vec![None; usize::from(cores)];
        let mut names: Vec<_> =
            self.checkpoint.cores.iter().flat_map(|core| &core.runs).map(|run| run_name(run.run)).collect();
        // The end of the checkpoint's own epoch needs no log.
        for sealed in self.chains.iter().flatten().filter(|sealed| target > base && sealed.first_epoch <= target) {
            names.push(name_of(&self.parts, sealed));
            leads[sealed.core.index()] = Some((sealed.next, sealed.next_base));
        }
        let file = |name| {
            let path = Path::new(DIR).join(name);
            (path.clone(), self.files[&path].as_slice())
        };
        let until = epoch.map_or(Until::Latest, |epoch| Until::Epoch(Epoch(epoch)));
        let checkpoint = Some(self.checkpoint.clone());
        Gathered {
            files: names.into_iter().map(file).collect(),
            assembly: Assembly { log_id, cores, generation, checkpoint, leads, until },
        }
    }
}

fn name_of(parts: &Parts, sealed: &SealedSegment) -> String {
    segment_name(sealed.core, parts.generation, sealed.segment)
}

/// The files of a restore.
pub(crate) struct Gathered<'c> {
    files: BTreeMap<PathBuf, &'c [u8]>,
    assembly: Assembly,
}

impl Gathered<'_> {
    /// Brings the files to a disk, durably, and removes all others: what an
    /// earlier try has left. Then makes a store of them.
    pub(crate) fn assemble(&self, disk: &SimStorage, clock: &Arc<LifeClock>) -> corewal::Result<Resharded> {
        disk.record_snapshots(false);
        for path in disk.files() {
            if path.starts_with(DIR) && !self.files.contains_key(&path) {
                disk.remove_file_durably(&path);
            }
        }
        for (path, bytes) in &self.files {
            if disk.read_file(path).as_deref() != Some(bytes) {
                disk.write_file(path, bytes.to_vec());
            }
        }
        // The directory is there, also where a checkpoint of nothing has no file,
        // and is durable with the restore's mark, which goes last.
        let mark = Path::new(DIR).join(name::RESTORE_MARK);
        disk.write_file(&mark, Vec::new());
        disk.record_snapshots(true);
        // One order of steps, whenever a seed is replayed.
        let options = Options::new().clock(clock.clone()).single_threaded();
        let made = assemble_on(disk.clone(), DIR, &self.assembly, options);
        disk.remove_file_durably(&mark);
        disk.record_snapshots(false);
        made
    }
}

/// Makes a store of copies on another disk, up to any epoch that they hold,
/// crashes at its steps, and holds what comes back against that epoch.
pub(crate) fn restore(session: &Session<'_>, live: &SimStorage, oracle: &Oracle, mut rng: Rng) -> Outcome {
    let profile = session.profile;
    if profile.workload != Workload::Shards || profile.payloads > 0 {
        return Ok(());
    }
    let Some(copies) = Copies::of(live, |count| rng.usize(0..count))? else { return Ok(()) };
    let made = copies.up_to(None).assemble(&profile.new_disk(), &profile.clock);
    let reach = made.map_err(|error| format!("a store of copies: {error}"))?.epoch.get();
    ensure!(reach >= copies.oldest(), "epoch {reach}, with a checkpoint of epoch {}", copies.oldest());
    let epoch = rng.u64(copies.oldest()..=reach);
    let gathered = copies.up_to(Some(epoch));
    let disk = profile.new_disk();
    let made = match gathered.assemble(&disk, &profile.clock) {
        // Not every number is an epoch that all have ended.
        Err(Error::BadOption { .. }) if epoch < reach => return Ok(()),
        made => made.map_err(|error| format!("a store of epoch {epoch}: {error}"))?,
    };
    profile.tell(|| format!("a store of copies: {made:?}, which reach {reach}"));
    let expected = oracle.restored(epoch);
    let look = |disk: &SimStorage| {
        session.count(|counts| counts.restored += 1);
        check::open(session, disk, &mut expected.clone(), Recover::CompleteEpoch).map(drop)
    };
    let mut snapshots = disk.take_snapshots();
    let last = snapshots.pop().expect("it takes steps");
    for snapshot in snapshots {
        if rng.u8(0..6) > 0 {
            continue;
        }
        let kind = if rng.u8(0..3) == 0 { CrashKind::Process } else { CrashKind::Power };
        let seed = rng.u64(..);
        let crashed = snapshot.crash(kind, seed);
        // Begun anew, over what the first try has left.
        let again = gathered.assemble(&crashed, &profile.clock).map_err(|error| error.to_string());
        let seen = again.and_then(|again| {
            ensure!(again == made, "{again:?} instead of {made:?}");
            look(&crashed)
        });
        seen.map_err(|error| {
            format!("{error}\n  in a store of copies, after {kind:?} with {seed} at step {}", snapshot.step)
        })?;
    }
    // What it said it has made, it has made.
    look(&last.crash(CrashKind::Power, rng.u64(..))).map_err(|error| format!("{error}\n  in a store of copies"))
}
