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

/// Whose push made the content of an index, and which of its pushes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) maker: Nonce,
    pub(crate) number: u64,
}

/// Where a store on a machine stands in the line of owners: as whom it owned
/// the archive, and which content it took up.
///
/// A caller writes it down beside the store, durably, before the first push of
/// an owner, and hands it back with [`Takeover::Continue`] the next time. So a
/// store that was left behind by another copy of itself is told apart from one
/// that the archive goes on from. Printed and parsed as one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// As whom it owned the archive; `None` if it only was restored from it.
    pub(crate) own: Option<Nonce>,
    /// The content it began with.
    pub(crate) from: Option<Content>,
}

impl Lineage {
    /// Of a store that was restored from some content.
    pub(crate) fn restored(from: &Content) -> Self {
        Self { own: None, from: Some(from.clone()) }
    }

    /// Reads what [`fmt::Display`] prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (own, from) = text.split_once('/')?;
        let own = if own.is_empty() { None } else { Some(Nonce::parse(own)?) };
        let from = match from.split_once('.') {
            Some((maker, number)) => Some(Content { maker: Nonce::parse(maker)?, number: number.parse().ok()? }),
            None if from.is_empty() => None,
            None => return None,
        };
        let lineage = Self { own, from };
        (lineage.to_string() == text).then_some(lineage)
    }

    /// Whether a store of this line has all that some content has: it made it
    /// itself, or began with just this. What another owner made after a copy
    /// was taken is not in the copy.
    pub(crate) fn has(&self, content: &Content) -> bool {
        self.own.as_ref() == Some(&content.maker) || self.from.as_ref() == Some(content)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.own.iter().try_for_each(|own| write!(f, "{own}"))?;
        f.write_str("/")?;
        self.from.iter().try_for_each(|from| write!(f, "{}.{}", from.maker, from.number))
    }
}

/// What a new owner expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// No archive of this store.
    First,
    /// An archive whose newest content is in this store: its own, or just what
    /// it was restored from. None at all, if this line only ever claimed.
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
        let (own, maker) = (Nonce::draw().unwrap(), Nonce::draw().unwrap());
        let from = Content { maker: maker.clone(), number: 12 };
        for own in [None, Some(own.clone())] {
            for from in [None, Some(from.clone())] {
                let lineage = Lineage { own: own.clone(), from };
                assert_eq!(Lineage::parse(&lineage.to_string()), Some(lineage));
            }
        }
        for other in
            ["", "00/", &format!("{own}"), &format!("{own}/{maker}"), &format!("/{maker}.+1"), &format!("/{maker}.")]
        {
            assert_eq!(Lineage::parse(other), None, "{other}");
        }
    }
}
