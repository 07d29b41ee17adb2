//! Changing the number of cores of a store.

use std::path::Path;

use corewal_format::{Epoch, Lsn, MAX_CORES};
use corewal_io::{FileStorage, Storage};

use crate::checkpoint::{Checkpoints, base_behind};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::reader::Reader;

/// What changing the number of cores came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resharded {
    /// The number of cores before.
    pub from: u16,
    /// The number of cores now.
    pub to: u16,
    /// The epoch at whose end the state was moved: the newest, which was ended
    /// for it.
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
/// # Errors
/// [`Error::Locked`] if the store is open; [`Error::NotFoldable`] if its log
/// holds payloads; [`Error::OffsetsDiffer`]; [`Error::BadOption`]; those of
/// opening. The store is as it was, but for an epoch that was ended and a
/// checkpoint that was made.
pub fn reshard(dir: impl AsRef<Path>, cores: u16) -> Result<Resharded> {
    reshard_on(FileStorage::new(), dir, cores, Options::new())
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
    let dir = dir.as_ref();
    let options = Options { cores: None, create: false, checkpoints: Checkpoints::manual(), ..options };
    let mut opened = options.open_on(storage.clone(), dir, |_| ())?;
    let from = opened.store.cores();
    // Whatever counts belongs to a complete epoch from here on.
    opened.store.announce_epoch();
    for shard in &mut opened.shards {
        shard.sync()?;
    }
    let epoch = opened.store.complete_epoch();
    if from == cores {
        return Ok(Resharded { from, to: cores, epoch, keys: 0 });
    }
    opened.store.checkpoint()?;
    for shard in opened.shards.drain(..) {
        shard.close()?;
    }
    // The lock is still held: what the logs end with now is what they end with.
    let info = Reader::open_on(storage, dir)?.info()?;
    let end = info.cores.iter().map(|core| core.appended_lsn).max().unwrap_or(Lsn(0));
    let keys = opened.store.reshard(cores, base_behind(end))?;
    Ok(Resharded { from, to: cores, epoch, keys })
}
