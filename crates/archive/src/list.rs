//! What an archive holds, without reading its parts.

use corewal_format::{Epoch, LogId};

use crate::bucket::Bucket;
use crate::claim::{self, Claim};
use crate::current;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::key;
use crate::plan;
use crate::sealed;
use crate::types::{Lineage, Term};

/// Owners that are listed.
const MOST_OWNERS: usize = 32;

/// An owner of the archive, of now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its term.
    pub term: Term,
    /// Who claimed it, in words; `None` if the claim is damaged.
    pub holder: Option<String>,
    /// When, in nanoseconds since the Unix epoch; 0 if that is not known.
    pub time_ns: i64,
}

/// A state that can be restored, and how far the logs go on from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Number of the checkpoint; `None` for the beginning of the logs.
    pub checkpoint: Option<u64>,
    /// Its epoch; 0 for the beginning of the logs.
    pub epoch: Epoch,
    /// The newest epoch that can be restored from it. All complete epochs in
    /// between can.
    pub reaches: Epoch,
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// The last 32 that claimed it, oldest first.
    pub owners: Vec<Owner>,
    /// The newest index: owner and number.
    pub index: (Term, u64),
    /// When it was put, in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// What a store restored from it would have as its lineage.
    pub lineage: Lineage,
    /// Current generation of logs.
    pub generation: u32,
    /// Cores of that generation.
    pub cores: u16,
    /// The newest epoch that was complete in the store.
    pub complete_epoch: Epoch,
    /// The newest epoch that can be restored; 0 if none.
    pub epoch: Epoch,
    /// What can be restored, by epoch.
    pub coverage: Vec<Coverage>,
    /// Segments in the newest index.
    pub segments: u64,
    /// Objects the newest index refers to.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of the store in the bucket, needed or not.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Damaged indexes newer than the one shown.
    pub passed_over: Vec<String>,
}

/// Lists an archive.
pub(crate) async fn list(bucket: &Bucket, log: LogId) -> Result<Overview> {
    let found = current::newest(bucket, log, 1).await?;
    let Some(index) = found.indexes.first() else {
        found.intact()?;
        return Err(Error::NoArchive);
    };
    let objects = bucket.list(&log.to_string(), None).await?;
    let terms = claim::terms(bucket, log).await?;
    let mut owners = Vec::new();
    for &term in &terms[terms.len().saturating_sub(MOST_OWNERS)..] {
        let bytes = bucket.read(&key::claim(log, term)).await?;
        let claim = bytes.and_then(|bytes| sealed::open::<Claim>(&bytes).ok());
        let (holder, time_ns) = claim.map_or((None, 0), |claim| (Some(claim.holder), claim.time_ns));
        owners.push(Owner { term, holder, time_ns });
    }
    let mut coverage: Vec<Coverage> = plan::coverage(index)
        .into_iter()
        .map(|(checkpoint, epoch, reaches)| Coverage { checkpoint, epoch, reaches })
        .collect();
    coverage.sort_by_key(|coverage| (coverage.epoch, coverage.checkpoint));
    Ok(Overview {
        owners,
        index: (index.term, index.number),
        time_ns: index.time_ns,
        lineage: Lineage::restored(&index.content),
        generation: index.generation,
        cores: index.cores,
        complete_epoch: index.complete_epoch,
        epoch: plan::covered(index),
        coverage,
        segments: index.segments.len() as u64,
        parts: Index::keys(index).len() as u64,
        bytes: index.bytes(),
        objects: objects.len() as u64,
        object_bytes: objects.iter().map(|object| object.bytes).sum(),
        passed_over: found.damaged.iter().map(|(key, _)| key.clone()).collect(),
    })
}
