//! The bound of memory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What is allowed besides the records.
const BESIDES: u64 = 16 << 20;

/// Does `work` and holds the memory that it takes at any time to twice the
/// largest record there can be among `largest` bytes, and a constant.
pub(crate) fn within<T>(largest: usize, what: &str, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    // A panic must not leave the allocator counting.
    let info = allocation_counter::measure(|| result = Some(catch_unwind(AssertUnwindSafe(work))));
    let result = result.expect("it ran").unwrap_or_else(|panic| resume_unwind(panic));
    let most = 2 * largest as u64 + BESIDES;
    assert!(info.bytes_max <= most, "{what}: {} bytes of memory, more than {most}", info.bytes_max);
    result
}
