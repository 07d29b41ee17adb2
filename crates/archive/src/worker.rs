//! The thread in which everything asynchronous happens.

use std::future::Future;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// A thread with a runtime of its own. Callers block until their job is done;
/// they may themselves run on any runtime or none.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start() -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|_| Error::Stopped)?;
        let work = move || {
            for job in queue {
                job(&runtime);
            }
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
        F: Future<Output = Result<T>>,
    {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |runtime| {
            // The caller waits; if it is gone all the same, nobody asks.
            let _ = answer.send(runtime.block_on(job()));
        });
        let jobs = self.jobs.as_ref().ok_or(Error::Stopped)?;
        jobs.send(job).map_err(|_| Error::Stopped)?;
        result.recv().map_err(|_| Error::Stopped)?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without senders the thread ends after its last job; there is none
        // under way, since callers wait for theirs.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
