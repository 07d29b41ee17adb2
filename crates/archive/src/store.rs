//! The archive and the engine: what of a store is pushed, and how a store is
//! made of what comes back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corewal::format::{Checkpoint, name};
use corewal::{Assembly, Epoch, LogId, Lsn, Reader, Resharded, SegmentId, TimestampNs, Until, run_name, segment_name};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Owner};
use crate::error::{Error, Result};
use crate::inventory::{CheckpointFacts, CheckpointPart, FilePart, Inventory, SegmentFacts, SegmentPart};
use crate::owner::Pushed;
use crate::plan::Target;
use crate::private;
use crate::restore::Restored;
use crate::source::file_error;
use crate::types::{Lineage, Takeover};

/// What the store in `dir` has to archive at this moment. Works beside a
/// process that has it open.
///
/// # Errors
/// [`Error::Store`].
pub fn inventory(dir: &Path) -> Result<Inventory> {
    let parts = Reader::open(dir).map_err(Error::store)?.parts();
    let run = |run: &corewal::format::RunRef| {
        let name = run_name(run.run);
        FilePart { path: dir.join(&name), name, bytes: run.bytes }
    };
    let checkpoint = |checkpoint: &Checkpoint| CheckpointPart {
        facts: CheckpointFacts {
            number: checkpoint.number,
            generation: parts.generation,
            cores: parts.cores,
            epoch: checkpoint.epoch,
            time_ns: nanoseconds(checkpoint.time),
            text: checkpoint.encode(),
        },
        runs: checkpoint.cores.iter().flat_map(|core| &core.runs).map(run).collect(),
    };
    let mut segments = Vec::with_capacity(parts.segments.len());
    for sealed in &parts.segments {
        let name = segment_name(sealed.core, parts.generation, sealed.segment);
        let bytes = match fs::metadata(&sealed.path) {
            Ok(found) => found.len(),
            // Released since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(file_error("look at", &sealed.path, error)),
        };
        segments.push(SegmentPart {
            facts: SegmentFacts {
                generation: parts.generation,
                core: sealed.core,
                cores: parts.cores,
                number: sealed.segment,
                base: sealed.base_lsn,
                end: sealed.end,
                next: sealed.next,
                next_base: sealed.next_base,
                first: sealed.base_lsn == Lsn(0),
                first_epoch: sealed.first_epoch,
                ended: sealed.ended,
                newest_ns: nanoseconds(sealed.newest),
                note: String::new(),
            },
            file: FilePart { name, path: sealed.path.clone(), bytes },
        });
    }
    Ok(Inventory {
        log_id: parts.log_id,
        cores: parts.cores,
        generation: parts.generation,
        complete_epoch: parts.complete_epoch,
        checkpoints: parts.checkpoints.iter().map(checkpoint).collect(),
        segments,
    })
}

fn nanoseconds(time: TimestampNs) -> i64 {
    i64::try_from(time.get()).unwrap_or(i64::MAX)
}

/// What a store remembers of an archive: a small file beside its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Where the archive is, as the user named it.
    pub url: String,
    /// The right to go on with it.
    pub lineage: String,
    /// The newest epoch that was acknowledged; 0 if none.
    pub epoch: u64,
    /// When: nanoseconds since the Unix epoch.
    pub time_ns: i64,
}

/// Longest list of archives: a bound for readers.
const MOST_REMEMBERED: u64 = 1 << 20;

