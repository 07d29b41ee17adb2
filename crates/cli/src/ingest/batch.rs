//! Records on their way to one core: all their bytes in one piece.

/// A batch is handed over when it has so many records, …
const RECORDS: usize = 512;
/// … or so many bytes.
const BYTES: usize = 64 << 10;
/// Room that an emptied batch may keep. One giant record must not stay in
/// memory for the rest of the run.
const KEPT: usize = 1 << 20;

/// Keys and values, one after the other. Emptied and filled again, it
/// allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<(u32, u32)>,
}

impl Batch {
    /// Adds a record. The source's limits keep both lengths far below 2^32.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a record is at most 16 MiB");
        self.lengths.push((length(key), length(value)));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// Whether it is time to hand it over.
    pub(super) fn is_full(&self) -> bool {
        self.lengths.len() >= RECORDS || self.bytes.len() >= BYTES
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The records, in the order they were added.
    pub(super) fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |&(key, value)| {
            let (key, after) = rest.split_at(key as usize);
            let (value, after) = after.split_at(value as usize);
            rest = after;
            (key, value)
        })
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.lengths.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        for round in 0..3 {
            let records = [("a", "1"), ("", ""), ("long key", ""), ("", "value")];
            for (key, value) in records {
                batch.push(key.as_bytes(), value.as_bytes());
            }
            let out: Vec<_> = batch.records().collect();
            assert_eq!(out, records.map(|(key, value)| (key.as_bytes(), value.as_bytes())), "round {round}");
            batch.clear();
            assert!(batch.is_empty() && batch.records().next().is_none());
        }
    }

    #[test]
    fn it_is_full_by_records_or_by_bytes_and_gives_a_giant_s_memory_back() {
        let mut batch = Batch::default();
        (0..RECORDS).for_each(|_| batch.push(b"", b""));
        assert!(batch.is_full());
        batch.clear();
        batch.push(b"key", &vec![0; 8 << 20]);
        assert!(batch.is_full());
        batch.clear();
        assert!(!batch.is_full() && batch.bytes.capacity() <= KEPT);
    }
}
