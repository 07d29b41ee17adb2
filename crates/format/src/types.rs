//! Newtypes: never two bare `u64` in one signature.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl $name {
            /// The number itself.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }
    };
}

number! {
    /// Log sequence number: a byte position in one core's log. Monotonic across
    /// segments and restarts.
    Lsn(u64)
}
number! {
    /// Index of a core, from 0.
    CoreId(u16)
}
number! {
    /// Number of a cut across all cores, from 1. The epoch of a record is the
    /// epoch whose barrier comes next in its log.
    Epoch(u64)
}
number! {
    /// Number of a segment within its core's log, from 0.
    SegmentId(u64)
}
number! {
    /// Number of a run, a sorted file of a checkpoint, within its store, from 1.
    RunId(u64)
}
number! {
    /// Number of a record within its core's log, from 0.
    Sequence(u64)
}
number! {
    /// How many times the log had been opened for writing when a frame was
    /// written, from 1. Ties frames to their predecessors: what an earlier
    /// opening left beyond a cut has a lower number and never joins.
    Opening(u32)
}
number! {
    /// Nanoseconds since the Unix epoch, clamped so that it never decreases
    /// within a core. Information; it decides no order.
    TimestampNs(u64)
}

impl Lsn {
    /// The position `bytes` further on.
    ///
    /// # Panics
    /// If the position does not fit 64 bits, which no log reaches: decoders
    /// reject such positions with [`Lsn::checked_add`] before they get here.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        match self.0.checked_add(bytes) {
            Some(position) => Self(position),
            None => panic!("LSN overflow"),
        }
    }

    /// The position `bytes` further on, or `None` past 64 bits.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(position) => Some(Self(position)),
            None => None,
        }
    }
}

impl Epoch {
    /// The epoch after this one; the last one is its own successor.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl SegmentId {
    /// The segment after this one; the last one is its own successor.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Opening {
    /// The opening after this one; the last one is its own successor. (One a
    /// second gets there after 136 years.)
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Sequence {
    /// The sequence `records` further on. Behind the last of 64 bits comes 0
    /// again: no log gets there, and one that says it did has to be read, cut
    /// and gone on with like any other. Nothing depends on their order.
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        Self(self.0.wrapping_add(records))
    }
}

impl CoreId {
    /// The core as an index into per-core arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Identity of a store, drawn at random when it is created and written into
/// its manifest and every segment header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// Reads the 32 hexadecimal digits that [`fmt::Display`] prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(id))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_id_reads_back_what_it_prints() {
        let id = LogId(std::array::from_fn(|i| (i * 17) as u8));
        assert_eq!(LogId::parse(&id.to_string()), Some(id));
        assert_eq!(LogId::parse("00112233445566778899AABBCCDDEEFF"), None, "one spelling only");
        assert_eq!(LogId::parse("0011"), None);
        assert_eq!(format!("{id:?}"), "LogId(00112233445566778899aabbccddeeff)");
    }

    #[test]
    fn a_core_is_the_index_of_what_is_its() {
        assert_eq!([0, 1, 2, 1023].map(|core| CoreId(core).index()), [0, 1, 2, 1023]);
    }
}
