//! The owned, aligned buffer that writes are made from.

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use crate::BLOCK_SIZE;

/// An owned block of heap memory, zeroed when made, aligned to [`BLOCK_SIZE`]
/// and a multiple of it long. Its size never changes.
///
/// The alignment is what direct I/O asks of memory (`open(2)`, `O_DIRECT`). A
/// `Vec<u8>` cannot give it, and one that grows would move under the kernel.
pub struct AlignedBuf {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the buffer owns its memory alone and hands it out only through
// `&self` and `&mut self`, so it may move to another thread.
unsafe impl Send for AlignedBuf {}
// SAFETY: through `&self` the bytes can only be read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// A zeroed buffer of `capacity` bytes, rounded up to a multiple of
    /// [`BLOCK_SIZE`]; one block at least.
    ///
    /// # Panics
    ///
    /// If the rounded capacity is beyond `isize::MAX`, the most that one
    /// allocation can have. When memory runs out it ends like every
    /// allocation of the standard library ([`alloc::handle_alloc_error`]).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let rounded = capacity.max(1).checked_next_multiple_of(BLOCK_SIZE);
        let capacity = rounded.expect("capacity of a buffer must fit the address space");
        let layout = layout(capacity);
        assert!(layout.size() >= BLOCK_SIZE);
        // SAFETY: the layout's size is not zero, as asserted above.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(memory) else {
            alloc::handle_alloc_error(layout);
        };
        assert_eq!(start.as_ptr().addr() % BLOCK_SIZE, 0);
        Self { start, capacity }
    }

    /// The size in bytes, a multiple of [`BLOCK_SIZE`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// All bytes of the buffer.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points to `capacity` bytes that this value owns and
        // that were initialised (zeroed) when allocated.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.capacity) }
    }

    /// All bytes of the buffer, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`, and `&mut self` makes this the only
        // reference.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }
}

/// The layout of a buffer of `capacity` bytes, which is already rounded.
fn layout(capacity: usize) -> Layout {
    debug_assert!(capacity > 0 && capacity.is_multiple_of(BLOCK_SIZE));
    Layout::from_size_align(capacity, BLOCK_SIZE).expect("capacity of a buffer must fit the address space")
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `start` came from the global allocator with this very
        // layout, and nothing uses it after the drop.
        unsafe { alloc::dealloc(self.start.as_ptr(), layout(self.capacity)) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

/// Prints the capacity alone: the content may be large, and private.
impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_capacity_gives_whole_aligned_zeroed_blocks(capacity in 0_usize..200_000) {
            let buffer = AlignedBuf::new(capacity);
            prop_assert_eq!(buffer.as_ptr().addr() % BLOCK_SIZE, 0);
            prop_assert_eq!(buffer.capacity() % BLOCK_SIZE, 0);
            prop_assert!(buffer.capacity() >= capacity.max(1));
            prop_assert!(buffer.capacity() - capacity <= BLOCK_SIZE);
            prop_assert_eq!(buffer.len(), buffer.capacity());
            prop_assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn it_keeps_what_is_written_when_it_moves_to_another_thread() {
        let mut buffer = AlignedBuf::new(BLOCK_SIZE + 1);
        buffer[BLOCK_SIZE] = 7;
        let address = buffer.as_ptr().addr();
        #[allow(clippy::disallowed_methods, reason = "a test of moving between threads")]
        let buffer = std::thread::spawn(move || buffer).join().unwrap();
        assert_eq!(buffer.as_ptr().addr(), address);
        assert_eq!(buffer[BLOCK_SIZE], 7);
    }

    #[test]
    fn debug_shows_the_capacity_and_no_content() {
        let text = format!("{:?}", AlignedBuf::new(1));
        assert_eq!(text, "AlignedBuf { capacity: 4096, .. }");
    }

    #[test]
    #[should_panic(expected = "must fit the address space")]
    fn an_impossible_capacity_panics() {
        let _ = AlignedBuf::new(usize::MAX);
    }
}
