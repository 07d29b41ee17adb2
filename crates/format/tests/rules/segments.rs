//! Headers of segments and of runs.

use corewal_format::{
    BLOCK_LEN, CoreId, LogId, Lsn, MAX_BASE_LSN, MAX_CORES, SegmentError, SegmentHeader, SegmentId, SegmentIdentity,
    crc32c_append,
};

fn header() -> SegmentHeader {
    let identity =
        SegmentIdentity { log_id: LogId([7; 16]), core: CoreId(1), segment: SegmentId(3), base_lsn: Lsn(8192) };
    SegmentHeader { identity, cores: 2, recycled: false, run: false }
}

/// The header of a segment with other bytes, and the checksum that belongs to
/// them.
fn forged(changes: &[(usize, &[u8])]) -> Result<SegmentHeader, SegmentError> {
    let mut block = vec![0; BLOCK_LEN];
    header().encode(&mut block);
    for (at, bytes) in changes {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let checksum = crc32c_append(crc32c_append(0, &block[..12]), &block[16..64]);
    block[12..16].copy_from_slice(&checksum.to_le_bytes());
    SegmentHeader::decode(&block)
}

#[track_caller]
fn refused(name: &'static str, changes: &[(usize, &[u8])]) {
    let refusal = forged(changes);
    assert_eq!(refusal, Err(SegmentError::Field { name }));
    assert!(refusal.unwrap_err().to_string().contains(name));
}

#[test]
fn versions_count_from_one_and_blocks_have_one_length() {
    assert_eq!(forged(&[]), Ok(header()));
    refused("version", &[(8, &0_u32.to_le_bytes())]);
    assert_eq!(forged(&[(8, &2_u32.to_le_bytes())]), Err(SegmentError::Version { found: 2 }));
    for len in [0, 512, 4095, 8192_u32] {
        refused("block length", &[(36, &len.to_le_bytes())]);
    }
}

#[test]
fn a_core_is_one_of_those_that_there_are() {
    let of = |core: u16, cores: u16| {
        forged(&[(32, &core.to_le_bytes()), (34, &cores.to_le_bytes())]).map(|header| header.identity.core.0)
    };
    assert_eq!([of(0, 1), of(1023, MAX_CORES)], [Ok(0), Ok(1023)]);
    assert_eq!([of(1, 1), of(2, 2), of(1023, 1023)], [(); 3].map(|()| Err(SegmentError::Field { name: "core" })));
    for cores in [0, MAX_CORES + 1, u16::MAX] {
        assert_eq!(of(0, cores), Err(SegmentError::Field { name: "cores" }));
    }
}

#[test]
fn a_segment_begins_at_a_block_that_a_log_can_reach() {
    let last = MAX_BASE_LSN.0 / BLOCK_LEN as u64 * BLOCK_LEN as u64;
    for base in [0, 4096, last] {
        assert_eq!(forged(&[(48, &base.to_le_bytes())]).map(|header| header.identity.base_lsn), Ok(Lsn(base)));
    }
    for base in [1, 4095, last + 1, last + 4096, u64::MAX] {
        refused("base LSN", &[(48, &base.to_le_bytes())]);
    }
}

#[test]
fn a_run_is_counted_from_one_has_base_zero_and_was_nothing_before() {
    let run = [(56, &[2, 0, 0, 0][..]), (48, &[0; 8])];
    assert!(forged(&run).is_ok_and(|header| header.run && !header.recycled));
    refused("flags", &run[..1]);
    refused("flags", &[(56, &[3, 0, 0, 0]), run[1]]);
    refused("segment", &[run[0], run[1], (40, &[0; 8])]);
    for flags in [[4, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 128], [5, 0, 0, 0]] {
        refused("flags", &[(56, &flags)]);
    }
    for byte in 60..64 {
        refused("reserved", &[(byte, &[1])]);
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let errors = [
        (SegmentError::Short { len: 17 }, "17"),
        (SegmentError::Zeroed, "zero"),
        (SegmentError::NotASegment, "magic"),
        (SegmentError::Checksum, "checksum"),
        (SegmentError::Version { found: 18 }, "18"),
    ];
    for (error, said) in errors {
        assert!(error.to_string().contains(said), "{error}");
    }
}
