//! Sizes.

use corewal_format::{
    Epoch, FRAME_HEADER_LEN, MAX_CORES, MAX_EPOCH, MAX_FRAME_LEN, MAX_KEY_LEN, MAX_VALUE_LEN, RECORD_HEADER_LEN,
    block_align,
};

#[test]
fn are_what_the_document_says() {
    assert_eq!((MAX_KEY_LEN, MAX_VALUE_LEN, MAX_CORES), (65_535, 16 << 20, 1024));
    assert_eq!(MAX_EPOCH, Epoch(0x7FFF_FFFF_FFFF_FFFF));
    // The largest record, and a frame around it, in whole blocks.
    assert_eq!(MAX_FRAME_LEN, (16 << 20) + (17 << 12));
    const { assert!(FRAME_HEADER_LEN + RECORD_HEADER_LEN + MAX_KEY_LEN + MAX_VALUE_LEN <= MAX_FRAME_LEN) }
}

#[test]
fn lengths_are_rounded_up_to_whole_blocks() {
    let rounded = [0, 1, 4095, 4096, 4097, 8192].map(block_align);
    assert_eq!(rounded, [0, 4096, 4096, 4096, 8192, 8192]);
}
