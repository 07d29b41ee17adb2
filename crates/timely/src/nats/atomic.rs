//! Messages that go together: the broker stores all of them or none (from server
//! 2.12 on, where a stream allows it).

use std::ops::Range;

use async_nats::client::Request;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Client, HeaderMap, HeaderValue, RequestErrorKind};

use super::connection::Trouble;
use super::publisher::{Rows, Sent, refusal, unpublished};

/// As many as the broker takes at a time.
pub(super) const MESSAGES: usize = 1000;

/// Their bytes, which the broker has in memory until it stores them.
pub(super) const BYTES: usize = 8 << 20;

/// Which messages go together, where each is among them, and which is the last.
const ID: &str = "Nats-Batch-Id";
const AT: &str = "Nats-Batch-Sequence";
const COMMIT: &str = "Nats-Batch-Commit";

/// Sends some rows behind a sequence, and waits for what the broker says: to the
/// first, whether it takes such, and to the last, what has come of them.
pub(super) async fn send(
    client: &Client,
    stream: &str,
    behind: u64,
    rows: &Rows,
    range: Range<usize>,
) -> Result<Sent, Trouble> {
    let subject = rows.subject();
    let inbox = client.new_inbox();
    // Whatever is never used twice.
    let id = inbox.rsplit('.').next().unwrap_or(&inbox);
    for at in range.clone() {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, rows.name_of(at));
        headers.insert(NATS_EXPECTED_STREAM, stream);
        headers.insert(ID, id);
        headers.insert(AT, HeaderValue::from(at - range.start + 1));
        let payload = rows.payload(at).into();
        let (first, last) = (at == range.start, at + 1 == range.end);
        if first {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(behind));
        }
        if last {
            headers.insert(COMMIT, "1");
        }
        if !first && !last {
            let sent = client.publish_with_headers(subject.to_owned(), headers, payload).await;
            sent.map_err(|error| match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => {
                    Trouble::Lasting(unpublished(subject, &error))
                }
                _ => Trouble::Passing(unpublished(subject, &error)),
            })?;
            continue;
        }
        let request = Request::new().headers(headers).payload(payload);
        let answer = client.send_request(subject.to_owned(), request).await.map_err(|error| match error.kind() {
            RequestErrorKind::MaxPayloadExceeded => Trouble::Lasting(unpublished(subject, &error)),
            _ => Trouble::Passing(unpublished(subject, &error)),
        })?;
        if first && answer.payload.is_empty() {
            continue;
        }
        return match serde_json::from_slice(&answer.payload) {
            Ok(Response::Err { error }) => refusal(subject, &error),
            Ok(Response::<PublishAck>::Ok(stored)) if stored.duplicate => Ok(Sent::NotTogether),
            Ok(Response::Ok(stored)) if last => Ok(Sent::Stored(stored.sequence)),
            // It does not know what goes together, and has stored the first.
            Ok(Response::Ok(_)) => Err(Trouble::Passing(unpublished(subject, &"the broker stores it alone"))),
            Err(error) => Err(Trouble::Passing(unpublished(subject, &error))),
        };
    }
    // There were none.
    Ok(Sent::NotTogether)
}
