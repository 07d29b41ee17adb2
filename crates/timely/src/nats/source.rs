//! Subjects of a stream as partitions.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};

use super::broker::Broker;
use super::connection::on_a_thread;
use super::reader::{Given, Mark, Reader, Wish};
use crate::source::{BoxError, Partition, Read, Source};

/// How long the broker waits for an acknowledgement unless told.
const ACK_WAIT: Duration = Duration::from_secs(600);

/// Longest wait of a drop for the thread.
const LONGEST_DROP: Duration = Duration::from_secs(1);

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The subject it was published to.
    pub subject: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// Its sequence in the stream, from 1 on.
    pub sequence: u64,
    /// When the broker stored it, in milliseconds since the Unix epoch.
    pub time: i64,
}

/// A stream as a source: each of the subjects named is a partition, whose
/// positions are sequences of the stream.
///
/// Messages come in the order of the stream, none left out that it still has,
/// and none twice. They are acknowledged to the broker once their epoch is
/// complete, which shows it how far the job is; what it keeps is up to the
/// stream's own limits. So these have to leave enough time: a job that is started
/// again refuses a stream that begins behind its position, since messages may be
/// gone that it has not read, and one that ends before it, since that is not the
/// stream it has read. (A stream that keeps only some messages of each subject,
/// or of which messages are deleted one by one, is read without those.)
#[derive(Clone, Debug)]
pub struct JetStream {
    broker: Broker,
    stream: String,
    subjects: Vec<String>,
    until_end: bool,
    ack_wait: Duration,
    skip_deleted: bool,
}

impl JetStream {
    /// A stream of a broker, by name. It has no partitions yet, and nothing is
    /// connected.
    pub fn new(broker: impl Into<Broker>, stream: impl Into<String>) -> Self {
        let (broker, stream) = (broker.into(), stream.into());
        Self { broker, stream, subjects: Vec::new(), until_end: false, ack_wait: ACK_WAIT, skip_deleted: false }
    }

    /// The subjects to read, each a partition. They may have wildcards; those
    /// that two of them match are read twice.
    #[must_use]
    pub fn subjects<S: Into<String>>(mut self, subjects: impl IntoIterator<Item = S>) -> Self {
        self.subjects = subjects.into_iter().map(Into::into).collect();
        self
    }

    /// Whether a partition ends with the last message that the subject has when
    /// the partition is opened; else it waits for more, which is so unless told.
    #[must_use]
    pub fn until_end(mut self, until_end: bool) -> Self {
        self.until_end = until_end;
        self
    }

    /// After how long without an acknowledgement the broker gives messages
    /// again: ten minutes unless told. They are dropped then, but it costs the
    /// way; it should be longer than an epoch takes to be complete.
    #[must_use]
    pub fn ack_wait(mut self, ack_wait: Duration) -> Self {
        self.ack_wait = ack_wait;
        self
    }

    /// Whether to go on with what the stream has where it begins behind the
    /// position that the job has reached. Otherwise that is refused, since the
    /// stream's limits may have deleted messages before they were read. It cannot
    /// be told from messages of other subjects alone having been deleted, while
    /// this one was quiet for the last seconds of a run.
    #[must_use]
    pub fn skip_deleted(mut self, skip_deleted: bool) -> Self {
        self.skip_deleted = skip_deleted;
        self
    }
}

impl Source for JetStream {
    type Item = Message;
    type Partition = JetStreamPartition;

