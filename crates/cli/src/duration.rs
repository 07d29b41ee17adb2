//! `--epoch-every`: a span of time or a number of records.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

/// When an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochEvery {
    /// After so much time.
    Time(Duration),
    /// After so many records, whatever the time.
    Records(NonZeroU64),
}

const EXPECTED: &str = "expected a time with its unit (100ms, 2s, 1m) or a number of records (50000)";

impl FromStr for EpochEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<u64>().map(NonZeroU64::new) {
                Ok(Some(records)) => Ok(Self::Records(records)),
                Ok(None) => Err("an epoch needs at least one record".to_owned()),
                Err(_) => Err(format!("{text} is too many records: at most {}", u64::MAX)),
            };
        }
        match humantime::parse_duration(text) {
            Ok(time) if time.is_zero() => Err("an epoch needs some time: at least 1ms".to_owned()),
            Ok(time) => Ok(Self::Time(time)),
            Err(_) => Err(EXPECTED.to_owned()),
        }
    }
}

impl fmt::Display for EpochEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => humantime::format_duration(*time).fmt(f),
            Self::Records(records) => records.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_read_back() {
        for (text, time) in
            [("100ms", Duration::from_millis(100)), ("2s", Duration::from_secs(2)), ("1m 30s", Duration::from_secs(90))]
        {
            let every: EpochEvery = text.parse().unwrap();
            assert_eq!(every, EpochEvery::Time(time));
            assert_eq!(every.to_string(), text);
        }
        let every: EpochEvery = "50000".parse().unwrap();
        assert_eq!(every, EpochEvery::Records(NonZeroU64::new(50_000).unwrap()));
        assert_eq!(every.to_string(), "50000");
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        for (text, part) in [
            ("", "expected"),
            ("0", "at least one record"),
            ("0s", "some time"),
            ("-1", "expected"),
            ("1,5s", "expected"),
            ("soon", "expected"),
            ("99999999999999999999", "too many"),
        ] {
            let error = text.parse::<EpochEvery>().unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
