//! Keys and states as bytes.

use crate::source::BoxError;

/// What can stand in the store as a key or as the state of one: numbers, texts,
/// bytes and pairs can. Numbers are the least byte first, as
/// [`Slot::get_u64`](crate::Slot::get_u64) reads them; texts and bytes stand as
/// they are; of a pair it is the length of the first in four bytes (the least
/// first), then the first, then the second.
///
/// For a type of one's own any format does, as long as values that are equal
/// have the same bytes, and none that are not:
///
/// ```
/// use corewal_timely::{BoxError, Stored};
///
/// #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Visits {
///     count: u64,
///     pages: Vec<String>,
/// }
///
/// impl Stored for Visits {
///     fn write(&self, bytes: &mut Vec<u8>) {
///         serde_json::to_writer(bytes, self).expect("it can be written as JSON");
///     }
///
///     fn read(bytes: &[u8]) -> Result<Self, BoxError> {
///         Ok(serde_json::from_slice(bytes)?)
///     }
/// }
///
/// let visits = Visits { count: 1, pages: vec!["/".into()] };
/// let mut bytes = Vec::new();
/// visits.write(&mut bytes);
/// assert_eq!(Visits::read(&bytes).unwrap(), visits);
/// assert!(Visits::read(b"12").is_err());
/// ```
pub trait Stored: Sized {
    /// Adds the bytes of the value to `bytes`: at most 65,535 for a key, and 16
    /// MiB for a state.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Reads a value from all of the bytes that were written of it.
    ///
    /// # Errors
    /// If they are not those of a value of this type. The job stops then, with
    /// [`Error::State`](crate::Error::State).
    fn read(bytes: &[u8]) -> Result<Self, BoxError>;
}

/// As many bytes as they have to be.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BoxError> {
    bytes.try_into().map_err(|_| format!("{} bytes, where {N} are expected", bytes.len()).into())
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Stored for $number {
            #[inline]
            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn read(bytes: &[u8]) -> Result<Self, BoxError> {
                exactly(bytes).map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

impl<const N: usize> Stored for [u8; N] {
    #[inline]
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    #[inline]
    fn read(bytes: &[u8]) -> Result<Self, BoxError> {
        exactly(bytes)
    }
}

impl Stored for Vec<u8> {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn read(bytes: &[u8]) -> Result<Self, BoxError> {
        Ok(bytes.to_vec())
    }
}

impl Stored for String {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Result<Self, BoxError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

impl<A: Stored, B: Stored> Stored for (A, B) {
    fn write(&self, bytes: &mut Vec<u8>) {
        let at = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        self.0.write(bytes);
        // What has more bytes than that is longer than a state may be.
        let len = u32::try_from(bytes.len() - at - 4).unwrap_or(u32::MAX);
        bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        self.1.write(bytes);
    }

    fn read(bytes: &[u8]) -> Result<Self, BoxError> {
        let short = || format!("{} bytes are too few for a pair", bytes.len());
        let (len, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let len = usize::try_from(u32::from_le_bytes(*len))?;
        let (first, second) = rest.split_at_checked(len).ok_or_else(short)?;
        Ok((A::read(first)?, B::read(second)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(value: &impl Stored) -> Vec<u8> {
        // Behind what is there already.
        let mut bytes = vec![7];
        value.write(&mut bytes);
        bytes.split_off(1)
    }

    type Nested = (String, ((u8, i64), Vec<u8>));

    proptest! {
        #[test]
        fn what_was_written_is_read(number: i128, text: String, small: (u8, i64), bytes: Vec<u8>, array: [u8; 5]) {
            prop_assert_eq!(i128::read(&bytes_of(&number)).unwrap(), number);
            prop_assert_eq!(<[u8; 5]>::read(&bytes_of(&array)).unwrap(), array);
            let nested = (text, (small, bytes));
            prop_assert_eq!(Nested::read(&bytes_of(&nested)).unwrap(), nested);
        }

        #[test]
        fn pairs_that_differ_have_different_bytes(one: (String, String), other: (String, String)) {
            prop_assert_eq!(one == other, bytes_of(&one) == bytes_of(&other));
        }

        #[test]
        fn any_bytes_give_a_value_with_just_these_or_an_error(bytes: Vec<u8>) {
            if let Ok(value) = Nested::read(&bytes) {
                prop_assert_eq!(bytes_of(&value), bytes);
            }
        }
    }

    #[test]
    fn these_bytes_never_change() {
        assert_eq!(bytes_of(&0x0102_u64), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes_of(&-2_i16), [0xFE, 0xFF]);
        assert_eq!(bytes_of(&"LAX".to_owned()), b"LAX");
        assert_eq!(bytes_of(&vec![1, 2]), [1, 2]);
        assert_eq!(bytes_of(&("a".to_owned(), 1_u8)), [1, 0, 0, 0, b'a', 1]);
    }

    #[test]
    fn bytes_of_another_type_are_refused_in_words() {
        let told = |error: BoxError| error.to_string();
        assert_eq!(told(u64::read(b"abc").unwrap_err()), "3 bytes, where 8 are expected");
        assert!(told(String::read(&[0xFF]).unwrap_err()).contains("utf-8"));
        let pair = <(u8, u8)>::read;
        assert_eq!(told(pair(&[1, 0]).unwrap_err()), "2 bytes are too few for a pair");
        assert_eq!(told(pair(&[9, 0, 0, 0, 1]).unwrap_err()), "5 bytes are too few for a pair");
        assert!(pair(&[0xFF; 9]).is_err() && pair(&[1, 0, 0, 0, 1, 1, 1]).is_err());
    }
}