    /// # Errors
    /// If there are none, one is no subject, or there twice.
    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        if self.subjects.is_empty() {
            return Err(format!("no subjects of stream {} are named", self.stream).into());
        }
        for (at, subject) in self.subjects.iter().enumerate() {
            if async_nats::Subject::validated(subject).is_err() {
                return Err(format!("`{subject}` is not a subject").into());
            }
            if self.subjects[..at].contains(subject) {
                return Err(format!("the subject {subject} is named twice").into());
            }
        }
        Ok(self.subjects.clone())
    }

    /// Connects, and waits until the broker is ready to give messages.
    ///
    /// # Errors
    /// If the broker can't be reached for as long as [`Broker::patience`] says,
    /// there is no such stream, it ends before `position` or begins behind it
    /// (unless [`JetStream::skip_deleted`]), or it does not keep what is consumed.
    fn open(&self, partition: &str, position: u64) -> Result<JetStreamPartition, BoxError> {
        if !self.partitions()?.iter().any(|subject| subject == partition) {
            return Err(format!("{partition} is not one of the subjects that are read").into());
        }
        let wish = Wish {
            broker: self.broker.clone(),
            stream: self.stream.clone(),
            subject: partition.to_owned(),
            until_end: self.until_end,
            ack_wait: self.ack_wait,
            skip_deleted: self.skip_deleted,
        };
        let (opening, opened) = sync_channel(1);
        let (acknowledge, acknowledged) = watch::channel(None);
        let (reader, given) = Reader::new(wish, position, acknowledged, opening);
        let (running, gone) = sync_channel(1);
        on_a_thread(async move {
            reader.run().await;
            drop(running);
        })?;
        match opened.recv() {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(why.into()),
            Err(_) => return Err("the thread that reads from NATS has ended".into()),
        }
        let marks = VecDeque::new();
        Ok(JetStreamPartition { given, acknowledge, gone, marks, position, state: State::Reading })
    }
}

/// A subject that is being read. Dropping it ends its thread, which may take a
/// second where the broker does not answer.
#[derive(Debug)]
pub struct JetStreamPartition {
    given: mpsc::Receiver<Given>,
    acknowledge: watch::Sender<Option<Mark>>,
    /// Of a thread that has ended.
    gone: Receiver<()>,
    /// What can be acknowledged, for the last message of each call that read any.
    marks: VecDeque<Mark>,
    position: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading,
    Ended,
    Failed(String),
}

impl Partition for JetStreamPartition {
    type Item = Message;

    /// # Errors
    /// If the stream is gone, or is not the one it was; or the broker could not
    /// be reached again for as long as [`Broker::patience`] says.
    fn read(&mut self, most: usize, into: &mut Vec<Message>) -> Result<Read, BoxError> {
        let mut mark = None;
        let mut read = Read::More;
        let before = into.len();
        while into.len() - before < most && matches!(self.state, State::Reading) {
            match self.given.try_recv() {
                Ok(Given::Message { message, mark: its, .. }) => {
                    self.position = message.sequence;
                    mark = Some(its);
                    into.push(message);
                }
                Ok(Given::Passed(sequence)) => self.position = self.position.max(sequence),
                Ok(Given::End) => self.state = State::Ended,
                Ok(Given::Failed(why)) => self.state = State::Failed(why),
                Err(TryRecvError::Empty) => {
                    read = Read::Waiting;
                    break;
                }
                Err(TryRecvError::Disconnected) => {
                    self.state = State::Failed("the thread that reads from NATS has ended".to_owned());
                }
            }
        }
        self.marks.extend(mark.map(Mark::alone));
        match &self.state {
            // What was read before it failed is given first.
            State::Failed(why) if into.len() == before => Err(why.clone().into()),
            State::Ended => Ok(Read::End),
            _ => Ok(read),
        }
    }

    fn position(&self) -> u64 {
        self.position
    }

    /// Acknowledges all messages up to `position`. That is done in the
    /// background: it is lost where the broker can't be reached, and made up for
    /// by a later one.
    fn complete(&mut self, position: u64) -> Result<(), BoxError> {
        let mut newest = None;
        while self.marks.front().is_some_and(|mark| mark.sequence <= position) {
            newest = self.marks.pop_front();
        }
        if newest.is_some() {
            self.acknowledge.send_replace(newest);
        }
        Ok(())
    }
}

impl Drop for JetStreamPartition {
    fn drop(&mut self) {
        self.given.close();
        // It may be waiting for room that these take.
        while self.given.try_recv().is_ok() {}
        let _ = self.gone.recv_timeout(LONGEST_DROP);
    }
}
