//! The thread that publishes rows, and knows which have been.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::Range;

use async_nats::Subject;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RetentionPolicy, Stream};
use async_nats::jetstream::{self, ErrorCode};
use tokio::sync::mpsc::UnboundedReceiver;

use super::atomic::{self, MESSAGES};
use super::broker::Broker;
use super::connection::{Connection, Patience, Trouble, answered};
use super::reader::find_stream;
use super::sink::Order;
use crate::sink::Batch;
use crate::source::BoxError;

/// A row of a worker: its epoch, and its number in it from 0 on.
type Row = (u64, u64);

/// The rows of a worker in one epoch.
#[derive(Debug)]
pub(super) struct Rows {
    subject: String,
    /// What the names of all its rows begin with.
    names: String,
    worker: usize,
    epoch: u64,
    rows: Vec<Vec<u8>>,
}

impl Rows {
    /// Those of a batch, to be published below a subject.
    ///
    /// # Errors
    /// If that is not a subject for one worker, or the names can't be in a header.
    pub(super) fn new(prefix: &str, batch: Batch<'_>) -> Result<Self, BoxError> {
        let subject = format!("{prefix}.{}", batch.worker);
        if Subject::validated(&subject).is_err() || subject.split('.').any(|token| token == "*" || token == ">") {
            return Err(format!("`{subject}` is not a subject to publish to").into());
        }
        let names = format!("{}/{}", batch.job, batch.sink);
        if names.starts_with(char::is_whitespace) || names.contains(char::is_control) {
            return Err(format!("`{names}` can't be in the header of a message").into());
        }
        Ok(Self { subject, names, worker: batch.worker, epoch: batch.epoch, rows: batch.rows.to_vec() })
    }

    /// The end of the rows that can go together with one and those after it.
    fn together(&self, at: usize) -> usize {
        let mut bytes = 0;
        let rows = self.rows[at..].iter().take(MESSAGES).take_while(|row| {
            bytes += row.len();
            bytes <= atomic::BYTES
        });
        at + rows.count().max(1)
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn payload(&self, at: usize) -> Vec<u8> {
        self.rows[at].clone()
    }

    /// What one of these rows is called.
    pub(super) fn name_of(&self, at: usize) -> String {
        self.name((self.epoch, at as u64))
    }

    /// What a row is called.
    fn name(&self, (epoch, row): Row) -> String {
        format!("{}/{epoch}/{}/{row}", self.names, self.worker)
    }

    /// Which row of this worker and sink is called so.
    fn parse(&self, name: &str) -> Option<Row> {
        let mut parts = name.strip_prefix(&*self.names)?.strip_prefix('/')?.split('/');
        let row = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(epoch), Some(worker), Some(row), None) if worker.parse() == Ok(self.worker) => {
                (epoch.parse().ok()?, row.parse().ok()?)
            }
            _ => return None,
        };
        // Numbers can be written in more than one way.
        (self.name(row) == name).then_some(row)
    }
}

/// Publishes what it is told to, one batch after the other.
pub(super) struct Publisher {
    broker: Broker,
    stream: String,
    connection: Option<Connection>,
    heads: BTreeMap<String, Head>,
}

impl Publisher {
    pub(super) fn new(broker: Broker, stream: String) -> Self {
        Self { broker, stream, connection: None, heads: BTreeMap::new() }
    }

