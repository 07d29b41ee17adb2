//! The thread that reads a subject, and hands over what it reads.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::consumer::pull::{Config, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{ConsumerErrorKind, LastRawMessageErrorKind, RetentionPolicy, State, Stream};
use async_nats::jetstream::{self, ErrorCode};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::broker::Broker;
use super::connection::{Connection, Patience, Trouble, answered, unanswered};
use super::place::Place;
use super::source::Message;

/// What waits for the worker to read it, at most: messages, and their bytes with
/// what each takes besides. (A message longer than all of it still goes.)
const WAITING_MESSAGES: usize = 4096;
const WAITING_BYTES: u32 = 32 << 20;
const MESSAGE_BYTES: usize = 128;

/// What the broker is asked for at a time, at most.
const PULL_MESSAGES: usize = 1000;
const PULL_BYTES: usize = 8 << 20;

/// How long the broker keeps a request for messages, and how often it says
/// meanwhile that it has none.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// After how long the broker forgets a consumer that asks for nothing.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// After how long without a message it is looked whether there really is none.
const IDLE: Duration = Duration::from_secs(5);
/// The same where that tells whether the partition has ended.
const IDLE_UNTIL_END: Duration = Duration::from_secs(1);

/// Longest time for saying goodbye to the broker.
const GOODBYE: Duration = Duration::from_millis(500);

/// What is to be read.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) broker: Broker,
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) until_end: bool,
    pub(super) ack_wait: Duration,
    pub(super) skip_deleted: bool,
}

/// What is handed over.
#[derive(Debug)]
pub(super) enum Given {
    /// A message, how to acknowledge it, and the room it takes until then.
    Message { message: Message, mark: Mark, _room: OwnedSemaphorePermit },
    /// The stream has gone on to this sequence, without a message to read.
    Passed(u64),
    /// There is nothing more, ever.
    End,
    /// It can't be read any further.
    Failed(String),
}

/// How to acknowledge a message, and all before it.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    /// The consumer that was given it: no other can acknowledge it.
    session: u64,
    subject: Subject,
}

/// Reads a subject from a position on, by one consumer after the other: each
/// lasts as long as its connection, and gives nothing twice or in another order.
pub(super) struct Reader {
    wish: Wish,
    /// Where the next consumer goes on: everything up to this sequence has been
    /// handed over, or is not there.
    last: u64,
    /// The last message to give, once it is known that there is one.
    end: Option<u64>,
    given: mpsc::Sender<Given>,
    room: Arc<Semaphore>,
    acknowledged: watch::Receiver<Option<Mark>>,
    /// Of whoever waits for the first consumer.
    opening: Option<SyncSender<Result<(), String>>>,
    session: u64,
}

/// A consumer, and what it was given.
struct Session {
    connection: Connection,
    stream: Stream,
    consumer: String,
    messages: Messages,
    /// Messages given to it, by its own count.
    count: u64,
}

/// What a stream has.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Its last sequence.
    end: u64,
    /// The first message to give, if there is one.
    next: Option<u64>,
}

impl Mark {
    /// By itself: the subject is a part of what was read from the network, and
    /// keeps all of that.
    pub(super) fn alone(self) -> Self {
        Self { subject: Subject::from(self.subject.as_str().to_owned()), ..self }
    }
}

impl Reader {
    /// One that reads behind `position`, and whether it has begun to goes to
    /// `opening`. Gives where the messages come out, too.
    pub(super) fn new(
        wish: Wish,
        position: u64,
        acknowledged: watch::Receiver<Option<Mark>>,
        opening: SyncSender<Result<(), String>>,
    ) -> (Self, mpsc::Receiver<Given>) {
        let (given, taken) = mpsc::channel(WAITING_MESSAGES);
        let room = Arc::new(Semaphore::new(WAITING_BYTES as usize));
        let opening = Some(opening);
        (Self { wish, last: position, end: None, given, room, acknowledged, opening, session: 0 }, taken)
    }

    /// Reads until nobody wants any more, or it can't be done.
    pub(super) async fn run(mut self) {
        let mut patience = Patience::new(self.wish.broker.patience);
        let why = loop {
            let why = match self.session(&mut patience).await {
                Ok(()) => return,
                Err(Trouble::Lasting(why)) => break why,
                Err(Trouble::Passing(why)) => why,
            };
            tokio::select! {
                biased;
                () = self.given.closed() => return,
                waited = patience.wait(why) => if let Err(why) = waited {
                    break why;
                },
            }
        };
        match self.opening.take() {
            Some(opening) => {
                let _ = opening.send(Err(why));
            }
            None => {
                let _ = self.given.send(Given::Failed(why)).await;
            }
        }
    }

