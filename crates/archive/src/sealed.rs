//! A JSON document that carries its own hash: one line of JSON, one line with
//! the BLAKE3 of the first line. No bit of it can change unseen.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the archive's layout that this crate writes, and the newest it
/// reads.
pub(crate) const LAYOUT_VERSION: u32 = 1;

/// Hexadecimal digits of a hash.
const HASH_LEN: usize = 64;

/// Why bytes are no sealed document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Not what was written.
    Damaged(String),
    /// Whole, and of a newer version.
    Unsupported(u32),
}

/// The bytes of a document.
pub(crate) fn seal(document: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(document)?;
    bytes.push(b'\n');
    let hash = blake3::hash(&bytes).to_hex();
    bytes.extend_from_slice(hash.as_bytes());
    bytes.push(b'\n');
    Ok(bytes)
}

/// The document in bytes that [`seal`] gave. It has a field `version`.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Broken> {
    let damaged = |detail: &str| Broken::Damaged(detail.to_owned());
    let tail = bytes.len().checked_sub(HASH_LEN + 1).ok_or_else(|| damaged("too short"))?;
    let (line, hash) = bytes.split_at(tail);
    if blake3::hash(line).to_hex().as_bytes() != &hash[..HASH_LEN] || hash[HASH_LEN] != b'\n' {
        return Err(damaged("its hash does not match"));
    }
    // A newer version may have other fields: it is asked for alone first.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let stated: Version = serde_json::from_slice(line).map_err(|error| Broken::Damaged(error.to_string()))?;
    if stated.version > LAYOUT_VERSION {
        return Err(Broken::Unsupported(stated.version));
    }
    serde_json::from_slice(line).map_err(|error| Broken::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Note {
        version: u32,
        text: String,
    }

    #[test]
    fn no_bit_changes_unseen_and_nothing_is_cut_off() {
        let note = Note { version: 1, text: "line\nof \"text\"".to_owned() };
        let bytes = seal(&note).unwrap();
        assert_eq!(open::<Note>(&bytes), Ok(note));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(matches!(open::<Note>(&bytes), Err(Broken::Damaged(_))), "byte {at}, bit {bit}");
            }
            assert!(matches!(open::<Note>(&bytes[..at]), Err(Broken::Damaged(_))), "cut at {at}");
        }
        let longer = [&bytes[..], b"\n"].concat();
        assert!(matches!(open::<Note>(&longer), Err(Broken::Damaged(_))));
    }

    #[test]
    fn a_newer_version_is_no_damage() {
        let bytes = seal(&serde_json::json!({ "version": 2, "other": [] })).unwrap();
        assert_eq!(open::<Note>(&bytes), Err(Broken::Unsupported(2)));
    }
}
