//! A sink's thread: it stages what the worker hands over, and publishes it when
//! it is told that it is complete.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::durable::{Durable, Stop};
use crate::error::{Error, Result};
use crate::sink::{Batch, Sink};
use crate::staging::{Stage, read};

/// Orders that wait at most, two for each epoch that has rows: from then on the
/// worker waits for the sink, lest rows pile up.
const ORDERS: usize = 16;

/// What a sink does for one worker.
pub(crate) struct Output<S> {
    job: String,
    name: String,
    worker: usize,
    stage: Stage,
    /// By epoch: the file, and what is in it.
    staged: BTreeMap<u64, (PathBuf, Vec<Vec<u8>>)>,
    sink: S,
}

impl<S: Sink> Output<S> {
    pub(crate) fn new(durable: &Durable, name: &str, sink: S) -> Result<Self> {
        let worker = durable.index();
        let stage = Stage::new(&durable.staging().own(), name, worker)?;
        let (job, name) = (durable.job().to_owned(), name.to_owned());
        Ok(Self { job, name, worker, stage, staged: BTreeMap::new(), sink })
    }

    /// Publishes what earlier starts staged and did not come to.
    pub(crate) fn publish_rest(&mut self, durable: &Durable) -> Result<()> {
        for rest in durable.staging().rest(&self.name, durable.recovered(), self.worker)? {
            self.give(rest.epoch, rest.worker, &rest.path, &read(&rest.path)?)?;
        }
        Ok(())
    }

    fn stage(&mut self, epoch: u64, rows: Vec<Vec<u8>>) -> Result<()> {
        let path = self.stage.add(epoch, &rows)?;
        self.staged.insert(epoch, (path, rows));
        Ok(())
    }

    /// Publishes the oldest of what is staged, if it is complete; gives its epoch.
    fn publish_next(&mut self, complete: u64) -> Result<Option<u64>> {
        let Some(staged) = self.staged.first_entry().filter(|staged| *staged.key() <= complete) else {
            return Ok(None);
        };
        let (epoch, (path, rows)) = staged.remove_entry();
        self.give(epoch, self.worker, &path, &rows)?;
        Ok(Some(epoch))
    }

    fn give(&mut self, epoch: u64, worker: usize, path: &Path, rows: &[Vec<u8>]) -> Result<()> {
        let batch = Batch { job: &self.job, sink: &self.name, epoch, worker, rows };
        let published = self.sink.publish(batch);
        published.map_err(|source| Error::Sink { name: self.name.clone(), epoch, source })?;
        // If it stays, it is published again, which says the same.
        fs::remove_file(path).map_err(Error::io("remove", path))
    }
}

enum Order {
    /// Rows of an epoch.
    Stage(u64, Vec<Vec<u8>>),
    /// What is complete.
    Publish(u64),
}

/// The newest epochs that are staged and published.
#[derive(Debug, Default)]
struct Progress {
    staged: AtomicU64,
    published: AtomicU64,
}

/// Epochs whose rows a worker has handed over, oldest first, as long as they are
/// not known to be published.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    epochs: RefCell<VecDeque<u64>>,
    progress: Arc<Progress>,
}

impl Handed {
    /// Whether all that was handed over of epochs up to this one is staged, durably.
    pub(crate) fn is_staged(&self, epoch: u64) -> bool {
        let staged = self.progress.staged.load(Ordering::Acquire);
        let epochs = self.epochs.borrow();
        epochs.get(epochs.partition_point(|&handed| handed <= staged)).is_none_or(|&waits| waits > epoch)
    }

    fn add(&self, epoch: u64) {
        let mut epochs = self.epochs.borrow_mut();
        debug_assert!(epochs.back().is_none_or(|&last| last < epoch), "epochs come in order");
        epochs.push_back(epoch);
    }

    /// Forgets what is published; gives the oldest that is not.
    fn oldest(&self) -> Option<u64> {
        let published = self.progress.published.load(Ordering::Acquire);
        let mut epochs = self.epochs.borrow_mut();
        while epochs.pop_front_if(|epoch| *epoch <= published).is_some() {}
        epochs.front().copied()
    }
}

