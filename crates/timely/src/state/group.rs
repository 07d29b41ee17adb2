//! Keys that are dealt with together.

/// Records whose keys are looked for at once: the waits for memory overlap. It
/// halved the time of an update of one key out of a million.
pub(super) const AT_ONCE: usize = 32;

/// The keys of some records, [`AT_ONCE`] at most, as they stand in the store.
pub(super) struct Group {
    /// Each begins with the operator's prefix, which is written once.
    keys: Vec<Vec<u8>>,
    prefix_len: usize,
    len: usize,
}

impl Group {
    /// Of keys that begin with the prefix.
    pub(super) fn new(prefix: &[u8]) -> Self {
        Self { keys: vec![prefix.to_vec(); AT_ONCE], prefix_len: prefix.len(), len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a key: the prefix, and behind it what `write` adds.
    #[inline]
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let key = &mut self.keys[self.len];
        key.truncate(self.prefix_len);
        write(key);
        self.len += 1;
    }

    /// The keys in their order.
    #[inline]
    pub(super) fn keys(&self) -> &[Vec<u8>] {
        &self.keys[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_behind_the_prefix_also_where_longer_ones_stood() {
        let mut group = Group::new(b"n/");
        for keys in [&["long", "b"][..], &["c", "dd", ""]] {
            group.clear();
            keys.iter().for_each(|key| group.add(|bytes| bytes.extend_from_slice(key.as_bytes())));
            let expected: Vec<_> = keys.iter().map(|key| format!("n/{key}").into_bytes()).collect();
            assert_eq!(group.keys(), expected);
        }
    }
}
