//! Removing what no index that counts refers to.

use std::collections::BTreeSet;

use corewal_format::LogId;

use crate::bucket::{Bucket, Listed};
use crate::claim;
use crate::current;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::key::Place;
use crate::owner::KEPT_INDEXES;
use crate::types::Term;

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Objects removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Objects that should have been removed and perhaps are not.
    pub unremoved: u64,
    /// A later owner that has no index yet: nothing was removed, since it may
    /// have found an older index than the newest one.
    pub waits_for: Option<Term>,
}

/// What must stay.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    pub(crate) indexes: BTreeSet<String>,
    pub(crate) parts: BTreeSet<String>,
}

impl Keep {
    /// These indexes and all they refer to.
    pub(crate) fn of<'a>(indexes: impl IntoIterator<Item = &'a Index>) -> Self {
        let mut keep = Self::default();
        for index in indexes {
            keep.indexes.insert(index.key());
            keep.parts.extend(index.keys().into_iter().map(str::to_owned));
        }
        keep
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.indexes.contains(key) || self.parts.contains(key)
    }
}

/// Parts and indexes of owners before a term that nothing keeps.
pub(crate) async fn unnamed(bucket: &Bucket, log: LogId, keep: &Keep, before: Term) -> Result<Vec<Listed>> {
    let mut listed = bucket.list(&log.to_string(), None).await?;
    listed.retain(|object| match Place::parse(log, &object.key) {
        Some(Place::Index(term, _) | Place::Part(term, _)) => term < before && !keep.contains(&object.key),
        // Claims stay for ever, and what is not ours is left alone.
        Some(Place::Claim(_)) | None => false,
    });
    Ok(listed)
}

/// Removes what earlier owners left behind. Anybody may call it at any time.
pub(crate) async fn collect(bucket: &Bucket, log: LogId, at_once: usize) -> Result<Collected> {
    collect_if(bucket, log, at_once, true).await
}

/// Tests leave the look for claims out, to see that it is needed.
pub(crate) async fn collect_if(bucket: &Bucket, log: LogId, at_once: usize, looks: bool) -> Result<Collected> {
    let found = current::newest(bucket, log, KEPT_INDEXES).await?;
    let newest = found.intact()?.ok_or(Error::NoArchive)?;
    // After the index was read: an owner that claims later than this look
    // finds the newest index or a later one of the same owner, and neither
    // refers to anything that is removed here.
    if looks && let Some(waits_for) = claim::later(bucket, log, newest.term).await? {
        return Ok(Collected { waits_for: Some(waits_for), ..Collected::default() });
    }
    let unnamed = unnamed(bucket, log, &Keep::of(&found.indexes), newest.term).await?;
    let keys = unnamed.iter().map(|object| object.key.clone()).collect();
    let (left, _) = bucket.delete_all(keys, at_once).await;
    let left: BTreeSet<String> = left.into_iter().collect();
    let removed = || unnamed.iter().filter(|object| !left.contains(&object.key));
    Ok(Collected {
        removed: removed().count() as u64,
        removed_bytes: removed().map(|object| object.bytes).sum(),
        unremoved: left.len() as u64,
        waits_for: None,
    })
}
