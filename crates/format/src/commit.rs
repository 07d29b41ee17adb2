//! The body of a commit record: source offsets and watermark.
//!
//! ```text
//! 0  1  bit 0: there is a watermark
//! 1  8  watermark, signed; zero if there is none
//! 9  2  number of offsets
//! 11    for each: name length (2), value length (2), name (UTF-8), value
//! ```

use std::collections::BTreeMap;

use crate::bytes::{array_at, u16_at};
use crate::limit::{MAX_OFFSET_FIELD_LEN, MAX_OFFSETS};
use crate::record::RecordError;

const FIXED_LEN: usize = 11;

/// Source offsets by name: opaque bytes, which the source understands.
pub type Offsets = BTreeMap<String, Vec<u8>>;

/// One source offset of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRef<'a> {
    /// The name of the source.
    pub name: &'a str,
    /// Its offset.
    pub value: &'a [u8],
}

impl OffsetRef<'_> {
    /// The offset as a little-endian number, if it has eight bytes.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_le_bytes)
    }
}

/// The checked body of a commit record, borrowed from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRef<'a> {
    body: &'a [u8],
}

impl<'a> CommitRef<'a> {
    /// Checks a commit's body.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] for anything [`encode_commit_body`] does not
    /// produce.
    pub fn parse(body: &'a [u8]) -> Result<Self, RecordError> {
        let malformed = |what| Err(RecordError::Malformed { what });
        if body.len() < FIXED_LEN {
            return malformed("a commit shorter than its fixed part");
        }
        if body[0] > 1 || (body[0] == 0 && body[1..9] != [0; 8]) {
            return malformed("a commit's watermark");
        }
        let count = u16_at(body, 9) as usize;
        if count > MAX_OFFSETS {
            return malformed("more offsets in a commit than allowed");
        }
        let mut rest = &body[FIXED_LEN..];
        for _ in 0..count {
            let Some((offset, behind)) = split_offset(rest) else {
                return malformed("an offset of a commit");
            };
            if offset.value.len() > MAX_OFFSET_FIELD_LEN || offset.name.len() > MAX_OFFSET_FIELD_LEN {
                return malformed("an offset over the limit");
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(Self { body }) } else { malformed("bytes behind the last offset of a commit") }
    }

    /// The body itself.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.body
    }

    /// The watermark, if the commit moves it. Its unit is the user's.
    #[must_use]
    pub fn watermark(&self) -> Option<i64> {
        (self.body[0] == 1).then(|| i64::from_le_bytes(array_at(self.body, 1)))
    }

    /// The offsets that the commit moves, in the order they were given.
    pub fn offsets(&self) -> impl Iterator<Item = OffsetRef<'a>> + use<'a> {
        let mut rest = &self.body[FIXED_LEN..];
        std::iter::from_fn(move || {
            let (offset, behind) = split_offset(rest)?;
            rest = behind;
            Some(offset)
        })
    }
}

fn split_offset(bytes: &[u8]) -> Option<(OffsetRef<'_>, &[u8])> {
    let lengths = bytes.get(..4)?;
    let name_end = 4 + u16_at(lengths, 0) as usize;
    let value_end = name_end + u16_at(lengths, 2) as usize;
    let name = std::str::from_utf8(bytes.get(4..name_end)?).ok()?;
    let value = bytes.get(name_end..value_end)?;
    Some((OffsetRef { name, value }, &bytes[value_end..]))
}

/// Writes a commit's body to the end of `out`.
///
/// # Errors
/// The name of the limit that would be broken, with `out` as it was: more than
/// [`MAX_OFFSETS`] offsets, or a name or a value over [`MAX_OFFSET_FIELD_LEN`].
pub fn encode_commit_body<'a>(
    watermark: Option<i64>,
    offsets: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let start = out.len();
    out.push(u8::from(watermark.is_some()));
    out.extend_from_slice(&watermark.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    let mut count = 0_u16;
    for (name, value) in offsets {
        let broken = if usize::from(count) == MAX_OFFSETS {
            Some("offsets in one commit")
        } else if name.len() > MAX_OFFSET_FIELD_LEN {
            Some("the name of an offset")
        } else if value.len() > MAX_OFFSET_FIELD_LEN {
            Some("the value of an offset")
        } else {
            None
        };
        if let Some(limit) = broken {
            out.truncate(start);
            return Err(limit);
        }
        count += 1;
        #[expect(clippy::cast_possible_truncation, reason = "both lengths are within MAX_OFFSET_FIELD_LEN")]
        let (name_len, value_len) = (name.len() as u16, value.len() as u16);
        out.extend_from_slice(&name_len.to_le_bytes());
        out.extend_from_slice(&value_len.to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
    }
    out[start + 9..start + FIXED_LEN].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_reads_back_what_it_was_given() {
        let mut body = Vec::new();
        let offsets = [("flights.csv", &7_u64.to_le_bytes()[..]), ("", b"opaque")];
        encode_commit_body(Some(-5), offsets, &mut body).unwrap();
        let commit = CommitRef::parse(&body).unwrap();
        assert_eq!(commit.watermark(), Some(-5));
        let read: Vec<_> = commit.offsets().collect();
        assert_eq!(read.iter().map(|o| (o.name, o.value)).collect::<Vec<_>>(), offsets);
        assert_eq!((read[0].as_u64(), read[1].as_u64()), (Some(7), None));
    }

    #[test]
    fn limits_are_refused_and_leave_the_buffer_as_it_was() {
        let mut body = vec![9];
        let long = "n".repeat(MAX_OFFSET_FIELD_LEN + 1);
        assert!(encode_commit_body(None, [(long.as_str(), &b""[..])], &mut body).is_err());
        assert!(encode_commit_body(None, vec![("n", &b""[..]); MAX_OFFSETS + 1], &mut body).is_err());
        assert_eq!(body, [9]);
    }

    #[test]
    fn a_watermark_is_there_or_is_zeros() {
        let mut body = Vec::new();
        encode_commit_body(Some(5), [], &mut body).unwrap();
        for (flag, value, good) in [(1, 5, true), (0, 0, true), (0, 5, false), (2, 5, false), (2, 0, false)] {
            body[..2].copy_from_slice(&[flag, value]);
            assert_eq!(CommitRef::parse(&body).is_ok(), good, "flag {flag}, first byte {value}");
        }
    }

    #[test]
    fn every_cut_of_a_commit_is_refused() {
        let mut body = Vec::new();
        encode_commit_body(Some(1), [("a", &b"1"[..]), ("b", &b"2"[..])], &mut body).unwrap();
        for len in 0..body.len() {
            assert!(CommitRef::parse(&body[..len]).is_err(), "{len}");
        }
    }
}
