//! Reading a part back, with its length and its hash.

use futures_util::TryStreamExt as _;

use crate::bucket::Bucket;
use crate::error::{Error, Result};
use crate::index::Part;

/// Reads a part piece by piece, and fails unless every byte is what was
/// archived. What `sink` was given counts only if this returns without an
/// error.
pub(crate) async fn fetch(bucket: &Bucket, part: &Part, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let key = &part.key;
    let damaged = |detail: String| Err(Error::Damaged { key: key.clone(), detail });
    let Some(object) = bucket.get(key).await? else { return Err(Error::Missing { key: key.clone() }) };
    let mut stream = object.into_stream();
    let mut hasher = blake3::Hasher::new();
    while let Some(bytes) = bucket.bounded("get", key, stream.try_next()).await? {
        hasher.update(&bytes);
        if hasher.count() > part.bytes {
            return damaged(format!("it is longer than {} bytes", part.bytes));
        }
        sink(&bytes)?;
    }
    if hasher.count() < part.bytes {
        return damaged(format!("it has {} bytes of {}", hasher.count(), part.bytes));
    }
    if hasher.finalize().to_hex().as_str() != part.blake3 {
        return damaged("its hash does not match".to_owned());
    }
    Ok(())
}
