//! Is this still the input whose offset was committed?
//!
//! An offset means something only in the bytes it was taken from. With each
//! offset a store keeps the fingerprint of the input's beginning; before
//! reading on, it is compared. Appending to a file keeps the fingerprint,
//! replacing it does not.

use twox_hash::XxHash3_64;

use super::Resume;
use crate::exit::Failure;

/// At most so many bytes of an input's beginning are hashed.
pub(crate) const PREFIX: usize = 4096;

/// The hash (XXH3, 64 bits, seed 0) of an input's first bytes and how many
/// they are: [`PREFIX`], or the committed offset where that is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// The hash.
    pub(crate) hash: u64,
    /// How many bytes it covers.
    pub(crate) length: u32,
}

impl Fingerprint {
    /// The fingerprint of an input that begins with `head` (at least
    /// `min(PREFIX, position)` bytes), for an offset of `position`.
    pub(crate) fn of(head: &[u8], position: u64) -> Self {
        let length = prefix_length(position).min(head.len());
        Self { hash: XxHash3_64::oneshot(&head[..length]), length: u32::try_from(length).expect("at most PREFIX") }
    }

    /// For storing: the hash and the length, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// What [`Fingerprint::to_bytes`] wrote, or `None` when it is not that.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (hash, length) = bytes.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes(length.try_into().ok()?);
        (length as usize <= PREFIX).then(|| Self { hash: u64::from_le_bytes(*hash), length })
    }
}

/// How many bytes the fingerprint for an offset covers.
pub(super) fn prefix_length(position: u64) -> usize {
    usize::try_from(position).map_or(PREFIX, |position| position.min(PREFIX))
}

/// Whether an input of `length` bytes that begins with `head` is the one that
/// `resume` was taken from.
pub(super) fn check(name: &str, length: u64, head: &[u8], resume: &Resume) -> Result<(), Failure> {
    let Resume { position, fingerprint } = *resume;
    if length < position {
        return Err(Failure::data(format!(
            "{name} is shorter ({length} bytes) than the offset already committed ({position}): it was cut or replaced; \
             bring the old content back, or give the new content a name of its own with --source-name"
        )));
    }
    if Fingerprint::of(head, position) != fingerprint {
        return Err(Failure::data(format!(
            "{name} does not begin with the same {} bytes as when its offset {position} was committed: it was replaced or \
             edited; bring the old content back, or give the new content a name of its own with --source-name",
            fingerprint.length
        )));
    }
    Ok(())
}

/// The error when the bytes at a committed offset go on with a line that had
/// been taken as finished.
pub(super) fn grown(name: &str, position: u64) -> Failure {
    Failure::data(format!(
        "{name}: the last line grew after it was taken: offset {position}, already committed, is now inside a line; \
         end that line with a newline at byte {position} and run again, or read the file under a new name with --source-name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resume(head: &[u8], position: u64) -> Resume {
        Resume { position, fingerprint: Fingerprint::of(head, position) }
    }

    #[test]
    fn the_hash_is_stable() {
        // XXH3-64 of nothing and of "abc", as published: a store outlives the
        // program that wrote it.
        assert_eq!(Fingerprint::of(b"", 0), Fingerprint { hash: 0x2d06_8005_38d3_94c2, length: 0 });
        assert_eq!(Fingerprint::of(b"abcdef", 3), Fingerprint { hash: 0x78af_5f94_892f_3950, length: 3 });
    }

    #[test]
    fn only_the_committed_prefix_counts() {
        let long: Vec<u8> = (0..6000_u32).map(|i| (i % 7) as u8).collect();
        assert_eq!(Fingerprint::of(&long, 5000), Fingerprint::of(&long[..PREFIX], u64::MAX));
        assert_ne!(Fingerprint::of(&long, 4095), Fingerprint::of(&long, 4096));
        check("f", 100, b"abcX", &resume(b"abcY", 3)).unwrap();
    }

    #[test]
    fn bytes_read_back() {
        let print = Fingerprint::of(b"abc", 3);
        assert_eq!(Fingerprint::from_bytes(&print.to_bytes()), Some(print));
        assert_eq!(Fingerprint::from_bytes(&print.to_bytes()[..11]), None);
        assert_eq!(Fingerprint::from_bytes(&[0xff; 12]), None);
    }

    #[test]
    fn a_shorter_or_other_input_is_refused() {
        let stored = resume(b"abcdef", 6);
        check("f", 6, b"abcdef", &stored).unwrap();
        let error = check("f", 5, b"abcde", &stored).unwrap_err().to_string();
        assert!(error.starts_with("f is shorter (5 bytes) than the offset already committed (6): "), "{error}");
        let error = check("f", 6, b"abcdeF", &stored).unwrap_err().to_string();
        assert!(error.contains("does not begin with the same 6 bytes"), "{error}");
    }
}
