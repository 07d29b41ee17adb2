//! Every decoder takes any bytes: what was encoded comes back, anything else is
//! an error, and nothing panics.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use corewal_format::{
    BLOCK_LEN, CommitRef, CoreId, Epoch, FRAME_HEADER_LEN, Frame, FrameError, FrameFields, FrameHeader, LogId, Lsn,
    Manifest, Opening, RECORD_HEADER_LEN, Record, SegmentError, SegmentHeader, SegmentId, SegmentIdentity, Sequence,
    TimestampNs, encode_commit_body, finish_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LSN: Lsn = Lsn(3 * BLOCK_LEN as u64);

/// A record that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Payload(Vec<u8>),
    Commit(Vec<u8>),
    Mark(u64),
    Barrier(u64),
}

impl Owned {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Put(key, value) => Record::Put { key, value },
            Self::Delete(key) => Record::Delete { key },
            Self::Payload(bytes) => Record::Payload(bytes),
            Self::Commit(body) => Record::Commit(CommitRef::parse(body).unwrap()),
            Self::Mark(id) => Record::CheckpointMark { id: *id },
            Self::Barrier(complete) => Record::Barrier { epoch: Epoch(9), complete: Epoch(complete % 9) },
        }
    }
}

fn commit() -> impl Strategy<Value = Vec<u8>> {
    (any::<Option<i64>>(), vec(("[a-z]{0,6}", vec(any::<u8>(), 0..20)), 0..4)).prop_map(|(watermark, offsets)| {
        let mut body = Vec::new();
        let offsets = offsets.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        encode_commit_body(watermark, offsets, &mut body).unwrap();
        body
    })
}

/// Records of a frame in one epoch; a barrier ends it, so it comes last.
fn records() -> impl Strategy<Value = Vec<Owned>> {
    let bytes = || vec(any::<u8>(), 0..300);
    let record = prop_oneof![
        (bytes(), bytes()).prop_map(|(key, value)| Owned::Put(key, value)),
        bytes().prop_map(Owned::Delete),
        bytes().prop_map(Owned::Payload),
        commit().prop_map(Owned::Commit),
        any::<u64>().prop_map(Owned::Mark),
    ];
    (vec(record, 1..20), any::<Option<u64>>()).prop_map(|(mut records, barrier)| {
        records.extend(barrier.map(Owned::Barrier));
        records
    })
}

fn identity() -> impl Strategy<Value = SegmentIdentity> {
    (any::<[u8; 16]>(), 0..4_u16, any::<u64>(), 0..1_u64 << 40).prop_map(|(log_id, core, segment, block)| {
        let (core, segment, base_lsn) = (CoreId(core), SegmentId(segment), Lsn(block * BLOCK_LEN as u64));
        SegmentIdentity { log_id: LogId(log_id), core, segment, base_lsn }
    })
}

fn fields() -> FrameFields {
    FrameFields {
        lsn: LSN,
        durable_lsn: Lsn(BLOCK_LEN as u64),
        epoch: Epoch(9),
        sequence: Sequence(77),
        timestamp: TimestampNs(5),
        opening: Opening(2),
        sealed: false,
    }
}

fn frame(records: &[Owned], seed: u32) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEADER_LEN];
    for record in records {
        let (at, record) = (frame.len(), record.record());
        frame.resize(at + record.encoded_len(), 0);
        assert_eq!(record.encode(&mut frame[at..]), record.encoded_len());
    }
    finish_frame(&mut frame, records.len() as u32, &fields(), seed);
    frame
}

/// Takes everything out that a decoded frame holds.
fn walk(frame: &Frame<'_>) {
    for entry in frame.entries().flatten() {
        assert!(entry.lsn < entry.end);
        if let Record::Commit(commit) = entry.record {
            let _ = (commit.watermark(), commit.offsets().count());
        }
    }
}

/// More than a block; under Miri a value of that size takes minutes to make.
const RANDOM_BYTES: usize = if cfg!(miri) { 500 } else { 5000 };