/// The thread, as its worker sees it. Dropping it waits until what it is about is
/// done; what it has not begun stays staged.
pub(crate) struct Scribe {
    handed: Rc<Handed>,
    /// What it was told to be complete.
    told: u64,
    /// Until it is dropped, or the thread has ended.
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Scribe {
    pub(crate) fn start<S: Sink + Send + 'static>(output: Output<S>, stop: Arc<Stop>) -> Result<Self> {
        let (orders, taken) = sync_channel(ORDERS);
        let handed = Handed::default();
        let progress = Arc::clone(&handed.progress);
        let dir = output.stage.dir().to_owned();
        let thread = std::thread::Builder::new()
            .name(format!("sink-{}", output.name))
            .spawn(move || {
                if let Err(error) = write(output, &taken, &progress, &stop) {
                    stop.stop(error);
                }
            })
            .map_err(Error::io("start a thread for", &dir))?;
        Ok(Self { handed: Rc::new(handed), told: 0, orders: Some(orders), thread: Some(thread) })
    }

    /// What it was handed.
    pub(crate) fn handed(&self) -> Rc<Handed> {
        Rc::clone(&self.handed)
    }

    /// Hands the rows of an epoch over, which is later than all before. Waits where
    /// the thread is far behind.
    pub(crate) fn stage(&mut self, epoch: u64, rows: Vec<Vec<u8>>) -> Result<()> {
        self.handed.add(epoch);
        self.order(Order::Stage(epoch, rows))
    }

    /// Has published what is complete.
    pub(crate) fn publish(&mut self, complete: u64) -> Result<()> {
        match self.handed.oldest() {
            Some(oldest) if oldest <= complete && self.told < complete => {
                self.told = complete;
                self.order(Order::Publish(complete))
            }
            // Whatever became of the thread, nothing is left to do.
            None => Ok(()),
            Some(_) => self.look(),
        }
    }

    /// Whether something that was handed over is not published.
    pub(crate) fn is_busy(&self) -> bool {
        self.handed.oldest().is_some()
    }

    fn order(&mut self, order: Order) -> Result<()> {
        match self.orders.as_ref().map(|orders| orders.send(order)) {
            Some(Ok(())) => Ok(()),
            _ => self.ended(),
        }
    }

    /// Makes sure that the thread is there.
    fn look(&mut self) -> Result<()> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) { Ok(()) } else { self.ended() }
    }

    /// The thread has ended: it has said why the job stops, unless it panicked.
    fn ended(&mut self) -> Result<()> {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
        Ok(())
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has stopped the job, or came when nothing was left.
            let _ = thread.join();
        }
    }
}

/// Does what is ordered, in that order, until no more orders can come or the job has
/// stopped.
fn write<S: Sink>(mut output: Output<S>, orders: &Receiver<Order>, progress: &Progress, stop: &Stop) -> Result<()> {
    for order in orders {
        if stop.is_stopped() {
            break;
        }
        match order {
            Order::Stage(epoch, rows) => {
                output.stage(epoch, rows)?;
                progress.staged.store(epoch, Ordering::Release);
            }
            Order::Publish(complete) => {
                while !stop.is_stopped()
                    && let Some(epoch) = output.publish_next(complete)?
                {
                    progress.published.store(epoch, Ordering::Release);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_staged_when_all_that_was_handed_over_up_to_it_is() {
        let handed = Handed::default();
        assert!(handed.is_staged(7), "nothing was handed over");
        [3, 5, 9].into_iter().for_each(|epoch| handed.add(epoch));
        // What is staged, and of epochs 2 to 10 those that are then.
        for (staged, until) in [(0, 2), (3, 4), (5, 8), (9, 10)] {
            handed.progress.staged.store(staged, Ordering::Release);
            let are = (2..=10).filter(|&epoch| handed.is_staged(epoch)).max();
            assert_eq!(are, Some(until), "{staged}");
            assert!((2..=until).all(|epoch| handed.is_staged(epoch)));
            assert_eq!(handed.oldest(), Some(3), "it is not published");
        }
        handed.progress.published.store(5, Ordering::Release);
        assert_eq!(handed.oldest(), Some(9));
        assert!(handed.is_staged(9));
        handed.progress.published.store(9, Ordering::Release);
        assert_eq!(handed.oldest(), None);
    }
}
