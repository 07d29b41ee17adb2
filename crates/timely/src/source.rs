//! Where records come from: partitions that are read from a position on.

use std::error::Error as StdError;

/// What a source or a sink of one's own says when it fails.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What reading from a partition came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// There may be more at once.
    More,
    /// Nothing more at the moment.
    Waiting,
    /// Nothing more, ever.
    End,
}

/// A source: a fixed list of partitions, each an ordered sequence of records
/// that can be read again from any position that was once complete.
pub trait Source {
    /// A record.
    type Item: 'static;
    /// A partition that is being read.
    type Partition: Partition<Item = Self::Item> + 'static;

    /// The names of the partitions, always the same ones in the same order: a
    /// job that finds others refuses to go on.
    ///
    /// # Errors
    /// Whatever keeps it from knowing them.
    fn partitions(&self) -> Result<Vec<String>, BoxError>;

    /// Opens a partition to be read from `position` on: 0 at first, later one
    /// that [`Partition::position`] gave.
    ///
    /// # Errors
    /// If it can't be opened, or ends before `position`: it is not the partition
    /// it was then.
    fn open(&self, partition: &str, position: u64) -> Result<Self::Partition, BoxError>;
}

/// A partition, read by one worker.
pub trait Partition {
    /// A record.
    type Item;

    /// Adds at most `most` records to `into`, without waiting for any.
    ///
    /// # Errors
    /// If it can't be read; the job stops and can be started again.
    fn read(&mut self, most: usize, into: &mut Vec<Self::Item>) -> Result<Read, BoxError>;

    /// The position behind the last record that was read: a number that never
    /// falls.
    fn position(&self) -> u64;

    /// Everything before `position` is in a complete epoch: it will not be read
    /// again, whatever happens. To acknowledge it to a broker, say.
    ///
    /// # Errors
    /// If that can't be told; the job stops and can be started again.
    fn complete(&mut self, position: u64) -> Result<(), BoxError> {
        let _ = position;
        Ok(())
    }
}
