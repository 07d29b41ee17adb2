//! Changing the number of cores of a store.

use std::path::Path;

use corewal_format::{CoreId, Epoch, Lsn, MAX_CORES};
use corewal_io::{FileStorage, Storage};

use crate::checkpoint::{Checkpoints, base_behind};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::{Options, Recover};
use crate::planted::PlantedBug;
use crate::recovery::{Root, load_manifest};
use crate::scan::{LogIdentity, survey};

/// What changing the number of cores came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resharded {
    /// The number of cores before.
    pub from: u16,
    /// The number of cores now.
    pub to: u16,
    /// The epoch at whose end the state was moved: the newest complete one. (Of
    /// a store whose cores are recovered to their latest, one ended for it.)
    pub epoch: Epoch,
    /// Keys that were moved.
    pub keys: u64,
}

/// Changes the number of cores of the store in `dir` to `cores`: each key goes
/// to the core that owns it from now on, every core gets the source offsets and
/// the watermark. It is one step: after a crash in the middle the store has the
/// old number, or the new one.
///
/// Takes the space of the state once more while it works.
///
/// Where cores know different offsets of one source, nobody can tell which of
/// them counts. (After an earlier change, who still has what all were given then
/// does not count beside one that has gone on, up to 256 KiB of such offsets.)
///
/// # Errors
/// [`Error::Locked`] if the store is open; [`Error::NotFoldable`] if its log
/// holds payloads; [`Error::OffsetsDiffer`]; [`Error::BadOption`]; those of
/// opening. The store is as it was, but for a checkpoint that was made (and
/// an epoch that was ended, if its cores are recovered to their latest).
pub fn reshard(dir: impl AsRef<Path>, cores: u16) -> Result<Resharded> {
    // Compiled here, for all callers.
    fn on_files(dir: &Path, cores: u16) -> Result<Resharded> {
        reshard_on(FileStorage::new(), dir, cores, Options::new())
    }
    on_files(dir.as_ref(), cores)
}

/// As [`reshard`], on another backend, with the options by which the store is
/// opened for it.
///
/// # Errors
/// As [`reshard`].
pub fn reshard_on<S: Storage>(storage: S, dir: impl AsRef<Path>, cores: u16, options: Options) -> Result<Resharded> {
    if cores == 0 || cores > MAX_CORES {
        return Err(Error::BadOption { name: "cores", must: format!("from 1 to {MAX_CORES}") });
    }
    let options = Options { cores: None, create: false, reshard: false, ..options };
    move_to(storage, dir.as_ref(), Some(cores), options)
}

/// Moves the state of a store to fresh logs of the next generation; as many as
/// there are, without `cores`, and then also if it has as many.
pub(crate) fn move_to<S: Storage>(storage: S, dir: &Path, cores: Option<u16>, options: Options) -> Result<Resharded> {
    let (latest, planted) = (options.recover == Recover::Latest, options.planted);
    let options = Options { checkpoints: Checkpoints::manual(), ..options };
    let mut opened = options.open_on(storage.clone(), dir, |_| ())?;
    let from = opened.store.cores();
    if latest || opened.store.complete_epoch() == Epoch(0) {
        // Whatever counts belongs to a complete epoch from here on.
        opened.store.announce_epoch();
        for shard in &mut opened.shards {
            shard.sync()?;
        }
    }
    let epoch = opened.store.complete_epoch();
    let to = match cores {
        Some(to) if to == from => return Ok(Resharded { from, to, epoch, keys: 0 }),
        to => to.unwrap_or(from),
    };
    opened.store.checkpoint()?;
    for shard in opened.shards.drain(..) {
        shard.close()?;
    }
    // The lock is still held: what the logs end with now is what they end with.
    let end = ends(storage, dir)?.into_iter().max().unwrap_or(Lsn(0));
    let end = if planted.has(PlantedBug::PositionsBeginAgain) { Lsn(0) } else { end };
    let keys = opened.store.reshard(to, base_behind(end))?;
    Ok(Resharded { from, to, epoch, keys })
}

/// By core, the end of the log.
fn ends<S: Storage>(storage: S, dir: &Path) -> Result<Vec<Lsn>> {
    let mut layout = Layout::of(storage, dir)?;
    let Root { manifest, .. } = load_manifest(&layout)?;
    layout.generation = manifest.generation;
    let log = |core| LogIdentity::of(&manifest, core);
    (0..manifest.cores).map(|core| Ok(survey(&layout, log(CoreId(core)), Lsn(u64::MAX))?.end())).collect()
}
