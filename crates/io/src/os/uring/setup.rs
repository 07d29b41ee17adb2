//! Making a ring, and finding out whether one can be had.

use std::io;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};

/// Sets a ring up. `sqpoll` is how long its kernel thread goes on looking for
/// work before it sleeps.
pub(super) fn ring(entries: u32, sqpoll: Option<Duration>) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // A child process has no use for the rings, and no harm from them.
    builder.dontfork();
    match sqpoll {
        Some(idle) => {
            builder.setup_sqpoll(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
        }
        // Completions need not interrupt the thread: it looks when it polls.
        // Not SINGLE_ISSUER, nor DEFER_TASKRUN that needs it: a write path is
        // made on one thread and may go to another.
        None => {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
    }
    match builder.build(entries) {
        // Kernels before 5.19 do not know these flags.
        Err(error) if sqpoll.is_none() && error.kind() == io::ErrorKind::InvalidInput => {
            IoUring::builder().dontfork().build(entries)
        }
        made => made,
    }
}

/// Whether a ring can be had that writes and syncs. The error is the reason.
pub(crate) fn probe(sqpoll: Option<Duration>) -> Result<(), String> {
    let checked = ring(8, sqpoll).and_then(|ring| check(&ring));
    checked.map_err(|error| refused(&error).to_string())
}

/// Refuses a ring that is of no use here.
pub(super) fn check(ring: &IoUring) -> io::Result<()> {
    let unfit = |why| Err(io::Error::new(io::ErrorKind::Unsupported, why));
    if !ring.params().is_feature_nodrop() {
        return unfit("the kernel may drop completions");
    }
    if ring.params().is_setup_iopoll() {
        return unfit("a ring that polls its device cannot sync");
    }
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    for code in [opcode::Write::CODE, opcode::WriteFixed::CODE, opcode::Fsync::CODE] {
        if !known.is_supported(code) {
            return unfit("the kernel's io_uring lacks an operation");
        }
    }
    Ok(())
}

/// The error that tells a person what the system's error means here.
pub(super) fn refused(error: &io::Error) -> io::Error {
    let why = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has none".to_owned(),
        Some(libc::EPERM | libc::EACCES) => "not permitted".to_owned(),
        Some(libc::ENOMEM) => "no memory, or more than may be locked".to_owned(),
        _ => error.to_string(),
    };
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Unsupported,
    };
    io::Error::new(kind, format!("io_uring is refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_named() {
        for (number, text) in [
            (libc::ENOSYS, "io_uring is refused: the kernel has none"),
            (libc::EPERM, "io_uring is refused: not permitted"),
            (libc::EACCES, "io_uring is refused: not permitted"),
            (libc::ENOMEM, "io_uring is refused: no memory, or more than may be locked"),
            (libc::EMFILE, "io_uring is refused: Too many open files (os error 24)"),
        ] {
            assert_eq!(refused(&io::Error::from_raw_os_error(number)).to_string(), text);
        }
    }
}
