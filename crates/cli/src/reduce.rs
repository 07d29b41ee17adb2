//! The reductions: what one key's value becomes when a record arrives.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::number::Number;

/// How the records of one key become one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    /// The newest record, whole.
    Last,
    /// How many records there were.
    Count,
    /// The sum of a field.
    Sum(String),
    /// The smallest value of a field.
    Min(String),
    /// The largest value of a field.
    Max(String),
}

/// The stored value is no number, so a reduction over numbers can't go on.
#[derive(Debug)]
pub(crate) struct NotANumber;

impl fmt::Display for NotANumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stored value is not a number: the store was made with another --reduce; use that one, or another --dir")
    }
}

impl std::error::Error for NotANumber {}

impl Reduce {
    /// The field whose number is reduced, if the reduction has one.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::Last | Self::Count => None,
            Self::Sum(field) | Self::Min(field) | Self::Max(field) => Some(field),
        }
    }

    /// Writes the new value of a key to `out` (cleared first).
    ///
    /// `old` is the stored value, `None` for a new key. `input` is the whole
    /// record for `last`, the field's number for sum, min and max (a source
    /// has checked that it is one), and is not looked at for `count`.
    pub(crate) fn fold(&self, old: Option<&[u8]>, input: &[u8], out: &mut Vec<u8>) -> Result<(), NotANumber> {
        out.clear();
        if *self == Self::Last {
            out.extend_from_slice(input);
            return Ok(());
        }
        let old = old.map(|text| Number::parse(text).ok_or(NotANumber)).transpose()?;
        let new = if *self == Self::Count { Number::Int(1) } else { Number::parse(input).ok_or(NotANumber)? };
        let folded = match (old, self) {
            (None, _) => new,
            (Some(old), Self::Min(_)) => pick(old, new, Ordering::Less),
            (Some(old), Self::Max(_)) => pick(old, new, Ordering::Greater),
            (Some(old), _) => old.plus(new),
        };
        folded.write(out);
        Ok(())
    }
}

/// `new` if it lies on the `wanted` side of `old`; equal numbers keep `old`.
fn pick(old: Number, new: Number, wanted: Ordering) -> Number {
    if new.order(old) == wanted { new } else { old }
}

impl FromStr for Reduce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, field) = match text.split_once(':') {
            Some((name, field)) => (name, Some(field)),
            None => (text, None),
        };
        let needs = || match field {
            Some(field) if !field.is_empty() => Ok(field.to_owned()),
            _ => Err(format!("`{name}` needs the field it works on: {name}:FIELD")),
        };
        let bare = |reduce| match field {
            None => Ok(reduce),
            Some(_) => Err(format!("`{name}` takes no field")),
        };
        match name {
            "last" => bare(Self::Last),
            "count" => bare(Self::Count),
            "sum" => needs().map(Self::Sum),
            "min" => needs().map(Self::Min),
            "max" => needs().map(Self::Max),
            _ => Err("expected last, count, sum:FIELD, min:FIELD or max:FIELD".to_owned()),
        }
    }
}

impl fmt::Display for Reduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Count => f.write_str("count"),
            Self::Sum(field) => write!(f, "sum:{field}"),
            Self::Min(field) => write!(f, "min:{field}"),
            Self::Max(field) => write!(f, "max:{field}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reduce(text: &str) -> Reduce {
        text.parse().unwrap()
    }

    fn run<T: AsRef<[u8]>>(reduce: &Reduce, inputs: impl IntoIterator<Item = T>) -> Option<String> {
        let mut value: Option<Vec<u8>> = None;
        for input in inputs {
            // Old content of `out` must not show through.
            let mut out = b"left over".to_vec();
            reduce.fold(value.as_deref(), input.as_ref(), &mut out).unwrap();
            value = Some(out);
        }
        value.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn text_forms_read_back() {
        for text in ["last", "count", "sum:a", "min:dep delay", "max:a:b"] {
            assert_eq!(reduce(text).to_string(), text);
        }
        assert_eq!(reduce("sum:a:b").field(), Some("a:b"));
        assert_eq!(reduce("count").field(), None);
    }

    #[test]
    fn wrong_forms_say_what_is_expected() {
        for (text, part) in [
            ("", "expected last, count"),
            ("avg:x", "expected last, count"),
            ("Last", "expected last, count"),
            ("sum", "sum:FIELD"),
            ("min:", "min:FIELD"),
            ("last:x", "takes no field"),
            ("count:", "takes no field"),
        ] {
            let error = text.parse::<Reduce>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn last_keeps_the_newest_record_as_it_is() {
        assert_eq!(run(&Reduce::Last, ["{\"a\":1}", "{ \"a\" : 2 }"]).unwrap(), "{ \"a\" : 2 }");
    }

    #[test]
    fn min_and_max_keep_the_number_and_sums_become_float() {
        assert_eq!(run(&reduce("min:x"), ["2.50", "3", "2.5"]).unwrap(), "2.5");
        assert_eq!(run(&reduce("max:x"), ["2", "2.0", "-7"]).unwrap(), "2");
        assert_eq!(run(&reduce("sum:x"), ["1", "2.0", "4"]).unwrap(), "7.0");
        assert_eq!(run(&reduce("sum:x"), ["0.5", "0.5"]).unwrap(), "1.0");
    }

    #[test]
    fn a_foreign_value_is_refused() {
        let mut out = Vec::new();
        for text in ["count", "sum:x", "min:x", "max:x"] {
            assert!(reduce(text).fold(Some(b"{}"), b"1", &mut out).is_err(), "{text}");
        }
        assert!(reduce("sum:x").fold(None, b"one", &mut out).is_err());
    }

    proptest! {
        #[test]
        fn integers_agree_with_the_oracle(numbers in proptest::collection::vec(any::<i64>(), 1..40)) {
            let inputs: Vec<String> = numbers.iter().map(i64::to_string).collect();
            let sum: i128 = numbers.iter().map(|n| i128::from(*n)).sum();
            prop_assert_eq!(run(&reduce("sum:x"), &inputs), Some(sum.to_string()));
            prop_assert_eq!(run(&reduce("min:x"), &inputs), numbers.iter().min().map(i64::to_string));
            prop_assert_eq!(run(&reduce("max:x"), &inputs), numbers.iter().max().map(i64::to_string));
            prop_assert_eq!(run(&reduce("count"), &inputs), Some(numbers.len().to_string()));
        }

        #[test]
        fn floats_agree_with_the_oracle(numbers in proptest::collection::vec(-1e12_f64..1e12, 1..40)) {
            let inputs: Vec<String> = numbers.iter().map(|n| format!("{n:?}")).collect();
            let sum = numbers.iter().copied().reduce(|a, b| a + b).unwrap();
            let min = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(run(&reduce("sum:x"), &inputs), Some(format!("{sum:?}")));
            prop_assert_eq!(run(&reduce("min:x"), &inputs), Some(format!("{min:?}")));
            prop_assert_eq!(run(&reduce("max:x"), &inputs), Some(format!("{max:?}")));
        }
    }
}
