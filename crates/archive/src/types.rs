//! Names of owners: terms, nonces and the line from one owner to the next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of an owner of the archive, from 1. A greater one fences all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sixteen random bytes as 32 hexadecimal digits: what tells one owner from
/// another that asked for the same term.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Nonce(String);

impl Nonce {
    /// A fresh one.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Nonce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a nonce")
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

/// Where a store on a machine stands in the line of owners: who owns the
/// archive for it, and whose content that owner took up.
///
/// A caller writes it down beside the store, durably, before the first push of
/// an owner, and hands it back with [`Takeover::Continue`] the next time. So a
/// store that was left behind by another copy of itself is told apart from one
/// that the archive goes on from. Printed and parsed as one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub(crate) held: Nonce,
    pub(crate) from: Option<Nonce>,
}

impl Lineage {
    /// Reads what [`fmt::Display`] prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('-') {
            Some((held, from)) => Some(Self { held: Nonce::parse(held)?, from: Some(Nonce::parse(from)?) }),
            None => Some(Self { held: Nonce::parse(text)?, from: None }),
        }
    }

    /// Whether a store of this line may go on from content that `maker` made.
    pub(crate) fn descends_from(&self, maker: &Nonce) -> bool {
        self.held == *maker || self.from.as_ref() == Some(maker)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.held)?;
        self.from.iter().try_for_each(|from| write!(f, "-{from}"))
    }
}

/// What a new owner expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// No archive of this store.
    First,
    /// An archive whose newest content this store descends from, or none yet
    /// where this very line had claimed before its first push.
    Continue(Lineage),
    /// Whatever is there. What the archive has and the store has not is
    /// removed with the next pushes; a damaged newest index is passed over.
    Force,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_reads_back_what_it_prints() {
        let (held, from) = (Nonce::draw().unwrap(), Nonce::draw().unwrap());
        for lineage in [Lineage { held: held.clone(), from: None }, Lineage { held: held.clone(), from: Some(from) }] {
            assert_eq!(Lineage::parse(&lineage.to_string()), Some(lineage));
        }
        for other in ["", "-", "00", &format!("{held}-"), &held.to_string().to_uppercase().replace('0', "G")] {
            assert_eq!(Lineage::parse(other), None, "{other}");
        }
    }
}
