//! What decodes must encode to the same bytes.

use corewal::format::{
    BLOCK_LEN, FRAME_HEADER_LEN, Frame, FrameHeader, Record, SegmentHeader, encode_commit_body, finish_frame,
};

/// Decodes a file as if it were a segment, and each of its blocks as if a
/// frame began there.
pub(crate) fn decode_all(file: &[u8]) {
    let mut seed = 0;
    let mut base = corewal::Lsn(0);
    if let Ok(header) = SegmentHeader::decode(file) {
        let mut block = [0; BLOCK_LEN];
        header.encode(&mut block);
        assert_eq!(block[..64], file[..64], "a header that decodes to {header:?}");
        (seed, base) = (header.identity.checksum_seed(), header.identity.base_lsn);
    }
    for at in (BLOCK_LEN..file.len()).step_by(BLOCK_LEN) {
        let lsn = base.plus(at as u64);
        if let Ok(frame) = Frame::decode(&file[at..], seed, lsn) {
            assert_eq!(FrameHeader::peek(&file[at..], lsn), Ok(frame.header));
            encode_again(&frame, seed);
        }
        // Behind a checksum that does not match records may still be some.
        if let Some(bytes) = file.get(at + FRAME_HEADER_LEN..)
            && let Ok((record, len)) = Record::decode(bytes)
        {
            let mut copy = vec![0; record.encoded_len()];
            record.encode(&mut copy);
            assert_eq!(copy, bytes[..len], "{record:?}");
        }
    }
}

fn encode_again(frame: &Frame<'_>, seed: u32) {
    let mut copy = vec![0; FRAME_HEADER_LEN];
    let mut records = 0;
    for entry in frame.entries() {
        // What is no record ends it: there is nothing to encode.
        let Ok(entry) = entry else { return };
        let record = entry.record;
        let fields = &frame.header.fields;
        assert_eq!(entry.lsn, fields.lsn.plus(copy.len() as u64));
        assert_eq!(entry.sequence, fields.sequence.plus(records));
        assert!(entry.epoch >= fields.epoch, "{entry:?} before its frame");
        let at = copy.len();
        copy.resize(at + record.encoded_len(), 0);
        assert_eq!(record.encode(&mut copy[at..]), record.encoded_len());
        assert_eq!(entry.end, fields.lsn.plus(copy.len() as u64));
        if let Record::Commit(commit) = record {
            let mut body = Vec::new();
            let offsets = commit.offsets().map(|offset| (offset.name, offset.value));
            encode_commit_body(commit.watermark(), offsets, &mut body).expect("it is within its limits");
            assert_eq!(body, commit.as_bytes());
        }
        records += 1;
    }
    assert_eq!(records, u64::from(frame.header.records));
    finish_frame(&mut copy, frame.header.records, &frame.header.fields, seed);
    assert!(copy == frame.bytes(), "a frame that decodes to {:?}", frame.header);
}