    /// Makes a consumer, and hands over what it is given, until it is lost.
    async fn session(&mut self, patience: &mut Patience) -> Result<(), Trouble> {
        let given = self.given.clone();
        let mut session = tokio::select! {
            biased;
            () = given.closed() => return Ok(()),
            begun = self.begin() => begun?,
        };
        if let Some(opening) = self.opening.take() {
            let _ = opening.send(Ok(()));
        }
        let mut ended = self.wish.until_end && self.end.is_none_or(|end| end <= self.last);
        if ended {
            let _ = given.send(Given::End).await;
        }
        let idle = if self.wish.until_end { IDLE_UNTIL_END } else { IDLE };
        let mut idle_at = Instant::now() + idle;
        // What was there when it was last looked, no message having come since.
        let mut looked = None;
        loop {
            tokio::select! {
                biased;
                () = given.closed() => {
                    self.say_goodbye(session).await;
                    return Ok(());
                }
                () = session.connection.lost() => {
                    // What is left to do is to acknowledge, which no other can.
                    if ended {
                        return Ok(());
                    }
                    return Err(Trouble::Passing("the connection to the broker was lost".to_owned()));
                }
                changed = self.acknowledged.changed() => match changed {
                    Ok(()) => self.acknowledge(&session).await?,
                    Err(_) => {
                        self.say_goodbye(session).await;
                        return Ok(());
                    }
                },
                mut message = session.messages.next(), if !ended => {
                    // With those that have come with it, without looking around
                    // for each.
                    for left in (0..PULL_MESSAGES).rev() {
                        ended = self.take(&mut session, message).await?.is_break();
                        if ended || left == 0 {
                            break;
                        }
                        match session.messages.next().now_or_never() {
                            Some(next) => message = next,
                            None => break,
                        }
                    }
                    patience.renew();
                    (idle_at, looked) = (Instant::now() + idle, None);
                }
                () = sleep_until(idle_at), if !ended => {
                    let looks = session.connection.unless_lost(self.look(&session.stream)).await?;
                    if let Some(before) = looked.replace(looks) {
                        self.compare(before, looks).await?;
                    }
                    if looks.next.is_none() && self.wish.until_end {
                        ended = true;
                        let _ = given.send(Given::End).await;
                    }
                    patience.renew();
                    idle_at = Instant::now() + idle;
                }
            }
        }
    }

    /// Connects, and makes a consumer of what is still to be read.
    async fn begin(&mut self) -> Result<Session, Trouble> {
        let connection = Connection::open(&self.wish.broker).await?;
        let (stream, consumer, messages) = connection.unless_lost(self.consume(&connection)).await?;
        self.session += 1;
        Ok(Session { connection, stream, consumer, messages, count: 0 })
    }

