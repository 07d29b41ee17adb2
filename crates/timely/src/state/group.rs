//! Keys that are looked for together.

/// Records whose keys are looked for at once: the waits for memory overlap. It
/// halved the time of an update of one key out of a million.
pub(super) const AT_ONCE: usize = 32;

/// The keys of some records, [`AT_ONCE`] at most, as they stand in the store.
#[derive(Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
}

impl Group {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds a key: the prefix, and behind it what `write` adds.
    #[inline]
    pub(super) fn add(&mut self, prefix: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(prefix);
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The keys in their order; behind them there is nothing but empty ones.
    #[inline]
    pub(super) fn keys(&self) -> [&[u8]; AT_ONCE] {
        let mut keys = [&[][..]; AT_ONCE];
        let mut from = 0;
        for (key, &end) in keys.iter_mut().zip(&self.ends) {
            *key = &self.bytes[from..end];
            from = end;
        }
        keys
    }
}
