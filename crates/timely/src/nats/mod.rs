//! Sources and sinks on NATS JetStream.
//!
//! [`JetStream`] reads subjects of a stream, each a partition; [`JetStreamSink`]
//! publishes each row as a message, once. Both find the server by a [`Broker`].
//!
//! A worker never waits for the network while it reads: each partition and each
//! sink has a thread, and on it a connection of its own. When the connection is
//! lost, or the server is started again, the thread connects anew and goes on
//! where it was, for as long as [`Broker::patience`] says.
//!
//! A stream has to keep its messages until a limit of its own deletes them
//! (retention `limits`, the default). Where a message goes once it has been
//! consumed, a job could not be started again from an earlier position, and a
//! sink could not tell what it has published.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use corewal_timely::nats::{Broker, JetStream, JetStreamSink};
//!
//! let broker = Broker::new("nats://10.0.0.5:4222").patience(Duration::from_secs(30));
//! let orders = JetStream::new(broker.clone(), "ORDERS").subjects(["orders.eu", "orders.us"]);
//! let totals = JetStreamSink::new(broker, "TOTALS", "totals.daily");
//! # let _ = (orders, totals);
//! ```

mod atomic;
mod broker;
mod connection;
mod place;
mod publisher;
mod reader;
mod sink;
mod source;

pub use broker::Broker;
pub use sink::JetStreamSink;
pub use source::{JetStream, JetStreamPartition, Message};
