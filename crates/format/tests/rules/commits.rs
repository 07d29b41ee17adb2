//! Bodies of commits.

use corewal_format::{CommitRef, MAX_OFFSET_FIELD_LEN, MAX_OFFSETS, RecordError, encode_commit_body};

/// A body with these offsets, by hand: the encoder refuses what is too much.
fn body(watermark: [u8; 9], offsets: &[(usize, usize)]) -> Vec<u8> {
    let mut body = watermark.to_vec();
    body.extend_from_slice(&(offsets.len() as u16).to_le_bytes());
    for &(name, value) in offsets {
        body.extend_from_slice(&(name as u16).to_le_bytes());
        body.extend_from_slice(&(value as u16).to_le_bytes());
        body.extend(vec![b'n'; name]);
        body.extend(vec![b'v'; value]);
    }
    body
}

fn parse(offsets: &[(usize, usize)]) -> Result<usize, RecordError> {
    CommitRef::parse(&body([0; 9], offsets)).map(|commit| commit.offsets().count())
}

fn encode(offsets: &[(usize, usize)]) -> Result<(), &'static str> {
    let texts: Vec<_> = offsets.iter().map(|&(name, value)| ("n".repeat(name), vec![b'v'; value])).collect();
    let mut out = b"before".to_vec();
    let offsets = texts.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let encoded = encode_commit_body(None, offsets, &mut out);
    assert!(encoded.is_ok() || out == b"before", "what could not be added leaves nothing");
    encoded
}

#[test]
fn there_are_as_many_offsets_as_allowed() {
    for count in [0, 1, MAX_OFFSETS] {
        assert_eq!(parse(&vec![(1, 1); count]), Ok(count));
        assert_eq!(encode(&vec![(1, 1); count]), Ok(()));
    }
    assert!(parse(&vec![(1, 1); MAX_OFFSETS + 1]).is_err());
    assert_eq!(encode(&vec![(1, 1); MAX_OFFSETS + 1]), Err("offsets in one commit"));
}

#[test]
fn names_and_values_are_as_long_as_allowed() {
    let most = MAX_OFFSET_FIELD_LEN;
    for fields in [(most, 0), (0, most), (most, most)] {
        assert_eq!(parse(&[fields]), Ok(1));
        assert_eq!(encode(&[fields]), Ok(()));
    }
    assert!(parse(&[(most + 1, 0)]).is_err());
    assert_eq!(encode(&[(most + 1, 0)]), Err("the name of an offset"));
    assert!(parse(&[(0, most + 1)]).is_err());
    assert_eq!(encode(&[(0, most + 1)]), Err("the value of an offset"));
}

#[test]
fn a_watermark_is_there_or_all_zero() {
    let parse = |watermark| CommitRef::parse(&body(watermark, &[])).map(|commit| commit.watermark());
    assert_eq!(parse([0; 9]), Ok(None));
    assert_eq!(parse([1, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(Some(0)));
    assert_eq!(parse([1, 255, 255, 255, 255, 255, 255, 255, 255]), Ok(Some(-1)));
    for wrong in [[2, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}
