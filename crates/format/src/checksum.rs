//! The one checksum of the format: CRC-32C.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// CRC-32C of what `first` is the checksum of, followed by `bytes`.
#[expect(clippy::cast_possible_truncation, reason = "a checksum of 32 bits in a wider number")]
#[must_use]
pub fn crc32c_append(first: u32, bytes: &[u8]) -> u32 {
    // The state between two parts is the checksum before its final inversion.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!first));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_check_value_and_with_another_implementation() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        for len in (0..600).chain([1023, 4092, 4096, 65_535, 70_000 - 7]) {
            for (from, first) in [(0, 0), (1, 1), (7, 0xDEAD_BEEF)] {
                let part = &bytes[from..from + len];
                assert_eq!(crc32c_append(first, part), ::crc32c::crc32c_append(first, part), "{len} bytes from {from}");
            }
        }
    }
}
