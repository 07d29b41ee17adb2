//! The grammar of keys.
//!
//! ```text
//! LOG/owners/0000000005.json            the claim of term 5
//! LOG/term-0000000005/index/0000000012.json   its twelfth index
//! LOG/term-0000000005/parts/0000000007-core-0000.00000000000000000003.wal
//!                                       its seventh upload
//! ```
//!
//! `LOG` is the store's identity. No key is ever written a second time with
//! other bytes: a term has one owner, and an owner counts its uploads and its
//! indexes up. Keys sort by their numbers.

use corewal_format::LogId;

use crate::types::Term;

/// Greatest number that keeps the order of keys.
pub(crate) const MAX_NUMBER: u64 = 9_999_999_999;

/// What an object is, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Claim(Term),
    Index(Term, u64),
    Part(Term, u64),
}

impl Place {
    /// What stands under this key of a store; `None` if it is none of ours.
    pub(crate) fn parse(log: LogId, key: &str) -> Option<Self> {
        let rest = key.strip_prefix(&format!("{log}/"))?;
        if let Some(name) = rest.strip_prefix("owners/") {
            return number(name.strip_suffix(".json")?).map(|term| Self::Claim(Term(term)));
        }
        let (term, rest) = rest.strip_prefix("term-")?.split_once('/')?;
        let term = Term(number(term)?);
        if let Some(name) = rest.strip_prefix("index/") {
            return number(name.strip_suffix(".json")?).map(|index| Self::Index(term, index));
        }
        let (upload, name) = rest.strip_prefix("parts/")?.split_once('-')?;
        (!name.is_empty() && !name.contains('/')).then_some(Self::Part(term, number(upload)?))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.len() == 10 && text.bytes().all(|digit| digit.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

pub(crate) fn owners(log: LogId) -> String {
    format!("{log}/owners")
}

pub(crate) fn claim(log: LogId, term: Term) -> String {
    format!("{log}/owners/{:010}.json", term.0)
}

pub(crate) fn indexes(log: LogId, term: Term) -> String {
    format!("{log}/term-{:010}/index", term.0)
}

pub(crate) fn index(log: LogId, term: Term, number: u64) -> String {
    format!("{log}/term-{:010}/index/{number:010}.json", term.0)
}

/// The file's name is there for people; the number makes the key.
pub(crate) fn part(log: LogId, term: Term, upload: u64, name: &str) -> String {
    format!("{log}/term-{:010}/parts/{upload:010}-{}", term.0, name.replace('/', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_nothing_else_does() {
        let log = LogId([7; 16]);
        let term = Term(5);
        assert_eq!(Place::parse(log, &claim(log, term)), Some(Place::Claim(term)));
        assert_eq!(Place::parse(log, &index(log, term, 12)), Some(Place::Index(term, 12)));
        let key = part(log, term, 7, "core-0000/3.wal");
        assert_eq!(key, format!("{log}/term-0000000005/parts/0000000007-core-0000.3.wal"));
        assert_eq!(Place::parse(log, &key), Some(Place::Part(term, 7)));
        assert_eq!(Place::parse(LogId([8; 16]), &key), None);
        for other in ["owners/5.json", "owners/+000000005.json", "term-0000000005/index/x", "term-5/parts/1-a", "x"] {
            assert_eq!(Place::parse(log, &format!("{log}/{other}")), None, "{other}");
        }
    }
}
