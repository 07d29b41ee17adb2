//! Windows of time, as keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stored::Stored;
use crate::source::BoxError;

/// A key in a window of time: what
/// [`durable_window_machine`](crate::DurableWindowMachine::durable_window_machine) has
/// states of. Times are in milliseconds, since when is the events' own affair.
///
/// ```
/// use std::time::Duration;
///
/// use corewal_timely::Window;
///
/// const HOUR: i64 = 3_600_000;
/// let window = Window::tumbling(HOUR + 1, Duration::from_secs(3600), "LAX");
/// assert_eq!((window.end, window.key), (2 * HOUR, "LAX"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window<K> {
    /// The first millisecond that is not in the window any more.
    pub end: i64,
    /// The key.
    pub key: K,
}

impl<K> Window<K> {
    /// The window of those that follow one another without a gap, `length` each (at
    /// least a millisecond), in which a time lies. One of them begins at 0. What would
    /// end later than time does ends with it.
    #[must_use]
    pub fn tumbling(time: i64, length: Duration, key: K) -> Self {
        let length = millis(length);
        Self { end: time.checked_add(length - time.rem_euclid(length)).unwrap_or(i64::MAX), key }
    }

    /// The windows of a `length`, of which one begins `every` so often (both at least
    /// a millisecond), in which a time lies, earliest first. One of them ends at 0.
    /// There are `length / every` of them; none for some times, if there are gaps.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use corewal_timely::Window;
    ///
    /// let [length, every] = [10, 5].map(Duration::from_millis);
    /// let ends = Window::sliding(7, length, every, "key").map(|window| window.end);
    /// assert_eq!(ends.collect::<Vec<_>>(), [10, 15]);
    /// ```
    pub fn sliding(time: i64, length: Duration, every: Duration, key: K) -> impl Iterator<Item = Self>
    where
        K: Clone,
    {
        let (length, every) = (millis(length), millis(every));
        // The first end behind the time.
        let first = time.checked_add(every - time.rem_euclid(every));
        let ends = std::iter::successors(first, move |end| end.checked_add(every));
        ends.take_while(move |end| end.saturating_sub(length) <= time).map(move |end| Self { end, key: key.clone() })
    }
}

/// As a number, at least 1.
fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// Digits of the end.
const DIGITS: usize = 19;

/// Its end, in 19 digits, `/`, and the key. Where the end is below zero, `-` and how
/// far it is above the least there is, so that the bytes order as the ends do.
impl<K: Stored> Stored for Window<K> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let from_zero = if self.end < 0 {
            bytes.push(b'-');
            self.end - i64::MIN
        } else {
            self.end
        };
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(from_zero).as_bytes();
        bytes.extend_from_slice(&[b'0'; DIGITS][digits.len()..]);
        bytes.extend_from_slice(digits);
        bytes.push(b'/');
        self.key.write(bytes);
    }

    fn read(bytes: &[u8]) -> Result<Self, BoxError> {
        let (below, rest) = bytes.strip_prefix(b"-").map_or((false, bytes), |rest| (true, rest));
        let end = rest.split_at_checked(DIGITS).and_then(|(digits, rest)| {
            let digits = digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok())??;
            Some((digits.parse::<i64>().ok()?, rest.strip_prefix(b"/")?))
        });
        let (end, key) = end.ok_or("it does not begin with the end of a window")?;
        Ok(Self { end: if below { end + i64::MIN } else { end }, key: K::read(key)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(end: i64, key: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        Window { end, key: key.to_owned() }.write(&mut bytes);
        bytes
    }

    fn tumbling(time: i64, length: u64) -> i64 {
        Window::tumbling(time, Duration::from_millis(length), ()).end
    }

    fn sliding(time: i64, length: u64, every: u64) -> Vec<i64> {
        let [length, every] = [length, every].map(Duration::from_millis);
        Window::sliding(time, length, every, ()).map(|window| window.end).take(9).collect()
    }

    #[test]
    fn these_bytes_never_change() {
        assert_eq!(bytes_of(1_700_000_000_000, "LAX"), b"0000001700000000000/LAX");
        assert_eq!(bytes_of(0, ""), b"0000000000000000000/");
        assert_eq!(bytes_of(-1, "a"), b"-9223372036854775807/a");
        assert_eq!(bytes_of(i64::MIN, "a"), b"-0000000000000000000/a");
    }

    #[test]
    fn windows_have_their_ends_on_either_side_of_zero_and_at_the_ends_of_time() {
        assert_eq!([-11, -10, -1, 0, 9, 10].map(|time| tumbling(time, 10)), [-10, 0, 0, 10, 10, 20]);
        assert_eq!([i64::MIN, i64::MAX].map(|time| tumbling(time, 10)), [i64::MIN + 8, i64::MAX]);
        assert_eq!((tumbling(5, 0), tumbling(5, u64::MAX)), (6, i64::MAX));
        assert_eq!(sliding(7, 10, 10), [10]);
        assert_eq!(sliding(-1, 10, 4), [0, 4, 8]);
        assert_eq!((sliding(0, 3, 10), sliding(7, 3, 10)), (vec![], vec![10]));
        assert_eq!(sliding(i64::MAX, 10, 4), [0; 0]);
        assert_eq!(sliding(i64::MIN, 8, 4), [i64::MIN + 4, i64::MIN + 8]);
    }

    proptest! {
        #[test]
        fn bytes_are_read_as_they_were_written_and_order_as_ends_do(
            ends in proptest::array::uniform2(prop_oneof![any::<i64>(), -20_i64..20]),
            keys: [String; 2],
        ) {
            let [a, b] = [0, 1].map(|at| Window { end: ends[at], key: keys[at].clone() });
            let [of_a, of_b] = [0, 1].map(|at| bytes_of(ends[at], &keys[at]));
            prop_assert_eq!(of_a.cmp(&of_b), a.cmp(&b));
            prop_assert_eq!(Window::<String>::read(&of_a).unwrap(), a);
        }

        #[test]
        fn any_bytes_give_a_window_with_just_these_or_an_error(
            bytes in prop_oneof!["-?[0-9]{18,20}/?[a-c+]{0,3}".prop_map(String::into_bytes), any::<Vec<u8>>()],
        ) {
            if let Ok(Window { end, key }) = Window::<String>::read(&bytes) {
                prop_assert_eq!(bytes_of(end, &key), bytes);
            }
        }

        /// Each window of `length` that begins at a multiple of `every`, and no other.
        #[test]
        fn a_time_lies_in_all_its_windows(time in -50_i64..50, length in 1_u64..30, every in 1_u64..30) {
            let (len, step) = (length as i64, every as i64);
            let expected: Vec<_> = (-200..200).filter(|end| end % step == 0 && (end - len..*end).contains(&time)).collect();
            let found: Vec<_> = Window::sliding(time, Duration::from_millis(length), Duration::from_millis(every), ())
                .map(|window| window.end)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