    /// Publishes until there can be no more orders.
    pub(super) async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        while let Some((rows, done)) = orders.recv().await {
            let _ = done.send(self.publish(&rows).await);
        }
    }

    async fn publish(&mut self, rows: &Rows) -> Result<(), String> {
        let mut patience = Patience::new(self.broker.patience);
        loop {
            match self.attempt(rows, &mut patience).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Lasting(why)) => return Err(why),
                Err(Trouble::Passing(why)) => patience.wait(why).await?,
            }
        }
    }

    /// Goes on with a batch, until all of it is published or it can't be done.
    async fn attempt(&mut self, rows: &Rows, patience: &mut Patience) -> Result<(), Trouble> {
        // One that had any trouble is not used again.
        let connection = match self.connection.take() {
            Some(connection) if !connection.is_lost() => connection,
            _ => Connection::open(&self.broker).await?,
        };
        let end = End { connection: &connection, broker: &self.broker, stream: &self.stream };
        connection.unless_lost(end.publish(&mut self.heads, rows, patience)).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// What this sink knows of a subject.
#[derive(Debug)]
struct Head {
    /// The sequence of its last message; 0 if it has none.
    sequence: u64,
    /// The last row that is published.
    published: Option<Row>,
    /// One that was sent, perhaps with others before it, and of which it is not
    /// known whether it is stored.
    doubt: Option<Row>,
    /// Whether rows go together, all of them or none.
    atomic: bool,
}

impl Head {
    /// What the last message of a subject says, when it is looked at first.
    fn adopt(last: Option<Last>, rows: &Rows, atomic: bool) -> Result<Self, Trouble> {
        let Some(last) = last else { return Ok(Self { sequence: 0, published: None, doubt: None, atomic }) };
        let Some(row) = rows.parse(&last.name) else {
            return Err(Trouble::Lasting(format!(
                "the last message of subject {}, {last}, is not of this job's sink: what the sink has published can't be told",
                rows.subject
            )));
        };
        Ok(Self { sequence: last.sequence, published: Some(row), doubt: None, atomic })
    }

    /// Clears a doubt by what the last message of the subject is now.
    fn settle(&mut self, last: Option<Last>, rows: &Rows) -> Result<(), Trouble> {
        let Some(last) = last else {
            // Deleted by a limit of the stream's; nobody has published since.
            self.sequence = 0;
            return Ok(());
        };
        if last.sequence == self.sequence {
            return Ok(());
        }
        let row = rows.parse(&last.name);
        if row.is_some() && row == self.doubt {
            (self.sequence, self.published, self.doubt) = (last.sequence, row, None);
            return Ok(());
        }
        let subject = &rows.subject;
        Err(Trouble::Lasting(if last.sequence < self.sequence {
            format!(
                "the broker has lost messages of subject {subject}: its last one is {last}, and was {}",
                self.sequence
            )
        } else {
            format!(
                "fenced: another process publishes to subject {subject}: its last message is {last}, and was {} for this one",
                self.sequence
            )
        }))
    }

    /// The first row of a batch that is not published.
    fn next(&self, rows: &Rows) -> Result<usize, Trouble> {
        let all = rows.rows.len();
        match self.published {
            Some((epoch, _)) if epoch > rows.epoch => Ok(all),
            Some((epoch, row)) if epoch == rows.epoch => {
                // More rows than fit into memory were never published.
                let next = usize::try_from(row).unwrap_or(usize::MAX).saturating_add(1);
                if next > all {
                    return Err(Trouble::Lasting(format!(
                        "epoch {epoch} has {all} rows for subject {}, and had {next} when it was published first",
                        rows.subject
                    )));
                }
                Ok(next)
            }
            _ => Ok(0),
        }
    }
}

/// The last message of a subject.
struct Last {
    sequence: u64,
    /// Its `Nats-Msg-Id`; empty if it has none.
    name: String,
}

impl std::fmt::Display for Last {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sequence {} (`{}`)", self.sequence, self.name)
    }
}

/// The other end: a stream, by a connection that works.
struct End<'a> {
    connection: &'a Connection,
    broker: &'a Broker,
    stream: &'a str,
}

/// What the broker has done with a row, or with some that go together.
pub(super) enum Sent {
    /// Stored it, as this sequence; of several that is the last one's.
    Stored(u64),
    /// Nothing, since it has it already.
    Known,
    /// Nothing, since it does not follow the last message.
    Refused,
    /// Nothing; they have to go one by one.
    NotTogether,
}

