#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: a real server, threads, small numbers"
)]
//! NATS JetStream as a source and as a sink, against the real server, which each
//! test starts for itself and kills.
//!
//! | module | what is in it |
//! |---|---|
//! | `server` | the server as a child process, and what an operator would do with it |
//! | `proxy` | a network that fails |
//! | `source` | partitions: order, positions, acknowledgements |
//! | `sink` | rows, each once |
//! | `outage` | both, while the server is killed or the network fails |
//! | `refused` | what is no good: errors, and how long they take |

mod outage;
mod proxy;
mod refused;
mod server;
mod sink;
mod source;
