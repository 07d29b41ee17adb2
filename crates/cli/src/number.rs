//! Numbers as the reductions know them: exact integers, or floats.
//!
//! The text form is the value a store keeps. An integer's text has digits and
//! a sign only; a float's always has a `.` or an exponent, so that reading the
//! text back gives the same kind and the same bits.

use std::cmp::Ordering;
use std::io::Write as _;

/// A finite number: an integer within `i128`, or an `f64`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// An exact integer.
    Int(i128),
    /// A finite float.
    Float(f64),
}

/// Integers of so many digits fit an `i64` whatever the digits are.
const SHORT: usize = 18;

impl Number {
    /// Reads a number, or `None` when `text` is none or is not finite.
    ///
    /// Accepts what JSON accepts, and besides that what tables often hold: a
    /// leading `+`, leading zeros, `.5` and `5.`. Words (`NaN`, `inf`) are not
    /// numbers. An integer that `i128` can't hold is read as a float.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if let Some(short) = parse_short(text) {
            return Some(Self::Int(i128::from(short)));
        }
        let text = std::str::from_utf8(text).ok()?;
        if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            return None;
        }
        if let Ok(int) = text.parse::<i128>() {
            return Some(Self::Int(int));
        }
        let float = text.parse::<f64>().ok()?;
        float.is_finite().then_some(Self::Float(float))
    }

    /// Appends the text form: shortest that reads back as the same number.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(int) => write!(out, "{int}"),
            // `{:?}` keeps `.0` and uses an exponent where it is shorter, so
            // the text can't be mistaken for an integer.
            Self::Float(float) => write!(out, "{float:?}"),
        }
        .expect("writing to memory does not fail");
    }

    /// The sum. Exact between integers; a float on either side, or integers
    /// whose sum `i128` can't hold, make it a float. A float sum beyond the
    /// largest finite one stays at that one, because the store holds numbers
    /// only.
    pub(crate) fn plus(self, other: Self) -> Self {
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && let Some(sum) = a.checked_add(b)
        {
            return Self::Int(sum);
        }
        Self::Float((self.to_f64() + other.to_f64()).clamp(f64::MIN, f64::MAX))
    }

    /// Orders by value, exactly: an integer is never rounded to compare it.
    pub(crate) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => order_floats(a, b),
            (Self::Int(a), Self::Float(b)) => order_int_float(a, b),
            (Self::Float(a), Self::Int(b)) => order_int_float(b, a).reverse(),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a sum with a float in it is a float")]
    fn to_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }
}

/// Both are finite, so they compare; 0.0 and -0.0 are equal.
fn order_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

fn order_int_float(int: i128, float: f64) -> Ordering {
    /// 2^127: the first value above `i128::MAX`, exact as a float.
    const BOUND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if float >= BOUND {
        return Ordering::Less;
    }
    if float < -BOUND {
        return Ordering::Greater;
    }
    // The whole part now fits an i128 exactly; the fraction decides a tie.
    #[allow(clippy::cast_possible_truncation, reason = "bounded just above")]
    let whole = float.trunc() as i128;
    int.cmp(&whole).then_with(|| order_floats(0.0, float.fract()))
}

/// The fast path: plain digits with an optional minus, few enough for `i64`.
fn parse_short(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > SHORT {
        return None;
    }
    let mut value = 0_i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(number: Number) -> String {
        let mut out = Vec::new();
        number.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn reprint(input: &str) -> Option<String> {
        Number::parse(input.as_bytes()).map(text)
    }

    #[test]
    fn reads_numbers_and_prints_them_shortest() {
        for (input, printed) in [
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            ("+5", "5"),
            ("-12", "-12"),
            ("123456789012345678", "123456789012345678"),
            ("1234567890123456789", "1234567890123456789"),
            ("-170141183460469231731687303715884105728", "-170141183460469231731687303715884105728"),
            ("1.50", "1.5"),
            ("3.0", "3.0"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("1e2", "100.0"),
            ("1E300", "1e300"),
            ("170141183460469231731687303715884105728", "1.7014118346046923e38"),
        ] {
            assert_eq!(reprint(input).as_deref(), Some(printed), "{input}");
        }
    }

    #[test]
    fn refuses_what_is_no_finite_number() {
        for input in [
            "",
            "-",
            "+",
            ".",
            "e5",
            "NaN",
            "nan",
            "inf",
            "-infinity",
            "1e999",
            "0x10",
            "1 ",
            " 1",
            "1,5",
            "1_0",
            "--1",
            "١",
        ] {
            assert_eq!(reprint(input), None, "{input:?}");
        }
    }

    #[test]
    fn sums_stay_exact_until_a_float_joins() {
        let big = Number::Int(i128::from(u64::MAX));
        assert_eq!(text(big.plus(Number::Int(1))), "18446744073709551616");
        assert_eq!(text(Number::Int(1).plus(Number::Float(2.0))), "3.0");
        assert_eq!(text(Number::Int(i128::MAX).plus(Number::Int(1))), "1.7014118346046923e38");
        assert_eq!(text(Number::Float(f64::MAX).plus(Number::Float(f64::MAX))), text(Number::Float(f64::MAX)));
    }

    #[test]
    fn orders_without_rounding() {
        // 2^53 + 1 is no f64: rounding would call these two equal.
        let int = Number::Int((1 << 53) + 1);
        assert_eq!(int.order(Number::Float(9_007_199_254_740_992.0)), Ordering::Greater);
        assert_eq!(Number::Float(9_007_199_254_740_992.0).order(int), Ordering::Less);
        assert_eq!(Number::Int(1).order(Number::Float(1.5)), Ordering::Less);
        assert_eq!(Number::Int(-1).order(Number::Float(-1.5)), Ordering::Greater);
        assert_eq!(Number::Int(2).order(Number::Float(2.0)), Ordering::Equal);
        assert_eq!(Number::Int(i128::MAX).order(Number::Float(1e300)), Ordering::Less);
        assert_eq!(Number::Int(i128::MIN).order(Number::Float(-1e300)), Ordering::Greater);
        assert_eq!(Number::Int(i128::MIN).order(Number::Float(-(2_f64.powi(127)))), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn every_integer_reads_back(int: i128) {
            prop_assert_eq!(reprint(&int.to_string()), Some(int.to_string()));
        }

        #[test]
        fn the_short_way_agrees_with_the_long_way(int: i64) {
            let text = int.to_string();
            if let Some(short) = parse_short(text.as_bytes()) {
                prop_assert_eq!(short, int);
            } else {
                prop_assert!(text.trim_start_matches('-').len() > SHORT);
            }
        }

        #[test]
        fn every_finite_float_reads_back_bit_for_bit(float in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO) {
            match Number::parse(text(Number::Float(float)).as_bytes()) {
                Some(Number::Float(back)) => prop_assert_eq!(back.to_bits(), float.to_bits()),
                other => prop_assert!(false, "{:?} became {:?}", float, other),
            }
        }

        #[test]
        fn any_bytes_are_safe(bytes: Vec<u8>) {
            if let Some(number) = Number::parse(&bytes) {
                prop_assert!(Number::parse(text(number).as_bytes()).is_some());
            }
        }
    }
}
