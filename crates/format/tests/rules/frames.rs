//! Frames.

use corewal_format::{
    BLOCK_LEN, Epoch, FRAME_HEADER_LEN, Frame, FrameError, FrameFields, FrameHeader, Lsn, MAX_EPOCH, MAX_FRAME_LEN,
    Opening, RECORD_HEADER_LEN, Record, Sequence, TimestampNs, crc32c_append, finish_frame,
};

const SEED: u32 = 7;
const LSN: Lsn = Lsn(5 * BLOCK_LEN as u64);

fn fields(lsn: Lsn) -> FrameFields {
    FrameFields {
        lsn,
        durable_lsn: lsn,
        epoch: Epoch(1),
        sequence: Sequence(0),
        timestamp: TimestampNs(0),
        opening: Opening(1),
        sealed: false,
    }
}

/// A frame of two records with other bytes at `at`, and the checksum that
/// belongs to them.
fn forged(lsn: Lsn, at: usize, bytes: &[u8]) -> Vec<u8> {
    let record = Record::Payload(b"payload");
    let mut frame = vec![0; FRAME_HEADER_LEN + 2 * record.encoded_len()];
    let (first, second) = frame[FRAME_HEADER_LEN..].split_at_mut(record.encoded_len());
    record.encode(first);
    record.encode(second);
    finish_frame(&mut frame, 2, &fields(lsn), SEED);
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = crc32c_append(SEED, &frame[4..]);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
    frame
}

#[track_caller]
fn accepted(at: usize, bytes: &[u8]) {
    let frame = forged(LSN, at, bytes);
    let read = Frame::decode(&frame, SEED, LSN).expect("within the rules");
    assert_eq!(read.bytes(), frame);
}

#[track_caller]
fn refused(name: &'static str, at: usize, bytes: &[u8]) {
    let refusal = Frame::decode(&forged(LSN, at, bytes), SEED, LSN).map(|frame| frame.header);
    assert_eq!(refusal, Err(FrameError::Field { name }));
    let told = refusal.unwrap_err().to_string();
    assert!(told.contains(name), "{told}");
}

#[test]
fn flags_other_than_the_seal_and_reserved_bytes_are_refused() {
    accepted(6, &[0, 0]);
    accepted(6, &[1, 0]);
    for flags in [[2, 0], [3, 0], [0, 1], [0, 128]] {
        refused("flags", 6, &flags);
    }
    for byte in 60..64 {
        refused("reserved", byte, &[1]);
    }
}

#[test]
fn there_is_a_record() {
    refused("records", 12, &0_u32.to_le_bytes());
}

/// A log that says so is gone on with; a refusal would have to be everybody's,
/// the writer's and the repair's too.
#[test]
fn behind_the_last_sequence_comes_the_first() {
    let frame = forged(LSN, 40, &u64::MAX.to_le_bytes());
    let frame = Frame::decode(&frame, SEED, LSN).expect("within the rules");
    let sequences: Vec<_> = frame.entries().map(|entry| entry.expect("a record").sequence).collect();
    assert_eq!(sequences, [Sequence(u64::MAX), Sequence(0)]);
}

#[test]
fn no_frame_knows_itself_durable() {
    accepted(24, &LSN.0.to_le_bytes());
    accepted(24, &0_u64.to_le_bytes());
    refused("durable LSN", 24, &(LSN.0 + 1).to_le_bytes());
}

#[test]
fn epochs_and_openings_count_from_one() {
    accepted(32, &MAX_EPOCH.0.to_le_bytes());
    for epoch in [0, MAX_EPOCH.0 + 1, u64::MAX] {
        refused("epoch", 32, &epoch.to_le_bytes());
    }
    accepted(56, &u32::MAX.to_le_bytes());
    refused("opening", 56, &0_u32.to_le_bytes());
}

#[test]
fn a_frame_ends_at_a_position() {
    let len = forged(LSN, 6, &[0]).len() as u64;
    for (lsn, fits) in [(Lsn(u64::MAX - len), true), (Lsn(u64::MAX - len + 1), false)] {
        let found = Frame::decode(&forged(lsn, 6, &[0]), SEED, lsn).map(|frame| frame.header.fields.lsn);
        assert_eq!(found, if fits { Ok(lsn) } else { Err(FrameError::Field { name: "LSN" }) });
    }
}

#[test]
fn a_header_states_a_length_that_a_frame_can_have() {
    let peek = |len: usize| FrameHeader::peek(&forged(LSN, 8, &(len as u32).to_le_bytes()), LSN);
    let least = FRAME_HEADER_LEN + RECORD_HEADER_LEN;
    for len in [least, MAX_FRAME_LEN] {
        assert_eq!(peek(len).unwrap().len, len);
    }
    for len in [0, least - 1, MAX_FRAME_LEN + 1] {
        assert_eq!(peek(len), Err(FrameError::Length { found: len as u32 }));
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let errors = [
        (FrameError::Zeroed, "zeros"),
        (FrameError::Magic, "magic"),
        (FrameError::Length { found: 17 }, "17"),
        (FrameError::Lsn { found: Lsn(18) }, "18"),
        (FrameError::Incomplete { needed: 19 }, "19"),
        (FrameError::Checksum, "checksum"),
    ];
    for (error, said) in errors {
        assert!(error.to_string().contains(said), "{error}");
    }
}
