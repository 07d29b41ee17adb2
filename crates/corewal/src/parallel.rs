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
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // It works without.
            let _ = corewal_io::give_way();
            work();
        })
        .map(Background)
}

/// Counts the steps of long work in the background, and after some tens of
/// microseconds of it lets a thread that is ready have the processor.
///
/// A kernel that does not preempt itself looks for such a thread at wakeups, and
/// then not before its next tick, milliseconds later; what ends a durable write
/// may be that thread. (How long commits wait stands in docs/PERFORMANCE.md.)
#[derive(Debug, Default)]
pub(crate) struct Courtesy(u32);

/// Reading, merging or writing a record is so many steps.
pub(crate) const RECORD: u32 = 16;

impl Courtesy {
    /// A step that takes about as long as comparing two keys.
    #[inline]
    pub(crate) fn step(&mut self) {
        self.steps(1);
    }

    /// So many of them.
    #[inline]
    pub(crate) fn steps(&mut self, steps: u32) {
        const TURN: u32 = 2048;
        self.0 += steps;
        if self.0 >= TURN {
            self.0 = 0;
            std::thread::yield_now();
        }
    }
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
