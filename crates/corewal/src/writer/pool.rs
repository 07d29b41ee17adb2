//! The pool of buffers. A frame takes as much of a buffer as it needs, and the
//! next one goes on in the rest: so many small frames can be in flight without
//! a buffer each. What comes back is put together again.

use corewal_io::AlignedBuf;

/// A writer's buffers, but for those that a frame is built in or written from.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Size of a whole buffer.
    capacity: usize,
    whole: Vec<AlignedBuf>,
    /// What the last frame left of its buffer, if that is worth going on in.
    rest: Option<AlignedBuf>,
    /// Parts that wait for their neighbours.
    parts: Vec<AlignedBuf>,
}

impl Pool {
    pub(crate) fn new(whole: Vec<AlignedBuf>) -> Self {
        let capacity = whole.first().map_or(0, AlignedBuf::capacity);
        assert!(capacity > 0 && whole.iter().all(|buffer| buffer.is_whole() && buffer.capacity() == capacity));
        let parts = Vec::with_capacity(64);
        Self { capacity, whole, rest: None, parts }
    }

    /// A buffer of `needed` bytes or more. One that no pooled buffer holds is
    /// made by `make`, and takes the place of a pooled one until it is back.
    /// `None` if all are in use.
    pub(crate) fn take(&mut self, needed: usize, make: impl FnOnce(usize) -> AlignedBuf) -> Option<AlignedBuf> {
        if let Some(rest) = self.rest.take() {
            if rest.capacity() >= needed {
                return Some(rest);
            }
            self.put_part(rest);
        }
        let whole = self.whole.pop()?;
        Some(if whole.capacity() >= needed { whole } else { make(needed) })
    }

    /// Takes what a frame of `len` bytes left of its buffer. The next frame is
    /// likely to be as long: where that does not fit, it would be cut in two.
    pub(crate) fn keep_rest(&mut self, rest: AlignedBuf, len: usize) {
        assert!(self.rest.is_none(), "one frame is built at a time");
        if rest.capacity() >= len { self.rest = Some(rest) } else { self.put_part(rest) }
    }

    /// Takes a buffer back; one of another size is replaced by one that `make`
    /// makes.
    pub(crate) fn put(&mut self, buffer: AlignedBuf, make: impl FnOnce(usize) -> AlignedBuf) {
        if buffer.is_whole() && buffer.capacity() != self.capacity {
            self.whole.push(make(self.capacity));
        } else {
            self.put_part(buffer);
        }
    }

    fn put_part(&mut self, mut part: AlignedBuf) {
        // The newest are most likely to be the neighbours.
        while let Some(at) = self.parts.iter().rposition(|other| other.is_followed_by(&part)) {
            let mut before = self.parts.swap_remove(at);
            before.join(part).unwrap_or_else(|_| unreachable!("it follows"));
            part = before;
        }
        while let Some(at) = self.parts.iter().rposition(|other| part.is_followed_by(other)) {
            let after = self.parts.swap_remove(at);
            part.join(after).unwrap_or_else(|_| unreachable!("it follows"));
        }
        if part.is_whole() && part.capacity() == self.capacity { self.whole.push(part) } else { self.parts.push(part) }
    }
}

#[cfg(test)]
mod tests {
    use corewal_io::BLOCK_SIZE;

    use super::*;

    fn none(_: usize) -> AlignedBuf {
        panic!("nothing needs making")
    }

    fn pool(buffers: usize, blocks: usize) -> Pool {
        Pool::new((0..buffers).map(|_| AlignedBuf::new(blocks * BLOCK_SIZE)).collect())
    }

    /// Takes a frame of `blocks` out of the pool.
    fn frame(pool: &mut Pool, blocks: usize) -> Option<AlignedBuf> {
        let mut buffer = pool.take(BLOCK_SIZE, none)?;
        if buffer.capacity() > blocks * BLOCK_SIZE {
            let rest = buffer.split_off(blocks * BLOCK_SIZE);
            pool.keep_rest(rest, blocks * BLOCK_SIZE);
        }
        Some(buffer)
    }

    #[test]
    fn small_frames_share_a_buffer_and_come_back_in_any_order() {
        let mut pool = pool(2, 8);
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut frames: Vec<_> = std::iter::from_fn(|| frame(&mut pool, 1)).collect();
            assert_eq!(frames.len(), 16);
            rng.shuffle(&mut frames);
            for frame in frames {
                pool.put(frame, none);
            }
            assert_eq!((pool.whole.len(), pool.parts.len()), (2, 0));
        }
    }

    #[test]
    fn a_rest_that_the_next_frame_would_not_fit_is_left() {
        let mut pool = pool(2, 8);
        let long = frame(&mut pool, 7).unwrap();
        assert_eq!(frame(&mut pool, 8).unwrap().capacity(), 8 * BLOCK_SIZE);
        assert!(frame(&mut pool, 1).is_none(), "the rest waits for its neighbour");
        pool.put(long, none);
        assert_eq!(pool.whole.len(), 1);
    }

    #[test]
    fn a_record_that_no_buffer_holds_takes_the_place_of_one() {
        let mut pool = pool(2, 2);
        let large = pool.take(5 * BLOCK_SIZE, AlignedBuf::new).unwrap();
        assert_eq!(large.capacity(), 5 * BLOCK_SIZE);
        assert_eq!(pool.whole.len(), 1);
        pool.put(large, AlignedBuf::new);
        assert!(pool.whole.len() == 2 && pool.whole.iter().all(|buffer| buffer.capacity() == 2 * BLOCK_SIZE));
    }
}
