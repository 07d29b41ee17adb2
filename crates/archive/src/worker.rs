//! The thread in which everything asynchronous happens.

use std::future::Future;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use crate::error::{Error, Result};

type Job = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// A thread with a runtime of its own, for all calls of an archive and its
/// owners. Callers block until their job is done; several may wait at once,
/// and may themselves run on any runtime or none.
///
/// One thread for all, since connections that are kept belong to the runtime
/// they were made on.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start() -> Result<Self> {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|_| Error::Stopped)?;
        let work = move || {
            LocalSet::new().block_on(&runtime, async {
                while let Some(job) = queue.recv().await {
                    spawn_local(job());
                }
            });
            // A call of the system that hangs must not hold up the caller.
            runtime.shutdown_background();
        };
        let thread =
            thread::Builder::new().name("corewal-archive".to_owned()).spawn(work).map_err(|_| Error::Stopped)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a job and waits for it.
    pub(crate) fn run<T, F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let (answer, result) = std_mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            async move {
                // The caller waits; if it is gone all the same, nobody asks.
                let _ = answer.send(job().await);
            }
            .boxed_local()
        });
        let jobs = self.jobs.as_ref().ok_or(Error::Stopped)?;
        jobs.send(job).map_err(|_| Error::Stopped)?;
        result.recv().map_err(|_| Error::Stopped)?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without senders the thread ends; no job is under way, since callers
        // wait for theirs.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