    async fn consume(&mut self, connection: &Connection) -> Result<(Stream, String, Messages), Trouble> {
        let name = self.wish.stream.clone();
        let stream = find_stream(connection, &self.wish.broker, &name).await?;
        if stream.cached_info().config.retention != RetentionPolicy::Limits {
            return Err(Trouble::Lasting(format!(
                "stream {name} deletes what has been consumed, so that a job could not be started again: \
                 it has to have the retention `limits`"
            )));
        }
        check(&name, &stream.cached_info().state, self.last, self.wish.skip_deleted)?;
        if self.wish.until_end && self.opening.is_some() {
            let last = stream.raw_message_builder().last_by_subject(&self.wish.subject);
            self.end = found(&name, last.send().await)?;
        }
        let doing = || format!("stream {name} can't be read");
        let config = Config {
            description: Some(format!("corewal-timely: {}", self.wish.subject)),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.last + 1 },
            ack_policy: AckPolicy::All,
            ack_wait: self.wish.ack_wait,
            // An epoch may have any number of messages, and none is
            // acknowledged before it is complete.
            max_ack_pending: -1,
            filter_subject: self.wish.subject.clone(),
            inactive_threshold: FORGOTTEN,
            // It does not outlive its server, which is told by its silence.
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let consumer: Consumer<Config> = stream.create_consumer(config).await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(error) => answered(&doing(), &error),
            _ => Trouble::Passing(format!("{}: {error}", doing())),
        })?;
        let limit = usize::try_from(consumer.cached_info().config.max_batch).unwrap_or(0);
        let messages = consumer
            .stream()
            .max_messages_per_batch(if limit == 0 { PULL_MESSAGES } else { PULL_MESSAGES.min(limit) })
            // One message always has to go through.
            .max_bytes_per_batch(PULL_BYTES.max(2 * connection.context().client().max_payload()))
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|error| Trouble::Passing(format!("{}: {error}", doing())))?;
        let consumer = consumer.cached_info().name.clone();
        Ok((stream, consumer, messages))
    }

    /// Hands a message over, if it is one to be given; breaks behind the last.
    async fn take(
        &mut self,
        session: &mut Session,
        message: Option<Result<jetstream::Message, impl std::fmt::Display>>,
    ) -> Result<ControlFlow<()>, Trouble> {
        let message = match message {
            Some(Ok(message)) => message.message,
            Some(Err(error)) => return Err(Trouble::Passing(format!("the broker gives no messages: {error}"))),
            None => return Err(Trouble::Passing("the broker gives no more messages".to_owned())),
        };
        let Some((subject, place)) = message.reply.and_then(|reply| Some((reply.clone(), Place::parse(&reply)?)))
        else {
            return Err(Trouble::Passing("the broker gave a message of no stream".to_owned()));
        };
        session.count += 1;
        if place.consumer != session.count {
            return Err(Trouble::Passing("a message was lost on the way from the broker".to_owned()));
        }
        if place.stream <= self.last {
            // It was not acknowledged in time, and has come again.
            return Ok(ControlFlow::Continue(()));
        }
        let is_last = self.end.is_some_and(|end| place.stream >= end);
        if self.end.is_none_or(|end| place.stream <= end) {
            let bytes = message.payload.len() + message.subject.len() + MESSAGE_BYTES;
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(WAITING_BYTES);
            let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes).await else {
                return Err(Trouble::Lasting("there is no room any more".to_owned()));
            };
            self.last = place.stream;
            let mark = Mark { sequence: place.stream, session: self.session, subject };
            let message = Message {
                subject: message.subject.to_string(),
                payload: message.payload.to_vec(),
                sequence: place.stream,
                time: place.time,
            };
            // If nobody takes it, that is seen next.
            let _ = self.given.send(Given::Message { message, mark, _room: room }).await;
        }
        if !is_last {
            return Ok(ControlFlow::Continue(()));
        }
        let _ = self.given.send(Given::End).await;
        Ok(ControlFlow::Break(()))
    }

    /// Looks what the stream has that was not given yet.
    async fn look(&self, stream: &Stream) -> Result<Look, Trouble> {
        let name = &self.wish.stream;
        let info =
            stream.get_info().await.map_err(|error| unanswered(&format!("stream {name} can't be seen"), &error))?;
        let next = stream.raw_message_builder().sequence(self.last + 1).next_by_subject(&self.wish.subject);
        Ok(Look { end: info.state.last_sequence, next: found(name, next.send().await)? })
    }

    /// Two looks with some time between, in which no message has come: so all
    /// messages of others that were there at the first are passed. (Else the
    /// stream might go on without the position, and delete what is behind it.)
    async fn compare(&mut self, before: Look, now: Look) -> Result<(), Trouble> {
        if now.next.is_some() && now.next == before.next {
            // A new consumer finds it.
            return Err(Trouble::Passing("the broker does not give messages that it has".to_owned()));
        }
        if before.end > self.last && now.next.is_none_or(|next| next > before.end) {
            self.last = before.end;
            let _ = self.given.send(Given::Passed(before.end)).await;
        }
        Ok(())
    }

    /// Acknowledges what is complete, if this consumer was given it.
    async fn acknowledge(&mut self, session: &Session) -> Result<(), Trouble> {
        let mark = self.acknowledged.borrow_and_update().clone();
        let Some(mark) = mark.filter(|mark| mark.session == self.session) else { return Ok(()) };
        let acknowledged = session.connection.context().client().publish(mark.subject, "+ACK".into()).await;
        acknowledged.map_err(|error| Trouble::Passing(format!("messages can't be acknowledged: {error}")))
    }

    /// Acknowledges what is left to be, and has the broker forget the consumer.
    async fn say_goodbye(&mut self, session: Session) {
        let goodbye = async {
            let _ = self.acknowledge(&session).await;
            let _ = session.stream.delete_consumer(&session.consumer).await;
        };
        // The broker forgets it anyway.
        let _ = timeout(GOODBYE, session.connection.unless_lost(goodbye.map(Ok))).await;
    }
}

/// Finds a stream by name.
pub(super) async fn find_stream(connection: &Connection, broker: &Broker, name: &str) -> Result<Stream, Trouble> {
    connection.context().get_stream(name).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Trouble::Lasting(format!("there is no stream {name} at {broker}"))
        }
        GetStreamErrorKind::JetStream(error) => answered(&format!("stream {name} can't be opened"), &error),
        GetStreamErrorKind::Request => Trouble::Passing(format!("stream {name} can't be opened: {error}")),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
            Trouble::Lasting(format!("`{name}` is not the name of a stream"))
        }
    })
}

/// Whether a stream is still the one that was read up to a position.
fn check(name: &str, state: &State, position: u64, skip_deleted: bool) -> Result<(), Trouble> {
    let (first, last) = (state.first_sequence, state.last_sequence);
    if last < position {
        return Err(Trouble::Lasting(format!(
            "stream {name} ends at sequence {last}, before {position} where the job goes on: \
             it is not the one that was read"
        )));
    }
    if position > 0 && first > position + 1 && !skip_deleted {
        return Err(Trouble::Lasting(format!(
            "stream {name} begins at sequence {first}, behind {position} where the job goes on: \
             messages may have been deleted before they were read; if that may be, have the source skip them"
        )));
    }
    Ok(())
}

/// The sequence of a message that was looked for, if there is one.
fn found(
    name: &str,
    answer: Result<jetstream::message::StreamMessage, jetstream::stream::RawMessageError>,
) -> Result<Option<u64>, Trouble> {
    let doing = || format!("stream {name} can't be looked into");
    match answer {
        Ok(message) => Ok(Some(message.sequence)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(error) => Err(answered(&doing(), &error)),
            _ => Err(Trouble::Passing(format!("{}: {error}", doing()))),
        },
    }
}
