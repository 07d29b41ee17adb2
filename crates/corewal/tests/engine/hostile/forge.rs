//! Bytes that lie, with an intact checksum.

use corewal::format::{BLOCK_LEN, FRAME_HEADER_LEN, SegmentHeader};

/// Fields of a frame's header, by their position: length, records, LSN,
/// durable LSN, epoch, sequence, timestamp, opening, flags.
pub(crate) const FRAME_FIELDS: [(usize, usize); 9] =
    [(8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8), (56, 4), (6, 2)];
/// Fields of a segment's header: version, core, cores, block length, segment,
/// base LSN.
pub(crate) const SEGMENT_FIELDS: [(usize, usize); 6] = [(8, 4), (32, 2), (34, 2), (36, 4), (40, 8), (48, 8)];
/// Numbers at which something could go wrong.
pub(crate) const NUMBERS: [u64; 14] = [
    0,
    1,
    63,
    64,
    4096,
    12_288,
    1 << 16,
    16 << 20,
    (1 << 31) - 1,
    1 << 32,
    (1 << 62) - 4096,
    1 << 62,
    u64::MAX - 4095,
    u64::MAX,
];

/// Puts a number into a field, cut to its width.
pub(crate) fn put(bytes: &mut [u8], (at, width): (usize, usize), number: u64) {
    if let Some(field) = bytes.get_mut(at..at + width) {
        field.copy_from_slice(&number.to_le_bytes()[..width]);
    }
}

/// Makes the checksums of a segment's file match what it holds: the header's,
/// and that of the frame each block claims to begin.
pub(crate) fn sign(file: &mut [u8]) {
    if file.len() < BLOCK_LEN {
        return;
    }
    let first = crc32c::crc32c(&file[..12]);
    let checksum = crc32c::crc32c_append(first, &file[16..64]);
    put(file, (12, 4), checksum.into());
    let Ok(header) = SegmentHeader::decode(file) else { return };
    let seed = header.identity.checksum_seed();
    // From the end, so that a frame's checksum covers the signed ones within.
    for at in (BLOCK_LEN..file.len()).step_by(BLOCK_LEN).rev() {
        let rest = &mut file[at..];
        if rest.len() < FRAME_HEADER_LEN || rest[4..6] != 0xF7C3_u16.to_le_bytes() {
            continue;
        }
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        if (FRAME_HEADER_LEN..=rest.len()).contains(&len) {
            let checksum = crc32c::crc32c_append(seed, &rest[4..len]);
            put(rest, (0, 4), checksum.into());
        }
    }
}

/// A manifest with this line in the place of the one that begins like it, and
/// an intact checksum.
pub(crate) fn manifest_with(text: &str, line: &str) -> String {
    let word = line.split(' ').next().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("crc32c"));
    let body: String =
        lines.map(|old| if old.starts_with(word) { format!("{line}\n") } else { format!("{old}\n") }).collect();
    format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

/// A manifest with `number` in the place of its decimal number at `place`,
/// counted from its beginning, and an intact checksum; `None` if it has not so
/// many.
pub(crate) fn manifest_with_number(text: &str, place: usize, number: u64) -> Option<String> {
    let body = &text[..text.rfind("\ncrc32c").unwrap() + 1];
    let mut at = 0;
    let mut seen = 0;
    for word in body.split_inclusive([' ', '\n']) {
        let digits = word.trim_end();
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() < 21 {
            if seen == place {
                let body = format!("{}{number}{}", &body[..at], &body[at + digits.len()..]);
                return Some(format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes())));
            }
            seen += 1;
        }
        at += word.len();
    }
    None
}
