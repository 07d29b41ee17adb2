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
//! | `cluster`, `killed` | a job on both, of processes that are killed, as the broker is |
//! | `refused` | what is no good: errors, and how long they take |

#[allow(dead_code, reason = "the kills without a broker use more of it")]
#[path = "../cluster/mod.rs"]
mod cluster;
mod killed;
mod outage;
mod proxy;
mod refused;
mod server;
mod sink;
mod source;

/// What the processes of the job in `killed` run: this program again.
#[test]
fn process() {
    cluster::process_if_told();
}
