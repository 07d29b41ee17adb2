//! What every backend asks of a write before it accepts it.

use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use crate::{AlignedBuf, BLOCK_SIZE, Storage};

/// Refuses a write that does not keep the rules of
/// [`Operation::Write`](crate::Operation::Write): a range of whole blocks, not
/// empty, inside the buffer, at a block's start, ending where a file can end
/// (`off_t` is signed).
pub(crate) fn check(offset: u64, buffer: &AlignedBuf, range: &Range<usize>) -> io::Result<()> {
    let block = BLOCK_SIZE as u64;
    let whole =
        offset.is_multiple_of(block) && range.start.is_multiple_of(BLOCK_SIZE) && range.end.is_multiple_of(BLOCK_SIZE);
    let inside = range.start < range.end && range.end <= buffer.capacity();
    if !whole || !inside {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write must be of whole blocks inside its buffer"));
    }
    let end = offset.checked_add(range.len() as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write must end at a position that a file can have"));
    }
    Ok(())
}

/// Writes zeros, a mebibyte at a time: [`Storage::zero`].
pub(crate) fn zeros<S: Storage>(storage: &S, file: &S::File, offset: u64, len: u64) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    // Kept: clearing a buffer each time takes as long as copying it to a disk.
    static ZEROS: LazyLock<AlignedBuf> = LazyLock::new(|| AlignedBuf::new(CHUNK));
    let mut done = 0;
    while done < len {
        let part = usize::try_from(len - done).map_or(CHUNK, |left| left.min(CHUNK));
        storage.write_at(file, offset + done, &ZEROS, 0..part)?;
        done += part as u64;
    }
    assert_eq!(done, len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_inside_the_buffer_pass() {
        let buffer = AlignedBuf::new(2 * BLOCK_SIZE);
        assert!(check(0, &buffer, &(0..BLOCK_SIZE)).is_ok());
        assert!(check(8192, &buffer, &(BLOCK_SIZE..2 * BLOCK_SIZE)).is_ok());
    }

    #[test]
    fn every_broken_rule_is_an_invalid_input() {
        let buffer = AlignedBuf::new(2 * BLOCK_SIZE);
        let last = u64::MAX - (u64::MAX % BLOCK_SIZE as u64);
        for (offset, range) in [
            (1, 0..BLOCK_SIZE),
            (0, 1..BLOCK_SIZE),
            (0, 0..100),
            (0, 0..0),
            (0, 0..3 * BLOCK_SIZE),
            (last, 0..BLOCK_SIZE),
            (i64::MAX as u64 - 4095, 0..BLOCK_SIZE),
        ] {
            let error = check(offset, &buffer, &range).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{offset} {range:?}");
        }
    }
}
