//! Golden bytes: the format, byte by byte, as version 1 writes it. A change
//! here is a change of the format, and needs a version and a note in
//! `docs/FORMAT.md`.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use corewal_format::{
    BLOCK_LEN, Checkpoint, CommitRef, CoreCheckpoint, CoreId, Epoch, FRAME_HEADER_LEN, Frame, FrameFields, LogId, Lsn,
    Manifest, ManifestState, Opening, Record, RunId, RunRef, SegmentHeader, SegmentId, SegmentIdentity, Sequence,
    TimestampNs, encode_commit_body, finish_frame,
};

fn log_id() -> LogId {
    LogId::parse("00112233445566778899aabbccddeeff").unwrap()
}

fn identity() -> SegmentIdentity {
    SegmentIdentity { log_id: log_id(), core: CoreId(1), segment: SegmentId(2), base_lsn: Lsn(0x1000_0000) }
}

/// Hexadecimal digits, with spaces and line breaks for the reader.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(byte).collect()
}

#[track_caller]
fn assert_bytes(found: &[u8], golden: &str) {
    let hex: Vec<String> =
        found.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>()).collect();
    assert_eq!(found, bytes(golden), "the format has changed; it now writes\n{}", hex.join("\n"));
}

#[test]
fn a_segment_header() {
    let mut block = vec![0xEE; BLOCK_LEN];
    SegmentHeader { identity: identity(), cores: 4, recycled: false, run: false }.encode(&mut block);
    assert_bytes(
        &block[..64],
        &[
            // magic
            "636f72657761 6c00",
            // version, checksum
            "01000000 66940b25",
            // log
            "00112233 44556677 8899aabb ccddeeff",
            // core, cores, block length
            "01000400 00100000",
            // segment
            "02000000 00000000",
            // base LSN
            "00000010 00000000",
            // flags, reserved
            "00000000 00000000",
        ]
        .concat(),
    );
    assert!(block[64..].iter().all(|&byte| byte == 0));
    assert_eq!(SegmentHeader::decode(&block).unwrap().identity, identity());
}

#[test]
fn a_frame_with_every_kind_of_record() {
    let mut body = Vec::new();
    let offsets = [("in.csv", &258_u64.to_le_bytes()[..]), ("b", b"xyz")];
    encode_commit_body(Some(-2), offsets, &mut body).unwrap();
    let records = [
        Record::Open { epoch: Epoch(5) },
        Record::Rollback { to: Lsn(0x0100), epoch: Epoch(3) },
        Record::Put { key: b"key", value: b"value" },
        Record::Delete { key: b"gone" },
        Record::Payload(b"opaque"),
        Record::Commit(CommitRef::parse(&body).unwrap()),
        Record::CheckpointMark { id: 0x0102_0304_0506_0708 },
        Record::Barrier { epoch: Epoch(5), complete: Epoch(4) },
        Record::Park { epoch: Epoch(6) },
        Record::Unpark { epoch: Epoch(9) },
        Record::Release { to: Lsn(0x2000), epoch: Epoch(8) },
        Record::Repair {
            segment: SegmentId(7),
            base_lsn: Lsn(0x9000_0000),
            sequence: Sequence(99),
            forgiven: Epoch(2),
        },
        Record::Close { complete: Epoch(8) },
        Record::Seal { base_lsn: Lsn(0x1010_0000) },
    ];
    let mut frame = vec![0; FRAME_HEADER_LEN];
    for record in &records {
        let at = frame.len();
        frame.resize(at + record.encoded_len(), 0xEE);
        assert_eq!(record.encode(&mut frame[at..]), record.encoded_len());
    }
    let fields = FrameFields {
        lsn: Lsn(0x1000_2000),
        durable_lsn: Lsn(0x1000_1000),
        epoch: Epoch(5),
        sequence: Sequence(0x0a0b),
        timestamp: TimestampNs(0x1122_3344_5566_7788),
        opening: Opening(3),
        sealed: true,
    };
    finish_frame(&mut frame, records.len() as u32, &fields, identity().checksum_seed());
    assert_bytes(
        &frame,
        &[
            // header: checksum, magic, flags, length, records
            "44d435f0 c3f70100 67010000 0e000000",
            // LSN, durable LSN
            "00200010 00000000 00100010 00000000",
            // epoch, sequence
            "05000000 00000000 0b0a0000 00000000",
            // timestamp, opening, reserved
            "88776655 44332211 03000000 00000000",
            // open
            "09000000 08000000 05000000 00000000",
            // rollback
            "0b000000 10000000 00010000 00000000 03000000 00000000",
            // put
            "01000300 05000000 6b657976 616c7565",
            // delete
            "02000400 00000000 676f6e65",
            // payload
            "04000000 06000000 6f706171 7565",
            // commit
            "03000000 25000000 01feffff ffffffff ff020006 00080069 6e2e6373 76020100",
            "00000000 00010003 00627879 7a",
            // checkpoint mark
            "06000000 08000000 08070605 04030201",
            // barrier
            "05000000 10000000 05000000 00000000 04000000 00000000",
            // park
            "07000000 08000000 06000000 00000000",
            // unpark
            "08000000 08000000 09000000 00000000",
            // release
            "0c000000 10000000 00200000 00000000 08000000 00000000",
            // repair
            "0d000000 20000000 07000000 00000000 00000090 00000000 63000000 00000000",
            "02000000 00000000",
            // close
            "0a000000 08000000 08000000 00000000",
            // seal
            "0e000000 08000000 00001010 00000000",
        ]
        .concat(),
    );
    let read = Frame::decode(&frame, identity().checksum_seed(), Lsn(0x1000_2000)).unwrap();
    assert_eq!(read.header.fields, fields);
    let entries: Vec<_> = read.entries().map(|entry| entry.unwrap().record).collect();
    assert_eq!(entries, records);
}

