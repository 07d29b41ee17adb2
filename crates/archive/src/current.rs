//! Finding the newest index: that of the greatest term that has one.

use std::cmp::Reverse;

use corewal_format::LogId;

use crate::bucket::Bucket;
use crate::claim;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::key::{self, Place};
use crate::sealed::Broken;

/// How often a reader begins anew when objects go away under it. Each time an
/// owner must have finished two pushes meanwhile.
const MOST_TRIES: usize = 8;

/// The newest indexes.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// Newest first. Not empty unless there is no index at all, or none that
    /// can be read.
    pub(crate) indexes: Vec<Index>,
    /// Damaged indexes newer than those: key, and what is wrong.
    pub(crate) damaged: Vec<(String, String)>,
}

impl Newest {
    /// The newest index that can be read, if it is also the newest there is.
    pub(crate) fn intact(&self) -> Result<Option<&Index>> {
        match self.damaged.first() {
            Some((key, detail)) => Err(Error::Damaged { key: key.clone(), detail: detail.clone() }),
            None => Ok(self.indexes.first()),
        }
    }
}

/// Reads up to `most` of the newest indexes.
pub(crate) async fn newest(bucket: &Bucket, log: LogId, most: usize) -> Result<Newest> {
    for _ in 0..MOST_TRIES {
        if let Some(found) = attempt(bucket, log, most).await? {
            return Ok(found);
        }
    }
    Err(Error::Missing { key: key::owners(log) })
}

/// `None` if an index went away between the listing and the reading.
async fn attempt(bucket: &Bucket, log: LogId, most: usize) -> Result<Option<Newest>> {
    let mut terms = claim::terms(bucket, log).await?;
    terms.sort_by_key(|term| Reverse(*term));
    let mut found = Newest::default();
    for term in terms {
        let listed = bucket.list(&key::indexes(log, term), None).await?;
        let mut numbers: Vec<u64> = listed
            .iter()
            .filter_map(|object| match Place::parse(log, &object.key)? {
                Place::Index(at, number) if at == term => Some(number),
                _ => None,
            })
            .collect();
        numbers.sort_by_key(|number| Reverse(*number));
        for number in numbers {
            let key = key::index(log, term, number);
            let Some(bytes) = bucket.read(&key).await? else { return Ok(None) };
            match Index::decode(&bytes, log, term, number) {
                Ok(index) => found.indexes.push(index),
                Err(Broken::Damaged(detail)) if found.indexes.is_empty() => found.damaged.push((key, detail)),
                Err(Broken::Damaged(_)) => {}
                Err(Broken::Unsupported(version)) => return Err(Error::Unsupported { key, version }),
            }
            if found.indexes.len() >= most {
                return Ok(Some(found));
            }
        }
    }
    Ok(Some(found))
}
