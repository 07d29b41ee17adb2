//! What a background thread asks of the scheduler.

use std::io;

/// Asks that the calling thread be interrupted soon for others that become
/// ready. Its share of the processor stays the same.
///
/// A durable write that is not a forced unit access ends in threads of the
/// kernel's that are bound to one processor; if this thread runs there, they
/// wait for the end of its slice, or of the next tick. So it asks for the
/// shortest slice (`sched_attr.sched_runtime` of a `SCHED_OTHER` thread,
/// 0.1 ms, since Linux 6.12; `sched_setattr(2)`). Elsewhere it does nothing.
///
/// # Errors
///
/// The system's; nothing has changed then.
pub fn give_way() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return shortest_slice();
    #[cfg(not(target_os = "linux"))]
    Ok(())
}

#[cfg(target_os = "linux")]
fn shortest_slice() -> io::Result<()> {
    const SLICE_NS: u64 = 100_000;
    let mut attributes = attributes()?;
    // Another policy is somebody's choice, and its runtime means something else.
    if attributes.sched_policy == libc::SCHED_OTHER.cast_unsigned() {
        attributes.sched_runtime = SLICE_NS;
        // SAFETY: it reads the structure, which is as long as it says; 0 is the
        // calling thread.
        let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Those of the calling thread, its nice value among them.
#[cfg(target_os = "linux")]
fn attributes() -> io::Result<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).expect("small");
    // SAFETY: all zeros is a value of plain numbers.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: it writes into the structure no more than it is told.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_the_shortest_and_a_thread_that_was_nice_stays_so() {
        // SAFETY: it takes numbers; on Linux it is of the calling thread alone.
        assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) }, 0);
        give_way().unwrap();
        let now = attributes().unwrap();
        assert_eq!(now.sched_nice, 7);
        // Before 6.12 a plain thread has none.
        assert!(matches!(now.sched_runtime, 0 | 100_000), "{}", now.sched_runtime);
    }
}
