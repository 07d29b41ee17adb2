//! The owned, aligned buffer that writes are made from.

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use crate::BLOCK_SIZE;
use crate::place::Place;

/// An owned block of heap memory, zeroed when made, aligned to [`BLOCK_SIZE`]
/// and a multiple of it long. It never moves.
///
/// The alignment is what direct I/O asks of memory (`open(2)`, `O_DIRECT`). A
/// `Vec<u8>` cannot give it, and one that grows would move under the kernel.
///
/// A buffer can be split, so that one part is written while the next is
/// filled, and parts that lie side by side can be joined again:
///
/// ```
/// use corewal_io::{AlignedBuf, BLOCK_SIZE};
///
/// let mut first = AlignedBuf::new(4 * BLOCK_SIZE);
/// let second = first.split_off(BLOCK_SIZE);
/// assert_eq!((first.capacity(), second.capacity()), (BLOCK_SIZE, 3 * BLOCK_SIZE));
/// first.join(second).unwrap();
/// assert_eq!(first.capacity(), 4 * BLOCK_SIZE);
/// ```
pub struct AlignedBuf {
    memory: Arc<Memory>,
    /// The part of the memory that belongs to this buffer and to no other.
    offset: usize,
    capacity: usize,
}

/// One allocation. Its bytes are reached through the buffers alone, each of
/// which owns a part that no other one has.
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
    /// Where a backend has registered it. Dropped with the memory, so that the
    /// place can be used again.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only io_uring registers memory"))]
    place: Option<Place>,
}

// SAFETY: the memory is only a pointer to what the buffers own; freeing it on
// another thread is what the global allocator allows.
unsafe impl Send for Memory {}
// SAFETY: through `&Memory` nothing but its place and size can be read; its
// bytes are reached through an `AlignedBuf`, under the rules of that type.
unsafe impl Sync for Memory {}

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
        Self::registered(capacity, |_, _| None)
    }

    /// As [`AlignedBuf::new`]; `register` is told where the memory is, and gives
    /// the place at which it has registered it.
    pub(crate) fn registered(capacity: usize, register: impl FnOnce(*mut u8, usize) -> Option<Place>) -> Self {
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
        let place = register(start.as_ptr(), capacity);
        Self { memory: Arc::new(Memory { start, capacity, place }), offset: 0, capacity }
    }

    /// The size in bytes, a multiple of [`BLOCK_SIZE`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where the memory it is part of has been registered, if it has.
    #[cfg(target_os = "linux")]
    pub(crate) fn place(&self) -> Option<&Place> {
        self.memory.place.as_ref()
    }

    /// Splits the buffer at `at`: this one keeps what lies before it, the one
    /// returned has the rest. Nothing is copied or allocated.
    ///
    /// # Panics
    ///
    /// If `at` is not a multiple of [`BLOCK_SIZE`] inside the buffer that
    /// leaves both parts at least one block.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at > 0 && at < self.capacity && at.is_multiple_of(BLOCK_SIZE), "a buffer is split between its blocks");
        let rest = Self { memory: Arc::clone(&self.memory), offset: self.offset + at, capacity: self.capacity - at };
        self.capacity = at;
        assert_eq!(self.offset + self.capacity, rest.offset);
        rest
    }

    /// Joins `next`, which lies right behind this buffer in the same memory,
    /// to it.
    ///
    /// # Errors
    ///
    /// Gives `next` back if it lies elsewhere.
    pub fn join(&mut self, next: Self) -> Result<(), Self> {
        if !self.is_followed_by(&next) {
            return Err(next);
        }
        self.capacity += next.capacity;
        assert!(self.offset + self.capacity <= self.memory.capacity);
        Ok(())
    }

    /// Whether `next` lies right behind this buffer in the same memory.
    #[must_use]
    pub fn is_followed_by(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &next.memory) && self.offset + self.capacity == next.offset
    }

    /// Whether it is all of the memory it was made with: no part is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.capacity == self.memory.capacity
    }

    /// All bytes of the buffer.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the part lies within the allocation, whose bytes were
        // initialised (zeroed) when allocated.
        let start = unsafe { self.memory.start.add(self.offset) };
        // SAFETY: as above; this value owns the part alone, so nobody changes
        // it while the reference lives.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.capacity) }
    }

    /// All bytes of the buffer, to be changed.
    #[must_use]
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`.
        let start = unsafe { self.memory.start.add(self.offset) };
        // SAFETY: as for `as_slice`, and `&mut self` makes this the only
        // reference to the part, which no other buffer shares.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.capacity) }
    }
}

/// The layout of a buffer of `capacity` bytes, which is already rounded.
fn layout(capacity: usize) -> Layout {
    debug_assert!(capacity > 0 && capacity.is_multiple_of(BLOCK_SIZE));
    Layout::from_size_align(capacity, BLOCK_SIZE).expect("capacity of a buffer must fit the address space")
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` came from the global allocator with this very
        // layout, and the last buffer of it is gone.
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
