//! The bytes of a file, shared between copies block by block.

use std::sync::Arc;

use crate::BLOCK_SIZE;

/// The longest simulated file, in bytes: 64 GiB, so that a wild offset does
/// not ask the test machine for its whole memory.
pub(super) const MAX_LEN: u64 = 1 << 36;

type Block = [u8; BLOCK_SIZE];

/// A file's length and bytes. A clone copies nothing; two clones share every
/// block that neither has changed since. A block never written reads as zeros.
///
/// Bytes of the last block beyond the length are always zero, so growing needs
/// no wiping.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    blocks: Arc<Vec<Option<Arc<Block>>>>,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether both are clones of one, neither of them changed since.
    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        self.len == other.len && Arc::ptr_eq(&self.blocks, &other.blocks)
    }

    /// Reads at `offset` up to the end of the file.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let total = rest.min(buffer.len());
        let mut done = 0;
        while done < total {
            let (index, start) = place(offset + done as u64);
            let part = (BLOCK_SIZE - start).min(total - done);
            let target = &mut buffer[done..done + part];
            match self.blocks.get(index) {
                Some(Some(block)) => target.copy_from_slice(&block[start..start + part]),
                _ => target.fill(0),
            }
            done += part;
        }
        assert_eq!(done, total);
        total
    }

    /// All bytes, or those up to the address space's bound.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        let read = self.read(0, &mut bytes);
        assert_eq!(read, bytes.len());
        bytes
    }

    /// Writes, growing the file if needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        assert!(end <= MAX_LEN);
        if bytes.is_empty() {
            return;
        }
        let blocks = Arc::make_mut(&mut self.blocks);
        let (last, _) = place(end - 1);
        if blocks.len() <= last {
            blocks.resize(last + 1, None);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (index, start) = place(offset + done as u64);
            let part = (BLOCK_SIZE - start).min(bytes.len() - done);
            let block = blocks[index].get_or_insert_with(|| Arc::new([0; BLOCK_SIZE]));
            Arc::make_mut(block)[start..start + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.len = self.len.max(end);
    }

    /// Makes the file at least `len` long; what is added reads as zeros.
    pub(super) fn grow(&mut self, len: u64) {
        assert!(len <= MAX_LEN);
        self.len = self.len.max(len);
    }

    /// Makes the file at most `len` long.
    pub(super) fn cut(&mut self, len: u64) {
        if len >= self.len {
            return;
        }
        self.len = len;
        let (index, start) = place(len);
        let keep = if start == 0 { index } else { index + 1 };
        let blocks = Arc::make_mut(&mut self.blocks);
        blocks.truncate(keep);
        // With `start` zero the file ends between two blocks.
        if start > 0
            && let Some(Some(block)) = blocks.get_mut(index)
        {
            Arc::make_mut(block)[start..].fill(0);
        }
    }
}

/// The block that holds a position, and the position inside it.
fn place(position: u64) -> (usize, usize) {
    assert!(position <= MAX_LEN);
    let block = BLOCK_SIZE as u64;
    let index = usize::try_from(position / block).expect("MAX_LEN blocks fit the address space");
    let start = usize::try_from(position % block).expect("less than a block");
    (index, start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Write(u16, Vec<u8>),
        Grow(u16),
        Cut(u16),
    }

    fn change() -> impl Strategy<Value = Change> {
        let bytes = proptest::collection::vec(1_u8.., 0..9000);
        prop_oneof![
            (any::<u16>(), bytes).prop_map(|(offset, bytes)| Change::Write(offset, bytes)),
            any::<u16>().prop_map(Change::Grow),
            any::<u16>().prop_map(Change::Cut),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_vector(changes in proptest::collection::vec(change(), 0..20)) {
            let mut plain = Vec::new();
            let mut content = Content::default();
            for change in changes {
                match change {
                    Change::Write(offset, bytes) => {
                        let end = usize::from(offset) + bytes.len();
                        if !bytes.is_empty() && plain.len() < end {
                            plain.resize(end, 0);
                        }
                        if !bytes.is_empty() {
                            plain[usize::from(offset)..end].copy_from_slice(&bytes);
                        }
                        content.write(offset.into(), &bytes);
                    }
                    Change::Grow(len) => {
                        plain.resize(plain.len().max(len.into()), 0);
                        content.grow(len.into());
                    }
                    Change::Cut(len) => {
                        plain.truncate(len.into());
                        content.cut(len.into());
                    }
                }
                prop_assert_eq!(content.to_vec(), plain.clone());
            }
        }
    }

    #[test]
    fn a_clone_is_not_changed_by_writes_to_the_other() {
        let mut one = Content::from_bytes(&[1; 10_000]);
        let copy = one.clone();
        one.write(5_000, &[2; 10]);
        one.cut(6_000);
        assert_eq!(copy.to_vec(), vec![1; 10_000]);
        assert_eq!(one.to_vec()[5_000..5_010], [2; 10]);
    }

    #[test]
    fn reading_stops_at_the_end() {
        let content = Content::from_bytes(b"abc");
        let mut buffer = [9; 5];
        assert_eq!(content.read(1, &mut buffer), 2);
        assert_eq!(&buffer, b"bc\x09\x09\x09");
        assert_eq!(content.read(3, &mut buffer), 0);
        assert_eq!(content.read(1_000_000, &mut buffer), 0);
    }
}
