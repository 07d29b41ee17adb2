//! What is written, and the check that it comes back.
//!
//! A record is made of its number alone, so whoever reads it back knows what it must hold. The keys' byte order is the
//! order of the numbers; the values are windows into a pool of random bytes, so making one costs nothing that would
//! show beside an append.

use anyhow::{Result, ensure};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;
/// Keys of the keyed cell.
pub(crate) const KEYS: u64 = 100_000;
const POOL: usize = 64 << 10;

/// Records of one size.
#[derive(Clone)]
pub(crate) struct Records {
    pool: Vec<u8>,
    value_bytes: usize,
}

impl Records {
    pub(crate) fn new(value_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let pool = (0..POOL + value_bytes).map(|_| (next(&mut state) >> 56) as u8).collect();
        Self { pool, value_bytes }
    }

    /// The key of record `number`.
    pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key[8..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        key
    }

    /// The value of record `number`.
    pub(crate) fn value(&self, number: u64) -> &[u8] {
        let at = (number as usize).wrapping_mul(61) % POOL;
        &self.pool[at..at + self.value_bytes]
    }

    /// Bytes of a record without anybody's overhead.
    pub(crate) fn bytes(&self) -> u64 {
        (KEY_BYTES + self.value_bytes) as u64
    }
}

/// A step of xorshift64.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// What must come back.
#[derive(Clone)]
enum Expected {
    /// Records 0, 1, 2, …
    InOrder,
    /// The same in any order, each once.
    AnyOrder(Vec<bool>),
    /// The last of them: the beginning may be gone.
    Tail {
        next: Option<u64>,
        /// The first that comes back is this one or one before it.
        from: Option<u64>,
    },
    /// For each key the value of this record; `None` if it was never put.
    Newest(Vec<Option<u64>>),
}

/// Takes in what is read back and compares it, byte by byte, with what was written.
#[derive(Clone)]
pub(crate) struct Check {
    records: Records,
    expected: Expected,
    written: u64,
    seen: u64,
    wrong: Option<String>,
}

impl Check {
    /// `written` records, in the order in which they were written.
    pub(crate) fn in_order(records: Records, written: u64) -> Self {
        Self::new(records, Expected::InOrder, written)
    }

    /// `written` records in any order.
    pub(crate) fn any_order(records: Records, written: u64) -> Self {
        Self::new(records, Expected::AnyOrder(vec![false; written as usize]), written)
    }

    /// The last of `written` records: those from `from` on at least. Without it how many is the peer's affair, and it
    /// may be none.
    pub(crate) fn tail(records: Records, written: u64, from: Option<u64>) -> Self {
        Self::new(records, Expected::Tail { next: None, from: from.filter(|from| *from < written) }, written)
    }

    /// The newest value of each key.
    pub(crate) fn newest(records: Records, newest: Vec<Option<u64>>) -> Self {
        let written = newest.iter().flatten().count() as u64;
        Self::new(records, Expected::Newest(newest), written)
    }

    fn new(records: Records, expected: Expected, written: u64) -> Self {
        Self { records, expected, written, seen: 0, wrong: None }
    }

    /// Takes a record in.
    #[inline]
    pub(crate) fn record(&mut self, key: &[u8], value: &[u8]) {
        let Some(number) = key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else {
            return self.found_wrong("a key is too short");
        };
        let value_of = match &mut self.expected {
            Expected::InOrder => (number == self.seen).then_some(number),
            Expected::AnyOrder(seen) => {
                seen.get_mut(number as usize).and_then(|seen| (!std::mem::replace(seen, true)).then_some(number))
            }
            Expected::Tail { next, from } => {
                let fits = match *next {
                    Some(next) => next == number,
                    None => from.is_none_or(|from| number <= from),
                };
                *next = Some(number + 1);
                fits.then_some(number)
            }
            Expected::Newest(newest) => newest.get_mut(number as usize).and_then(Option::take),
        };
        match value_of {
            Some(of) if self.records.value(of) == value && Records::key(number) == key => self.seen += 1,
            Some(_) => self.found_wrong(&format!("record {number} holds something else")),
            None => self.found_wrong(&format!("record {number} comes out of turn, after {} others", self.seen)),
        }
    }

    #[cold]
    fn found_wrong(&mut self, what: &str) {
        self.wrong.get_or_insert_with(|| what.to_owned());
    }

    /// How many came back, if they are those that had to.
    pub(crate) fn finish(self) -> Result<u64> {
        if let Some(wrong) = self.wrong {
            anyhow::bail!("read back: {wrong}");
        }
        match self.expected {
            Expected::Tail { next: Some(next), .. } => {
                ensure!(next == self.written, "read back: ends before record {next} of {}", self.written)
            }
            Expected::Tail { from: Some(from), .. } => {
                anyhow::bail!("read back: nothing of what is kept from {from} on")
            }
            Expected::Tail { .. } => {}
            _ => ensure!(self.seen == self.written, "read back: {} of {} records", self.seen, self.written),
        }
        Ok(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut check: Check, numbers: &[u64]) -> Result<u64> {
        let records = Records::new(100);
        for &number in numbers {
            check.record(&Records::key(number), records.value(number));
        }
        check.finish()
    }

    #[test]
    fn a_check_takes_what_was_written_and_nothing_else() {
        let records = Records::new(100);
        assert_eq!(read(Check::in_order(records.clone(), 3), &[0, 1, 2]).unwrap(), 3);
        assert!(read(Check::in_order(records.clone(), 3), &[0, 1]).is_err());
        assert!(read(Check::in_order(records.clone(), 3), &[0, 2, 1]).is_err());
        assert_eq!(read(Check::any_order(records.clone(), 3), &[2, 0, 1]).unwrap(), 3);
        assert!(read(Check::any_order(records.clone(), 3), &[2, 2, 1]).is_err());
        assert_eq!(read(Check::tail(records.clone(), 5, None), &[3, 4]).unwrap(), 2);
        assert_eq!(read(Check::tail(records.clone(), 5, None), &[]).unwrap(), 0);
        assert!(read(Check::tail(records.clone(), 5, None), &[2, 3]).is_err());
        assert!(read(Check::tail(records, 5, None), &[2, 4]).is_err());
    }

    #[test]
    fn a_check_of_an_end_wants_what_was_kept() {
        let records = Records::new(100);
        assert_eq!(read(Check::tail(records.clone(), 5, Some(3)), &[3, 4]).unwrap(), 2);
        assert_eq!(read(Check::tail(records.clone(), 5, Some(3)), &[2, 3, 4]).unwrap(), 3);
        assert!(read(Check::tail(records.clone(), 5, Some(3)), &[4]).is_err());
        assert!(read(Check::tail(records.clone(), 5, Some(3)), &[]).is_err());
        assert_eq!(read(Check::tail(records, 5, Some(5)), &[]).unwrap(), 0);
    }

    #[test]
    fn a_check_of_keys_wants_the_newest_value() {
        let records = Records::new(100);
        let mut check = Check::newest(records.clone(), vec![Some(7), None, Some(2)]);
        check.record(&Records::key(0), records.value(7));
        check.record(&Records::key(2), records.value(2));
        assert_eq!(check.finish().unwrap(), 2);
        let mut stale = Check::newest(records.clone(), vec![Some(7)]);
        stale.record(&Records::key(0), records.value(0));
        assert!(stale.finish().is_err());
    }
}
