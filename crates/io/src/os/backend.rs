//! Which backend a storage writes by, and why not by a better one.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{BlockingIo, FileIo};

/// How [`FileStorage`](crate::FileStorage) hands its writes to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// [`Backend::Uring`] where it can be had, [`Backend::Blocking`] where not;
    /// [`Storage::write_path`](crate::Storage::write_path) says which, and why.
    #[default]
    Auto,
    /// `io_uring(7)`, Linux only. Where the kernel or a container refuses it,
    /// [`Storage::io`](crate::Storage::io) is an error.
    Uring,
    /// Plain system calls, on every platform. A write has completed when its
    /// submission returns, so there is never more than one under way.
    Blocking,
}

/// The choice, and what was found when it was tried. Clones share the finding.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    backend: Backend,
    sqpoll: Option<Duration>,
    #[cfg(target_os = "linux")]
    rings: Vec<super::Ring>,
    found: Arc<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Whether a ring could be had when it was first asked.
    probed: OnceLock<Result<(), String>>,
    /// Why one could not be had later; limits are used up as cores come.
    failed: OnceLock<String>,
}

impl Choice {
    pub(super) fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
        self.found = Arc::default();
    }

    pub(super) fn set_sqpoll(&mut self, idle: Option<Duration>) {
        self.sqpoll = idle;
        self.found = Arc::default();
    }

    #[cfg(target_os = "linux")]
    pub(super) fn set_rings(&mut self, rings: Vec<super::Ring>) {
        self.rings = rings;
        self.found = Arc::default();
    }

    /// The backend's name, and why it is not the better one.
    pub(super) fn name(&self) -> (&'static str, Option<&str>) {
        match self.backend {
            Backend::Blocking => ("blocking", Some("io_uring is switched off")),
            Backend::Auto | Backend::Uring => match self.refusal() {
                None => ("io_uring", None),
                Some(why) => ("blocking", Some(why)),
            },
        }
    }

    fn refusal(&self) -> Option<&str> {
        let probed = self.found.probed.get_or_init(|| self.probe());
        probed.as_ref().err().or(self.found.failed.get()).map(String::as_str)
    }

    /// The write path of a core.
    pub(super) fn io(&self, core: usize) -> io::Result<FileIo> {
        let blocking = FileIo::Blocking(BlockingIo::default());
        if self.backend == Backend::Blocking {
            return Ok(blocking);
        }
        let error = match self.refusal() {
            Some(why) => io::Error::new(io::ErrorKind::Unsupported, why),
            None => match self.uring(core) {
                Ok(io) => return Ok(io),
                Err(error) => error,
            },
        };
        if self.backend == Backend::Uring {
            return Err(error);
        }
        self.found.failed.get_or_init(|| error.to_string());
        Ok(blocking)
    }

    /// A write path of its own, without a thread of the kernel; by plain calls
    /// where no ring can be had.
    pub(super) fn io_beside(&self) -> FileIo {
        #[cfg(target_os = "linux")]
        if self.backend != Backend::Blocking
            && self.refusal().is_none()
            && let Ok(io) = super::uring::UringIo::new(None)
        {
            return FileIo::Uring(io);
        }
        FileIo::Blocking(BlockingIo::default())
    }

    #[cfg(target_os = "linux")]
    fn probe(&self) -> Result<(), String> {
        // Rings that are there already were looked at when they were made.
        if self.rings.is_empty() { super::uring::probe(self.sqpoll) } else { Ok(()) }
    }

    #[cfg(target_os = "linux")]
    fn uring(&self, core: usize) -> io::Result<FileIo> {
        Ok(FileIo::Uring(match self.rings.get(core) {
            Some(ring) => super::UringIo::on(ring.clone()),
            None => super::UringIo::new(self.sqpoll)?,
        }))
    }

    #[cfg(not(target_os = "linux"))]
    fn probe(&self) -> Result<(), String> {
        let _ = self.sqpoll;
        Err("io_uring is of Linux only".to_owned())
    }

    #[cfg(not(target_os = "linux"))]
    fn uring(&self, _core: usize) -> io::Result<FileIo> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
