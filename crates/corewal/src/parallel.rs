//! The room of threads: the only place that starts any.

/// Runs `work` on every item and gives the results in the items' order: on a
/// thread each, or one after the other on this thread when `inline` is set, so
/// that a simulation sees one order of steps.
#[expect(clippy::disallowed_methods, reason = "this is the room of threads")]
pub(crate) fn for_each_core<T: Send, R: Send>(
    inline: bool,
    items: Vec<T>,
    work: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    if inline || items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// How many threads this machine runs at once, at least 1.
pub(crate) fn available() -> u16 {
    std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(u16::MAX))
}

/// A thread in the background.
#[derive(Debug)]
pub(crate) struct Background(std::thread::JoinHandle<()>);

/// Starts `work` on a thread of its own, which gives way to what the cores wait
/// for.
pub(crate) fn background(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<Background> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // It works without.
        let _ = corewal_io::give_way();
        work();
    }).map(Background)
}

impl Background {
    /// Waits for its end. A panic of it is passed on, unless there is one
    /// already.
    pub(crate) fn join(self) {
        if let Err(panic) = self.0.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
