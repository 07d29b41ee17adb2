//! Where output goes once the epoch that made it is complete.

use crate::source::BoxError;

/// The rows that one worker made in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The sink's name in the job.
    pub sink: &'a str,
    /// The epoch. Those of one worker come in ascending order, each once, or
    /// again after a failure.
    pub epoch: u64,
    /// The worker, from 0 on.
    pub worker: usize,
    /// The rows, in order.
    pub rows: &'a [Vec<u8>],
}

/// Makes the output of complete epochs visible. Each worker has one of its own,
/// on a thread of its own: while it waits for its destination the worker goes on,
/// until eight epochs or so wait for it.
///
/// An epoch is given again if the job was stopped before it knew that the first
/// try had succeeded: with the same rows, epoch and worker, before any later one
/// of that worker. So a sink has to be able to tell that it has published a
/// batch already; then the outside sees each row exactly once.
pub trait Sink {
    /// Publishes a batch, and returns when it is durable at its destination.
    ///
    /// # Errors
    /// If it can't; the job stops, and publishes it when it is started again.
    fn publish(&mut self, batch: Batch<'_>) -> Result<(), BoxError>;
}
