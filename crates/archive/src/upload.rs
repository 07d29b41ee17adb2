//! Bringing one file of a store into the bucket, in pieces and in one pass.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use object_store::{MultipartUpload, PutPayload};

use crate::bucket::Bucket;
use crate::error::Result;
use crate::inventory::Wanted;
use crate::source::{Outcome, Source};

/// Pieces of one file under way at once.
const PIECES_AT_ONCE: usize = 3;

/// Hashes a file without sending it anywhere.
pub(crate) async fn hash(wanted: &Wanted<'_>, piece: usize) -> Result<Outcome<String>> {
    let Outcome::Whole(mut source) = Source::open(wanted)? else { return Ok(Outcome::Vanished) };
    while !source.next(piece)?.is_empty() {
        // A stop must not have to wait for a large file.
        tokio::task::yield_now().await;
    }
    source.finish(wanted.file.bytes)
}

/// Puts a file under `key` and gives its hash. A file that vanishes leaves no
/// object.
pub(crate) async fn upload(bucket: &Bucket, key: &str, wanted: &Wanted<'_>, piece: usize) -> Result<Outcome<String>> {
    let Outcome::Whole(mut source) = Source::open(wanted)? else { return Ok(Outcome::Vanished) };
    let length = wanted.file.bytes;
    if length <= piece as u64 {
        let bytes = source.next(piece)?;
        let finished = source.finish(length)?;
        if matches!(finished, Outcome::Whole(_)) {
            bucket.put(key, bytes.into()).await?;
        }
        return Ok(finished);
    }
    let mut upload = bucket.put_in_pieces(key).await?;
    let sent = match pieces(bucket, key, &mut *upload, &mut source, piece).await {
        Ok(()) => source.finish(length),
        Err(error) => Err(error),
    };
    match sent {
        Ok(Outcome::Whole(hash)) => {
            bucket.bounded("put", key, upload.complete()).await?;
            Ok(Outcome::Whole(hash))
        }
        // What was sent costs room until it is given up. If that fails too,
        // the bucket's own rule for unfinished uploads has to do it.
        other => {
            let _ = bucket.bounded("give up", key, upload.abort()).await;
            other
        }
    }
}

async fn pieces(
    bucket: &Bucket,
    key: &str,
    upload: &mut dyn MultipartUpload,
    source: &mut Source<'_>,
    piece: usize,
) -> Result<()> {
    let mut under_way = FuturesUnordered::new();
    loop {
        let bytes = source.next(piece)?;
        if bytes.is_empty() {
            break;
        }
        under_way.push(bucket.bounded("put a piece of", key, upload.put_part(PutPayload::from(bytes))));
        if under_way.len() >= PIECES_AT_ONCE {
            under_way.next().await.transpose()?;
        }
    }
    while under_way.next().await.transpose()?.is_some() {}
    Ok(())
}
