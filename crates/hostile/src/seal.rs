//! Mends what would stop an input at the door: checksums and, if asked,
//! positions and numbers that follow from where a frame stands.

use corewal::format::{BLOCK_LEN, FRAME_HEADER_LEN, SegmentHeader, SegmentIdentity, block_align};

use crate::forge::{FRAME_FIELDS, put, sign};

/// The checksums match.
pub(crate) const SIGNED: u8 = 1;
/// The frames state the places at which they stand.
pub(crate) const PLACED: u8 = 2;
/// The file states that it is the one for which it is taken.
pub(crate) const NAMED: u8 = 4;
/// The records are counted through.
pub(crate) const NUMBERED: u8 = 8;

const MAGIC: [u8; 2] = 0xF7C3_u16.to_le_bytes();

/// Mends what `mode` says of a file that is taken for the segment or run
/// `expected` of a store of one core.
pub(crate) fn mend(file: &mut [u8], mode: u8, expected: &SegmentHeader) {
    if file.len() < BLOCK_LEN {
        return;
    }
    if mode & NAMED != 0 {
        let mut block = [0; BLOCK_LEN];
        expected.encode(&mut block);
        file[..64].copy_from_slice(&block[..64]);
    }
    if mode & SIGNED == 0 {
        return;
    }
    // Once for the header, whose base the frames' places need.
    sign(file);
    let base = SegmentHeader::decode(file).map_or(0, |header| header.identity.base_lsn.0);
    let mut sequence = None;
    let mut at = BLOCK_LEN;
    while at + FRAME_HEADER_LEN <= file.len() {
        let frame = &mut file[at..];
        if frame[4..6] != MAGIC {
            at += BLOCK_LEN;
            continue;
        }
        if mode & PLACED != 0 {
            put(frame, FRAME_FIELDS[2], base + at as u64);
        }
        let number = |frame: &[u8], (at, width): (usize, usize)| {
            frame[at..at + width].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        };
        if mode & NUMBERED != 0 {
            put(frame, FRAME_FIELDS[5], sequence.unwrap_or_else(|| number(frame, FRAME_FIELDS[5])));
        }
        sequence = number(frame, FRAME_FIELDS[5]).checked_add(number(frame, FRAME_FIELDS[1]));
        let len = number(frame, FRAME_FIELDS[0]) as usize;
        at += block_align(len.clamp(1, frame.len()));
    }
    sign(file);
}

/// The header by which a store of one core knows a file.
pub(crate) fn header(identity: SegmentIdentity, run: bool) -> SegmentHeader {
    SegmentHeader { identity, cores: 1, recycled: false, run }
}