impl End<'_> {
    async fn publish(
        &self,
        heads: &mut BTreeMap<String, Head>,
        rows: &Rows,
        patience: &mut Patience,
    ) -> Result<(), Trouble> {
        let subject = &rows.subject;
        if !heads.contains_key(subject) {
            let stream = self.open(subject).await?;
            let atomic = stream.cached_info().config.allow_atomic_publish;
            let head = Head::adopt(self.last(&stream, subject).await?, rows, atomic)?;
            heads.insert(subject.clone(), head);
        }
        let Some(head) = heads.get_mut(subject) else { return Ok(()) };
        if head.doubt.is_some() {
            self.settle(head, rows).await?;
        }
        let mut at = head.next(rows)?;
        let mut together = head.atomic;
        while at < rows.rows.len() {
            let next = if together { rows.together(at) } else { at + 1 };
            let row = (rows.epoch, next as u64 - 1);
            let again = head.doubt == Some(row);
            head.doubt = Some(row);
            let sent = match next - at {
                1 => self.send(head.sequence, rows, at).await?,
                _ => self.send_together(head.sequence, rows, at..next).await?,
            };
            if let Sent::Stored(sequence) = sent {
                (head.sequence, head.published, head.doubt) = (sequence, Some(row), None);
                patience.renew();
                at = next;
                continue;
            }
            // It was not stored now. If it was sent before, it may have been
            // then, though it was not there yet when that was looked at.
            head.doubt = again.then_some(row);
            self.settle(head, rows).await?;
            match sent {
                _ if head.published == Some(row) => at = next,
                // It was published, and somebody has deleted it.
                Sent::Known => {
                    (head.published, head.doubt) = (Some(row), None);
                    at = next;
                }
                Sent::NotTogether => together = false,
                Sent::Refused | Sent::Stored(_) => {
                    let why = "the broker refuses a message that follows the last one of subject";
                    return Err(Trouble::Passing(format!("{why} {subject}")));
                }
            }
        }
        Ok(())
    }

    /// Clears a doubt.
    async fn settle(&self, head: &mut Head, rows: &Rows) -> Result<(), Trouble> {
        let stream = find_stream(self.connection, self.broker, self.stream).await?;
        head.settle(self.last(&stream, &rows.subject).await?, rows)
    }

    /// Opens the stream, and sees that it is one to publish to.
    async fn open(&self, subject: &str) -> Result<Stream, Trouble> {
        let name = self.stream;
        let stream = find_stream(self.connection, self.broker, name).await?;
        let config = &stream.cached_info().config;
        if config.retention != RetentionPolicy::Limits {
            return Err(Trouble::Lasting(format!(
                "stream {name} deletes what has been consumed, so that it can't be told what was published: \
                 it has to have the retention `limits`"
            )));
        }
        if !config.subjects.iter().any(|filter| matches(filter, subject)) {
            let takes = config.subjects.join(", ");
            return Err(Trouble::Lasting(format!("stream {name} does not take the subject {subject}, but {takes}")));
        }
        Ok(stream)
    }

    /// The last message of a subject, from the server that leads the stream:
    /// others may be behind.
    async fn last(&self, stream: &Stream, subject: &str) -> Result<Option<Last>, Trouble> {
        let doing = || format!("the last message of subject {subject} can't be looked at");
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let name = message.headers.get(NATS_MESSAGE_ID).map_or_else(String::new, ToString::to_string);
                Ok(Some(Last { sequence: message.sequence, name }))
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(error) => Err(answered(&doing(), &error)),
                _ => Err(Trouble::Passing(format!("{}: {error}", doing()))),
            },
        }
    }

    /// Sends a row, and waits for what the broker says.
    async fn send(&self, behind: u64, rows: &Rows, at: usize) -> Result<Sent, Trouble> {
        let message = PublishMessage::build()
            .payload(rows.payload(at).into())
            .message_id(rows.name_of(at))
            .expected_last_subject_sequence(behind)
            .expected_stream(self.stream);
        let sent = async { self.connection.context().send_publish(rows.subject.clone(), message).await?.await };
        match sent.await {
            Ok(stored) if stored.duplicate => Ok(Sent::Known),
            Ok(stored) => Ok(Sent::Stored(stored.sequence)),
            Err(error) => refused(&rows.subject, &error),
        }
    }

    /// Sends rows of which all are stored, or none.
    async fn send_together(&self, behind: u64, rows: &Rows, range: Range<usize>) -> Result<Sent, Trouble> {
        atomic::send(&self.connection.context().client(), self.stream, behind, rows, range).await
    }
}

/// What it means that the broker has not stored a message.
fn refused(subject: &str, error: &PublishError) -> Result<Sent, Trouble> {
    let answer = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match (error.kind(), answer) {
        (_, Some(answer)) => refusal(subject, answer),
        (PublishErrorKind::MaxPayloadExceeded, _) => Err(Trouble::Lasting(unpublished(subject, error))),
        _ => Err(Trouble::Passing(unpublished(subject, error))),
    }
}

/// What it means that the broker says so.
pub(super) fn refusal(subject: &str, answer: &jetstream::Error) -> Result<Sent, Trouble> {
    match answer.error_code() {
        // The second one is of a stream that several servers have.
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Ok(Sent::Refused),
        ErrorCode::ATOMIC_PUBLISH_DISABLED | ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE => {
            Ok(Sent::NotTogether)
        }
        _ => Err(answered(&unpublished(subject, &"the broker refuses it"), answer)),
    }
}

pub(super) fn unpublished(subject: &str, why: &dyn std::fmt::Display) -> String {
    format!("a message to {subject} was not published: {why}")
}

