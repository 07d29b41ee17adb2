//! Rows as messages, each once.

use std::fmt;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::broker::Broker;
use super::connection::on_a_thread;
use super::publisher::{Publisher, Rows};
use crate::sink::{Batch, Sink};
use crate::source::BoxError;

/// Publishes each row as a message to a stream: worker 3 to the subject
/// `<prefix>.3`, in order, and each row once, whatever is stopped and started
/// again on either side.
///
/// Each message says in its header `Nats-Msg-Id` which row it is, as
/// `<job>/<sink>/<epoch>/<worker>/<row>`, and is accepted by the broker only behind
/// the one that this sink knows as the subject's last. So the last message of
/// each subject tells what has been published, and has to stay in the stream:
/// limits may delete the others. Whoever else publishes to one of the subjects
/// makes the sink fail: an older process of the job, say, that should be gone.
///
/// A row has to wait until the one before it is stored, but for a stream that
/// allows atomic batches (`allow_atomic`, from server 2.12 on): there a thousand
/// go together.
pub struct JetStreamSink {
    broker: Broker,
    stream: String,
    prefix: String,
    /// The thread that publishes, from the first batch on.
    publisher: Option<UnboundedSender<Order>>,
}

/// Rows, and who waits for them to be published.
pub(super) type Order = (Rows, SyncSender<Result<(), String>>);

impl JetStreamSink {
    /// A sink to a stream of a broker, which takes messages to the subjects
    /// `<prefix>.<worker>`. Nothing is connected before there is a batch.
    pub fn new(broker: impl Into<Broker>, stream: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { broker: broker.into(), stream: stream.into(), prefix: prefix.into(), publisher: None }
    }

    fn publisher(&mut self) -> Result<&UnboundedSender<Order>, BoxError> {
        if let Some(publisher) = &self.publisher
            && publisher.is_closed()
        {
            self.publisher = None;
        }
        match &mut self.publisher {
            Some(publisher) => Ok(publisher),
            none => {
                let (orders, taken) = unbounded_channel();
                on_a_thread(Publisher::new(self.broker.clone(), self.stream.clone()).run(taken))?;
                Ok(none.insert(orders))
            }
        }
    }
}

impl Sink for JetStreamSink {
    /// # Errors
    /// If the broker can't be reached for as long as [`Broker::patience`] says,
    /// there is no such stream or it does not take the subject, a row is too
    /// long for the broker, or somebody else publishes to the subject.
    fn publish(&mut self, batch: Batch<'_>) -> Result<(), BoxError> {
        let rows = Rows::new(&self.prefix, batch)?;
        if batch.rows.is_empty() {
            return Ok(());
        }
        let (done, published) = sync_channel(1);
        let gone = "the thread that publishes to NATS has ended";
        self.publisher()?.send((rows, done)).map_err(|_| gone)?;
        published.recv().map_err(|_| gone)?.map_err(BoxError::from)
    }
}

impl fmt::Debug for JetStreamSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamSink")
            .field("broker", &self.broker)
            .field("stream", &self.stream)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
