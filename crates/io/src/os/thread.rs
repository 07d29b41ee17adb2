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
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).expect("small"),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: it reads the structure, which is as long as it says; 0 is the
    // calling thread.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_the_shortest_where_the_kernel_has_slices() {
        give_way().unwrap();
        // SAFETY: all zeros is a value of plain numbers.
        let mut now: libc::sched_attr = unsafe { std::mem::zeroed() };
        let size = u32::try_from(size_of::<libc::sched_attr>()).unwrap();
        // SAFETY: it writes into the structure no more than it is told.
        let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) };
        assert_eq!(got, 0);
        // Before 6.12 it is none of a plain thread's.
        assert!(matches!(now.sched_runtime, 0 | 100_000), "{}", now.sched_runtime);
    }
}
