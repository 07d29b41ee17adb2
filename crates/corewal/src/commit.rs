//! What a commit carries besides its batch.

use std::collections::BTreeMap;

use corewal_format::{CommitRef, MAX_OFFSET_FIELD_LEN, Offsets, encode_commit_body};

use crate::error::{Error, Result};

/// Source offsets and watermark of a commit.
///
/// ```
/// use corewal::Commit;
///
/// let commit = Commit::new().offset_u64("flights.csv", 4096).watermark(1_357_034_400);
/// # let _ = commit;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    offsets: BTreeMap<String, Vec<u8>>,
    watermark: Option<i64>,
}

impl Commit {
    /// A commit that moves no offset and no watermark.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the offset of a source: opaque bytes, up to 1,024, under a name of
    /// up to 1,024 bytes. Sources that a commit does not name keep theirs.
    #[must_use]
    pub fn offset(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.offsets.insert(name.into(), value.into());
        self
    }

    /// Sets the offset of a source to a number, kept as eight bytes,
    /// little-endian.
    #[must_use]
    pub fn offset_u64(self, name: impl Into<String>, value: u64) -> Self {
        self.offset(name, value.to_le_bytes())
    }

    /// Sets the watermark: no input with an earlier event time is expected.
    /// Its unit is the user's. A watermark never goes back: one below what the
    /// core has already committed changes nothing.
    #[must_use]
    pub fn watermark(mut self, watermark: i64) -> Self {
        self.watermark = Some(watermark);
        self
    }

    pub(crate) fn encode_into<'b>(&self, body: &'b mut Vec<u8>) -> Result<CommitRef<'b>> {
        let offsets = self.offsets.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        encode_commit_body(self.watermark, offsets, body).map_err(|what| {
            let longest = self.offsets.iter().map(|(name, value)| name.len().max(value.len())).max();
            let over = longest.filter(|&len| len > MAX_OFFSET_FIELD_LEN);
            match over {
                Some(len) => Error::TooLarge { what, len, limit: MAX_OFFSET_FIELD_LEN },
                None => Error::TooLarge { what, len: self.offsets.len(), limit: corewal_format::MAX_OFFSETS },
            }
        })?;
        Ok(CommitRef::parse(body).expect("what the encoder accepts, the decoder accepts"))
    }
}

/// Offsets and watermark of one core, as its commits leave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) offsets: Offsets,
    pub(crate) watermark: Option<i64>,
}

impl Progress {
    /// The same for a live commit and for one read back.
    pub(crate) fn apply(&mut self, commit: CommitRef<'_>) {
        for offset in commit.offsets() {
            match self.offsets.get_mut(offset.name) {
                Some(value) => {
                    value.clear();
                    value.extend_from_slice(offset.value);
                }
                None => {
                    self.offsets.insert(offset.name.to_owned(), offset.value.to_vec());
                }
            }
        }
        self.watermark = self.watermark.max(commit.watermark());
    }
}