proptest! {
    #[test]
    fn a_frame_reads_back_what_it_was_given(records in records(), identity in identity(), padding in 0..100_usize) {
        let seed = identity.checksum_seed();
        let mut bytes = frame(&records, seed);
        bytes.extend(vec![0xEE; padding]);
        let read = Frame::decode(&bytes, seed, LSN).unwrap();
        prop_assert_eq!(read.header.fields, fields());
        prop_assert_eq!(read.header.records as usize, records.len());
        let entries: Vec<_> = read.entries().map(Result::unwrap).collect();
        prop_assert_eq!(entries.len(), records.len());
        let mut lsn = LSN.plus(FRAME_HEADER_LEN as u64);
        for (number, (entry, record)) in entries.iter().zip(&records).enumerate() {
            prop_assert_eq!(entry.record, record.record());
            prop_assert_eq!((entry.lsn, entry.sequence), (lsn, Sequence(77 + number as u64)));
            lsn = entry.end;
        }
    }

    #[test]
    fn a_frame_is_valid_in_no_other_segment_and_at_no_other_place(
        records in records(),
        identity in identity(),
        other in identity(),
        which in 0..4_u8,
    ) {
        let bytes = frame(&records, identity.checksum_seed());
        let mut changed = identity;
        match which {
            0 => changed.log_id = other.log_id,
            1 => changed.core = other.core,
            2 => changed.segment = other.segment,
            _ => changed.base_lsn = other.base_lsn,
        }
        prop_assert_eq!(Frame::decode(&bytes, changed.checksum_seed(), LSN).is_ok(), changed == identity);
        let elsewhere = LSN.plus(BLOCK_LEN as u64);
        let error = Frame::decode(&bytes, identity.checksum_seed(), elsewhere).unwrap_err();
        prop_assert_eq!(error, FrameError::Lsn { found: LSN });
    }

    #[test]
    fn a_changed_or_cut_frame_is_none(
        records in records(),
        changes in vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = frame(&records, 1);
        let mut changed = bytes.clone();
        for (at, mask) in changes {
            let at = at.index(changed.len());
            changed[at] ^= mask;
        }
        if changed != bytes {
            prop_assert!(Frame::decode(&changed, 1, LSN).is_err());
        }
        prop_assert!(Frame::decode(&bytes[..cut.index(bytes.len())], 1, LSN).is_err());
    }

    #[test]
    fn an_intact_checksum_over_anything_does_not_make_a_decoder_panic(
        mut bytes in vec(any::<u8>(), FRAME_HEADER_LEN + RECORD_HEADER_LEN..600),
        count in 1..40_u32,
    ) {
        // Hostile, not damaged: the header and the checksum are in order.
        finish_frame(&mut bytes, count, &fields(), 1);
        if let Ok(frame) = Frame::decode(&bytes, 1, LSN) {
            walk(&frame);
        }
    }

    #[test]
    fn random_bytes_are_an_error_or_a_value(bytes in vec(any::<u8>(), 0..RANDOM_BYTES), lsn in any::<u64>()) {
        let _ = FrameHeader::peek(&bytes, Lsn(lsn));
        prop_assert!(Frame::decode(&bytes, 7, Lsn(lsn)).is_err());
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
        prop_assert!(Manifest::decode(&bytes).is_err());
        if let Ok((record, len)) = Record::decode(&bytes) {
            prop_assert_eq!(record.encoded_len(), len);
        }
        if let Ok(commit) = CommitRef::parse(&bytes) {
            let _ = (commit.watermark(), commit.offsets().count());
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_no_change_passes(
        identity in identity(),
        at in 0..64_usize,
        mask in 1..=u8::MAX,
    ) {
        let mut block = [0; BLOCK_LEN];
        let header = SegmentHeader { identity, cores: 4, recycled: false, run: false };
        header.encode(&mut block);
        prop_assert_eq!(SegmentHeader::decode(&block), Ok(header));
        block[at] ^= mask;
        prop_assert!(SegmentHeader::decode(&block).is_err());
        prop_assert!(SegmentHeader::decode(&block[..at]).is_err());
    }

    #[test]
    fn a_manifest_reads_back_and_no_change_passes(
        log_id in any::<[u8; 16]>(),
        cores in 1..=1024_u16,
        route in "[a-z0-9-]{1,12}",
        at in any::<prop::sample::Index>(),
        mask in 1..=u8::MAX,
    ) {
        let manifest = Manifest::new(LogId(log_id), cores, &route);
        let mut bytes = manifest.encode().into_bytes();
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        prop_assert!(Manifest::decode(&bytes).is_err());
        prop_assert!(Manifest::decode(&bytes[..at]).is_err());
    }
}

/// Zeros follow a frame, which a checksum that leaves the length out does not
/// tell from the frame's own bytes.
#[test]
fn no_other_length_passes_for_a_frames_own() {
    let records = [Owned::Put(b"key".to_vec(), b"value".to_vec())];
    let mut bytes = frame(&records, 1);
    let own = bytes.len();
    bytes.resize(BLOCK_LEN, 0);
    assert!(Frame::decode(&bytes, 1, LSN).is_ok());
    for len in (FRAME_HEADER_LEN + RECORD_HEADER_LEN..=BLOCK_LEN).filter(|&len| len != own) {
        bytes[8..12].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        assert_eq!(Frame::decode(&bytes, 1, LSN).unwrap_err(), FrameError::Checksum, "{len} instead of {own}");
    }
}

#[test]
fn a_zeroed_block_is_nothing() {
    let block = [0; BLOCK_LEN];
    for seed in [0, 1, u32::MAX] {
        assert_eq!(Frame::decode(&block, seed, Lsn(0)).unwrap_err(), FrameError::Zeroed);
    }
    assert_eq!(SegmentHeader::decode(&block), Err(SegmentError::Zeroed));
}

#[test]
fn a_record_costs_at_most_24_bytes_besides_its_key_and_value() {
    // As many of 16 + 100 bytes as share a frame of one default buffer.
    let record = Record::Put { key: &[1; 16], value: &[2; 100] };
    let buffer = 128 << 10;
    let count = (buffer - FRAME_HEADER_LEN) / record.encoded_len();
    let overhead = (buffer - count * 116).div_ceil(count);
    assert!(overhead <= 24, "{overhead}");
    // And where a frame of one block holds what fits.
    let count = (BLOCK_LEN - FRAME_HEADER_LEN) / record.encoded_len();
    assert!((BLOCK_LEN - count * 116).div_ceil(count) <= 24);
}