/// What the store in `dir` remembers of its archives.
///
/// # Errors
/// [`Error::File`].
pub fn remembered(dir: &Path) -> Result<Vec<Remembered>> {
    let path = file(dir);
    match private::read(&path, MOST_REMEMBERED) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| file_error("read", &path, io::Error::new(io::ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(file_error("read", &path, error)),
    }
}

/// Writes it whole and durably, in the place of what was there.
fn remember(dir: &Path, this: Remembered) -> Result<()> {
    let mut all = remembered(dir)?;
    all.retain(|other| other.url != this.url);
    all.push(this);
    let (path, aside) = (file(dir), dir.join(name::ARCHIVE_NEW));
    let write = || -> io::Result<()> {
        let file = private::create(&aside)?;
        serde_json::to_writer_pretty(&file, &all)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| file_error("write", &path, error))
}

fn file(dir: &Path) -> PathBuf {
    dir.join(name::ARCHIVE)
}

/// Becomes the owner of the archive at `url` of the store in `dir`, and
/// remembers that in the store. A store that was never pushed there finds it
/// empty, or `force` says that what is there may be taken over.
///
/// # Errors
/// [`Error::Diverged`] if the archive went on without this store; those of
/// [`Archive::own`].
pub fn own(archive: &Archive, url: &str, dir: &Path, log_id: LogId, force: bool) -> Result<Owner> {
    let before = remembered(dir)?.into_iter().find(|known| known.url == url);
    let lineage = before.as_ref().and_then(|known| Lineage::parse(&known.lineage));
    let takeover = match lineage {
        _ if force => Takeover::Force,
        Some(lineage) => Takeover::Continue(lineage),
        None => Takeover::First,
    };
    let owner = archive.own(log_id, takeover)?;
    let (epoch, time_ns) = before.map_or((0, 0), |known| (known.epoch, known.time_ns));
    remember(dir, Remembered { url: url.to_owned(), lineage: owner.lineage().to_string(), epoch, time_ns })?;
    Ok(owner)
}

/// How often what a store has is taken anew when it let go of files under the
/// push. What was sent before is not sent again.
const TRIES: u32 = 16;

/// Pushes what the store in `dir` has at this moment, and remembers how far
/// the archive reaches. If the store is written to and lets go of what was about
/// to be sent, it is looked at anew, sixteen times at most.
///
/// # Errors
/// Those of [`inventory`] and [`Owner::push`].
pub fn push(owner: &mut Owner, url: &str, dir: &Path) -> Result<Pushed> {
    let mut tries = 1;
    let pushed = loop {
        match owner.push(&inventory(dir)?) {
            Err(Error::Vanished { .. }) if tries < TRIES => tries += 1,
            pushed => break pushed?,
        }
    };
    let time_ns = crate::moment::now_ns();
    let (epoch, lineage) = (pushed.epoch.get(), owner.lineage().to_string());
    remember(dir, Remembered { url: url.to_owned(), lineage, epoch, time_ns })?;
    Ok(pushed)
}

/// Restores the store `log_id` from the archive at `url` into `dir`, which is
/// not there or empty: its state, source offsets and watermark at the target.
/// The restored store may go on with the archive, as long as nobody else has.
///
/// # Errors
/// Those of [`Archive::restore`]; [`Error::Store`] if what came back does not
/// make a store.
pub fn restore(
    archive: &Archive,
    url: &str,
    log_id: LogId,
    target: Target,
    dir: &Path,
) -> Result<(Restored, Resharded)> {
    let url = url.to_owned();
    let made = std::sync::Arc::new(std::sync::Mutex::new(None));
    let slot = std::sync::Arc::clone(&made);
    let restored = archive.restore(log_id, target, dir, move |partial, restored| {
        let moved = complete(partial, log_id, restored)?;
        let lineage = restored.lineage.to_string();
        let this = Remembered { url, lineage, epoch: moved.epoch.get(), time_ns: crate::moment::now_ns() };
        remember(partial, this).map_err(io::Error::other)?;
        *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(moved);
        Ok(())
    })?;
    let moved = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    Ok((restored, moved.expect("a restore that ends well was completed")))
}

/// Makes a store of the files in `partial`. A try that was cut short is begun
/// anew by the files that are there.
fn complete(partial: &Path, log_id: LogId, restored: &Restored) -> io::Result<Resharded> {
    let checkpoint = restored.checkpoint.as_ref().map(|facts| Checkpoint::decode(&facts.text));
    let checkpoint = checkpoint.transpose().map_err(io::Error::other)?;
    let mut leads: Vec<Option<(SegmentId, Lsn)>> = vec![None; usize::from(restored.cores)];
    for (facts, _) in &restored.segments {
        leads[facts.core.index()] = Some((facts.next, facts.next_base));
    }
    let until = match restored.target {
        Target::Latest => Until::Latest,
        Target::Epoch(epoch) => Until::Epoch(epoch),
        Target::Time(time) => Until::Time(TimestampNs(u64::try_from(time).unwrap_or(0))),
    };
    let Restored { generation, cores, .. } = *restored;
    let assembly = Assembly { log_id, cores, generation, checkpoint, leads, until };
    corewal::assemble(partial, &assembly).map_err(io::Error::other)
}

/// The newest epoch that `url` holds of the store in `dir`, as far as the store
/// remembers.
///
/// # Errors
/// As [`remembered`].
pub fn acknowledged(dir: &Path, url: &str) -> Result<Epoch> {
    let known = remembered(dir)?.into_iter().find(|known| known.url == url);
    Ok(Epoch(known.map_or(0, |known| known.epoch)))
}
