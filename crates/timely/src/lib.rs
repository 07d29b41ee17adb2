//! Fault tolerance for [Timely Dataflow](timely): keyed state that survives,
//! sources that go on where they have to, and output that appears exactly once.
//!
//! A worker owns a shard of a [corewal] store. Changes of state are
//! logged there as they are made, in epochs, which are Timely's times. An epoch
//! is *complete* when it is durable on all workers of all processes and that is
//! recorded. After a failure all processes are started again and go on behind
//! the newest complete epoch: state, positions of sources and watermarks are
//! those of its end, and its output is published, once. A start with another
//! number of processes or workers spreads the state anew.
//!
//! ```
//! use corewal_timely::{DurableSink as _, DurableSource as _, DurableStateMachine as _, Files, Job, Lines, execute};
//! use timely::dataflow::operators::vec::Map as _;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (state, output) = (dir.path().join("state"), dir.path().join("output"));
//! # let input = dir.path().join("words");
//! # std::fs::write(&input, "to be or not to be\n")?;
//! let lines = Lines::new([input])?;
//! execute(Job::new(state, "words"), timely::Config::process(2), move |worker, durable| {
//!     worker.dataflow::<u64, _, _>(|scope| {
//!         scope
//!             .durable_source(durable, "lines", &lines)
//!             .flat_map(|line| line.text.split(' ').map(|word| (word.to_owned(), 1)).collect::<Vec<_>>())
//!             .durable_state_machine(durable, "counts", |word, more, count: &mut u64| {
//!                 *count += more;
//!                 (false, Some(format!("{word} {count}").into_bytes()))
//!             })
//!             .durable_sink(durable, "out", Files::new(&output));
//!     });
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/TIMELY.md` in the repository leads from one process to several
//! machines, and says what is guaranteed when, and what it costs.
//!
//! | module | what is in it |
//! |---|---|
//! | `job`, `connect`, `wire`, `record`, `shelf` | starting: the processes, and what is complete |
//! | `places`, `survey`, `spread` | where the state is, who has which part of it, and bringing it to others |
//! | `ledger`, `watch` | epochs of a worker; from durable here to complete everywhere |
//! | `state`, `events`, `output` | operators: keyed state, sources, sinks |
//! | `scribe`, `staging` | the thread that stages and publishes, and the files in which output waits |
//! | `source`, `sink` | what a source and a sink have to be |
//! | `lines`, `files`, `nats` | files and NATS JetStream as such |

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "outside the simulated engine: files, threads, the clock")]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "small numbers"))]

mod connect;
mod durable;
mod durable_dir;
mod error;
mod events;
mod files;
mod job;
mod ledger;
mod lines;
#[cfg(feature = "nats")]
pub mod nats;
mod output;
mod places;
mod record;
mod scribe;
mod shelf;
mod sink;
mod source;
mod spread;
mod staging;
mod state;
mod survey;
mod watch;
mod wire;

pub use durable::{Durable, StopHandle};
pub use error::{Error, Result};
pub use events::{DurableSource, Events, Watermarks};
pub use files::Files;
pub use job::{Finished, Job, execute, stores_of};
pub use lines::{Line, Lines};
pub use output::DurableSink;
pub use sink::{Batch, Sink};
pub use source::{BoxError, Partition, Read, Source};
pub use state::{DurableState, DurableStateMachine, DurableWindowMachine, Keys, Slot, Stored, Take, Window};
