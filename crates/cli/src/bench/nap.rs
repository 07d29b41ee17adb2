//! Sleeping while there is nothing to do, as a reactor does.

use std::time::Instant;

use corewal::Writer;

/// Wakes a thread when its log has something to take in, or it has something
/// to do.
#[derive(Debug)]
pub(super) struct Nap {
    #[cfg(unix)]
    completions: Option<std::fs::File>,
}

impl Nap {
    /// For the owner of a log. Where the log has no descriptor to sleep on,
    /// nothing ever completes while its owner sleeps.
    #[cfg_attr(not(unix), expect(clippy::unnecessary_wraps, reason = "as on Unix"))]
    pub(super) fn new(writer: &mut Writer) -> corewal::Result<Self> {
        #[cfg(unix)]
        let nap = Self { completions: writer.event_fd()?.map(std::fs::File::from) };
        #[cfg(not(unix))]
        let (nap, _) = (Self {}, writer);
        Ok(nap)
    }

    /// Sleeps until `due`, or less.
    #[cfg(unix)]
    pub(super) fn until(&mut self, due: Instant) {
        use std::io::Read as _;

        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let Ok(left) = Timespec::try_from(due.saturating_duration_since(Instant::now())) else { return };
        let mut ready: Vec<_> = self.completions.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        // An interruption ends a nap too.
        if poll(&mut ready, Some(&left)).is_ok_and(|ready| ready > 0)
            && let Some(completions) = &mut self.completions
        {
            let _ = completions.read(&mut [0; 8]);
        }
    }

    /// Sleeps until `due`.
    #[cfg(not(unix))]
    pub(super) fn until(&mut self, due: Instant) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
