//! Reading an archive through, and telling what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use corewal_format::LogId;
use futures_util::StreamExt as _;

use crate::bucket::Bucket;
use crate::claim::Claim;
use crate::current;
use crate::error::{Error, Result};
use crate::fetch::fetch;
use crate::index::{Index, Part};
use crate::key::Place;
use crate::owner::KEPT_INDEXES;
use crate::sealed::{self, Broken};
use crate::types::Term;

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// A claim is not what was written. It still fences: its key is enough.
    Claim,
    /// An index is not what was written. If it is the newest, readers use the
    /// one before.
    Index,
    /// A part that a kept index refers to is not what was archived.
    Part,
    /// A part that a kept index refers to is not there.
    Missing,
    /// An index or claim of a newer version, which this program can't judge.
    Unsupported,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "damaged claim",
            Self::Index => "damaged index",
            Self::Part => "damaged part",
            Self::Missing => "missing part",
            Self::Unsupported => "newer version",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The object.
    pub key: String,
    /// What kind of wrong.
    pub wrong: Wrong,
    /// In words.
    pub detail: String,
}

/// What a verification read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// What is wrong; empty if all is well.
    pub findings: Vec<Finding>,
    /// Claims read.
    pub claims: u64,
    /// Indexes read.
    pub indexes: u64,
    /// Parts read: those of the newest indexes.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Parts that none of them refers to. They do no harm; uploads under way
    /// are among them.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Objects that are none of an archive's.
    pub strangers: u64,
}

/// Reads everything that counts.
pub(crate) async fn verify(bucket: &Bucket, log: LogId, at_once: usize) -> Result<Verified> {
    let listed = bucket.list(&log.to_string(), None).await?;
    if listed.is_empty() {
        return Err(Error::NoArchive);
    }
    let mut verified = Verified::default();
    let mut indexes: BTreeMap<(Term, u64), Index> = BTreeMap::new();
    let mut parts_there = Vec::new();
    for object in listed {
        let key = object.key;
        let broken = match Place::parse(log, &key) {
            Some(Place::Claim(term)) => {
                verified.claims += 1;
                let Some(bytes) = bucket.read(&key).await? else { continue };
                match sealed::open::<Claim>(&bytes) {
                    Ok(claim) if (claim.log_id, claim.term) == (log, term) => None,
                    Ok(_) => Some(Broken::Damaged("it belongs under another key".to_owned())),
                    Err(broken) => Some(broken),
                }
                .map(|broken| (Wrong::Claim, broken))
            }
            Some(Place::Index(term, number)) => {
                // An owner may have removed it meanwhile.
                let Some(bytes) = bucket.read(&key).await? else { continue };
                verified.indexes += 1;
                match Index::decode(&bytes, log, term, number) {
                    Ok(index) => {
                        indexes.insert((term, number), index);
                        None
                    }
                    Err(broken) => Some((Wrong::Index, broken)),
                }
            }
            Some(Place::Part(..)) => {
                parts_there.push((key.clone(), object.bytes));
                None
            }
            None => {
                verified.strangers += 1;
                None
            }
        };
        verified.findings.extend(broken.map(|(wrong, broken)| match broken {
            Broken::Damaged(detail) => Finding { key, wrong, detail },
            Broken::Unsupported(version) => {
                Finding { key, wrong: Wrong::Unsupported, detail: format!("it has version {version}") }
            }
        }));
    }
    let kept: Vec<Index> = indexes.into_values().rev().take(KEPT_INDEXES).collect();
    let parts: BTreeMap<&str, &Part> =
        kept.iter().flat_map(Index::parts).map(|part| (part.key.as_str(), part)).collect();
    for (_, bytes) in parts_there.iter().filter(|(key, _)| !parts.contains_key(key.as_str())) {
        verified.orphans += 1;
        verified.orphan_bytes += bytes;
    }
    let mut under_way = futures_util::stream::iter(parts.values())
        .map(async |part| (*part, fetch(bucket, part, |_| Ok(())).await))
        .buffer_unordered(at_once.max(1));
    while let Some((part, result)) = under_way.next().await {
        verified.parts += 1;
        verified.bytes += part.bytes;
        let (wrong, detail) = match result {
            Ok(()) => continue,
            Err(Error::Damaged { detail, .. }) => (Wrong::Part, detail),
            Err(Error::Missing { .. }) => (Wrong::Missing, format!("{} should be there", part.name)),
            Err(error) => return Err(error),
        };
        verified.findings.push(Finding { key: part.key.clone(), wrong, detail });
    }
    forgive_what_was_removed(bucket, log, &mut verified).await?;
    verified.findings.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(verified)
}

/// A part that is not there is nothing wrong if an owner has let it go since.
async fn forgive_what_was_removed(bucket: &Bucket, log: LogId, verified: &mut Verified) -> Result<()> {
    if verified.findings.iter().any(|finding| finding.wrong == Wrong::Missing) {
        let now = current::newest(bucket, log, KEPT_INDEXES).await?;
        let named: BTreeSet<&str> = now.indexes.iter().flat_map(Index::keys).collect();
        verified.findings.retain(|finding| finding.wrong != Wrong::Missing || named.contains(finding.key.as_str()));
    }
    Ok(())
}