#[test]
fn a_manifest() {
    let manifest = Manifest { state: ManifestState::Ready, ..Manifest::new(log_id(), 4, "xxh3-64") };
    let golden = "\
        corewal manifest 1\n\
        number 1\n\
        state ready\n\
        log 00112233445566778899aabbccddeeff\n\
        cores 4\n\
        generation 0\n\
        route xxh3-64\n\
        crc32c b7050536\n";
    assert_eq!(manifest.encode(), golden);
    assert_eq!(Manifest::decode(golden.as_bytes()).unwrap(), manifest);
}

#[test]
fn a_manifest_with_checkpoints() {
    let run = |run, level, puts| RunRef { run: RunId(run), level, bytes: 8192 * run, puts, deletes: 1, crc: 0xabc };
    let core = |lsn, runs| CoreCheckpoint { lsn: Lsn(lsn), runs };
    let checkpoint = |number, epoch, cores| Checkpoint {
        number,
        epoch: Epoch(epoch),
        time: TimestampNs(1_700_000_000_000_000_000),
        inherited: [("in".to_owned(), 100_u64.to_le_bytes().to_vec())].into(),
        cores,
    };
    let base = run(1, 1, 5);
    let manifest = Manifest {
        number: 7,
        state: ManifestState::Ready,
        generation: 2,
        checkpoints: vec![
            checkpoint(3, 10, vec![core(4096, vec![base]), core(0, vec![])]),
            checkpoint(7, 20, vec![core(8192, vec![base, run(4, 0, 2)]), core(512, vec![run(5, 1, 9)])]),
        ],
        ..Manifest::new(log_id(), 2, "xxh3-64")
    };
    let golden = "\
        corewal manifest 1\n\
        number 7\n\
        state ready\n\
        log 00112233445566778899aabbccddeeff\n\
        cores 2\n\
        generation 2\n\
        route xxh3-64\n\
        checkpoint 3 epoch 10 time 1700000000000000000\n\
        inherited 696e 6400000000000000\n\
        core 0 lsn 4096\n\
        run 1 level 1 bytes 8192 puts 5 deletes 1 crc32c 00000abc\n\
        core 1 lsn 0\n\
        checkpoint 7 epoch 20 time 1700000000000000000\n\
        inherited 696e 6400000000000000\n\
        core 0 lsn 8192\n\
        run 1 level 1 bytes 8192 puts 5 deletes 1 crc32c 00000abc\n\
        run 4 level 0 bytes 32768 puts 2 deletes 1 crc32c 00000abc\n\
        core 1 lsn 512\n\
        run 5 level 1 bytes 40960 puts 9 deletes 1 crc32c 00000abc\n\
        crc32c 775f9e44\n";
    assert_eq!(manifest.encode(), golden);
    assert_eq!(Manifest::decode(golden.as_bytes()).unwrap(), manifest);
}

#[test]
fn the_seed_of_a_segments_checksums() {
    assert_eq!(identity().checksum_seed(), 0xaccb_69a0);
}
