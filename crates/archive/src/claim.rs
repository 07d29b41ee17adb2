//! Claims: who owns the archive, and the race for the next term.

use corewal_format::LogId;
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, Put};
use crate::error::{Error, Result};
use crate::key::{self, MAX_NUMBER, Place};
use crate::sealed::{self, LAYOUT_VERSION};
use crate::types::{Nonce, Term};
use crate::wire;

/// Terms that others may take before one's eyes until it is given up.
const MOST_TRIES: usize = 100;

/// The body of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) version: u32,
    #[serde(with = "wire::log_id")]
    pub(crate) log_id: LogId,
    pub(crate) term: Term,
    pub(crate) nonce: Nonce,
    /// Who claims, in words for people.
    pub(crate) holder: String,
    pub(crate) time_ns: i64,
}

/// All terms that were ever claimed, in order. Claims are never removed: a
/// number that was free again could be taken twice.
pub(crate) async fn terms(bucket: &Bucket, log: LogId) -> Result<Vec<Term>> {
    let listed = bucket.list(&key::owners(log), None).await?;
    Ok(listed.iter().filter_map(|object| term_of(log, &object.key)).collect())
}

/// The greatest term claimed after this one.
pub(crate) async fn later(bucket: &Bucket, log: LogId, than: Term) -> Result<Option<Term>> {
    let listed = bucket.list(&key::owners(log), Some(&key::claim(log, than))).await?;
    // Some stores ignore where a listing is to begin.
    Ok(listed.iter().filter_map(|object| term_of(log, &object.key)).filter(|term| *term > than).max())
}

fn term_of(log: LogId, key: &str) -> Option<Term> {
    match Place::parse(log, key)? {
        Place::Claim(term) => Some(term),
        Place::Index(..) | Place::Part(..) => None,
    }
}

/// Takes the next term. An error leaves it open whether a term was taken; one
/// that was stays unused.
pub(crate) async fn take(bucket: &Bucket, log: LogId, nonce: &Nonce, holder: &str, time_ns: i64) -> Result<Term> {
    let mut term = terms(bucket, log).await?.last().map_or(0, |term| term.0);
    let mut last_key = key::owners(log);
    for _ in 0..MOST_TRIES {
        term += 1;
        let key = key::claim(log, Term(term));
        if term > MAX_NUMBER {
            return Err(Error::Conflict { key });
        }
        let claim = Claim {
            version: LAYOUT_VERSION,
            log_id: log,
            term: Term(term),
            nonce: nonce.clone(),
            holder: holder.to_owned(),
            time_ns,
        };
        let bytes =
            sealed::seal(&claim).map_err(|error| Error::Damaged { key: key.clone(), detail: error.to_string() })?;
        match bucket.create(&key, bytes.clone()).await? {
            Put::Created => {
                // Some servers take no notice of the condition, and would give
                // every term to whoever asks. The same put must fail now.
                return match bucket.create(&key, bytes).await? {
                    Put::Exists => Ok(Term(term)),
                    Put::Created => Err(Error::Unconditional { key }),
                };
            }
            // A put whose answer was lost is tried again by the client, and
            // then finds itself: the nonce tells.
            Put::Exists if bucket.read(&key).await?.is_some_and(|found| found == bytes) => return Ok(Term(term)),
            Put::Exists => last_key = key,
        }
    }
    Err(Error::Conflict { key: last_key })
}
