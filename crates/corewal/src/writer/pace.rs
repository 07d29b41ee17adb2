//! How fast a writer fills segments, and how fast they are filled with zeros ahead
//! of it: whether the zeros are worth what they take of the medium.

/// Where the zeros would take more than a fifth of what is written, they are not.
const SHARE: u128 = 4;

/// What is known of it. Times are in nanoseconds, of the log's clock.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes of the newest segment that was made with zeros or of what was there,
    /// and the time that it took.
    made: (u64, u64),
    /// When the segment at hand was begun, and its bytes.
    begun: Option<(u64, u64)>,
}

impl Pace {
    pub(super) fn unknown() -> Self {
        Self { made: (0, 0), begun: None }
    }

    /// A segment was made, in no hurry.
    pub(super) fn made(&mut self, bytes: u64, took: u64) {
        self.made = (bytes, took);
    }

    /// The writer goes on to the next segment. Whether it filled the one before so
    /// fast that zeros are better left out.
    pub(super) fn next(&mut self, bytes: u64, now: u64) -> bool {
        let (zeros, zeroing) = self.made;
        let before = self.begun.replace((now, bytes));
        before.is_some_and(|(begun, filled)| {
            let filling = now.saturating_sub(begun);
            u128::from(zeroing) * u128::from(filled) > u128::from(filling) * u128::from(zeros) / SHARE
        })
    }
}

#[cfg(test)]
impl Pace {
    /// The bytes and the time of the newest segment that was made in no hurry.
    pub(super) fn zeros(&self) -> (u64, u64) {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MS: u64 = 1_000_000;

    #[test]
    fn zeros_are_left_out_where_they_take_more_than_a_fifth() {
        let mut pace = Pace::unknown();
        assert!(!pace.next(16 * MIB, 0));
        assert!(!pace.next(16 * MIB, 1), "nothing is known of zeros yet");
        pace.made(32 * MIB, 64 * MS);
        // 16 MiB of zeros take 32 ms.
        assert!(!pace.next(16 * MIB, 1 + 128 * MS));
        assert!(pace.next(64 * MIB, 1 + 128 * MS + 127 * MS));
        // The segment that was filled counts, not the one that is begun.
        assert!(pace.next(16 * MIB, 1 + 255 * MS + 4 * 127 * MS));
        assert!(!pace.next(16 * MIB, 1 + 763 * MS + 200 * MS), "the writer has become slow");
    }

    #[test]
    fn what_is_used_again_costs_nothing() {
        let mut pace = Pace::unknown();
        pace.next(MIB, 0);
        pace.made(MIB, MS);
        assert!(pace.next(MIB, 2 * MS));
        pace.made(64 * MIB, 1);
        assert!(!pace.next(MIB, 4 * MS));
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_is_a_writer_without_end() {
        let mut pace = Pace::unknown();
        pace.next(MIB, 5 * MS);
        assert!(!pace.next(MIB, 5 * MS), "where it stands for both, nothing is known");
        pace.made(u64::MAX, u64::MAX);
        assert!(pace.next(u64::MAX, MS));
        assert!(pace.next(MIB, MS));
    }
}