/// Whether a subject is one of those that a filter stands for.
fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in filter.split('.') {
        match (part, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(job: &str, epoch: u64, count: usize) -> Rows {
        let rows = vec![Vec::new(); count];
        Rows::new("out", Batch { job, sink: "totals", epoch, worker: 3, rows: &rows }).unwrap()
    }

    fn head(published: Option<Row>, doubt: Option<Row>) -> Head {
        Head { sequence: 40, published, doubt, atomic: false }
    }

    fn last(sequence: u64, name: &str) -> Option<Last> {
        Some(Last { sequence, name: name.to_owned() })
    }

    #[test]
    fn names_are_read_back() {
        for job in ["job", "a/b", "the job", "7", "job/totals/1/3/2", "é"] {
            let rows = rows(job, 12, 1);
            for row in [(0, 0), (12, 5), (u64::MAX, u64::MAX)] {
                assert_eq!(rows.parse(&rows.name(row)), Some(row));
            }
        }
        let rows = rows("job", 12, 1);
        for name in [
            "",
            "job",
            "job/totals",
            "job/totals/1/3",
            "job/totals/1/4/2",
            "job/other/1/3/2",
            "jo/totals/1/3/2",
            "job/totals/1/3/2/1",
            "job/totals/01/3/2",
            "job/totals/+1/3/2",
            "job/totals/1/3/-2",
            "xjob/totals/1/3/2",
        ] {
            assert_eq!(rows.parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        let new = |prefix: &str, job: &str| {
            Rows::new(prefix, Batch { job, sink: "totals", epoch: 1, worker: 0, rows: &[] }).map(|rows| rows.subject)
        };
        assert_eq!(new("out.daily", "job").unwrap(), "out.daily.0");
        for prefix in ["", "a b", "out.*", "out.>", ".out", "out."] {
            assert!(new(prefix, "job").is_err(), "{prefix}");
        }
        for job in ["a\nb", "a\r", " a"] {
            assert!(new("out", job).is_err(), "{job:?}");
        }
    }

    #[test]
    fn rows_go_on_behind_the_last() {
        let next = |published, epoch, count| head(published, None).next(&rows("job", epoch, count)).unwrap();
        assert_eq!(next(None, 5, 3), 0);
        assert_eq!(next(Some((4, 7)), 5, 3), 0);
        assert_eq!(next(Some((5, 0)), 5, 3), 1);
        assert_eq!(next(Some((5, 2)), 5, 3), 3);
        assert_eq!(next(Some((6, 0)), 5, 3), 3);
        // As numbers: 10 is behind 9.
        assert_eq!(next(Some((9, 0)), 10, 3), 0);
        assert!(head(Some((5, 3)), None).next(&rows("job", 5, 3)).is_err());
        assert!(head(Some((5, u64::MAX)), None).next(&rows("job", 5, 3)).is_err());
    }

    #[test]
    fn only_what_is_in_doubt_is_taken_for_ones_own() {
        let batch = rows("job", 5, 3);
        let settled =
            |mut head: Head, last: Option<Last>| head.settle(last, &batch).map(|()| (head.sequence, head.published));
        let doubted = || head(Some((5, 0)), Some((5, 1)));
        assert_eq!(settled(doubted(), last(40, "job/totals/5/3/0")).unwrap(), (40, Some((5, 0))));
        assert_eq!(settled(doubted(), last(44, "job/totals/5/3/1")).unwrap(), (44, Some((5, 1))));
        assert_eq!(settled(doubted(), None).unwrap(), (0, Some((5, 0))));
        for name in ["job/totals/5/3/2", "job/totals/5/3/0", "job/totals/6/3/0", "other/totals/5/3/1", ""] {
            let error = format!("{:?}", settled(doubted(), last(44, name)).unwrap_err());
            assert!(error.contains("another process"), "{error}");
        }
        let error = format!("{:?}", settled(head(Some((5, 0)), None), last(44, "job/totals/5/3/1")).unwrap_err());
        assert!(error.contains("another process"), "{error}");
        let error = format!("{:?}", settled(doubted(), last(39, "job/totals/4/3/9")).unwrap_err());
        assert!(error.contains("lost messages"), "{error}");
    }

    #[test]
    fn filters_match_as_the_broker_does() {
        for (filter, subject) in
            [("out.0", "out.0"), ("out.*", "out.0"), ("out.>", "out.0"), (">", "out.0"), ("*.0", "out.0")]
        {
            assert!(matches(filter, subject), "{filter}");
        }
        for (filter, subject) in
            [("out", "out.0"), ("out.0.*", "out.0"), ("out.0.>", "out.0"), ("*", "out.0"), ("in.*", "out.0")]
        {
            assert!(!matches(filter, subject), "{filter}");
        }
    }
}
