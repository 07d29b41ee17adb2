//! Each rule of the decoders at its edge: what is still accepted, and what is
//! refused though its checksum matches. (Damage is refused by the checksum, so
//! no flipped bit ever comes to these rules: a hostile or faulty writer does.)
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use corewal_format::{
    BLOCK_LEN, Checkpoint, CommitRef, CoreCheckpoint, CoreId, Epoch, FRAME_HEADER_LEN, Frame, FrameError, FrameFields,
    FrameHeader, LogId, Lsn, MAX_BASE_LSN, MAX_CORES, MAX_EPOCH, MAX_FRAME_LEN, MAX_KEY_LEN, MAX_MANIFEST_LEN,
    MAX_OFFSET_FIELD_LEN, MAX_OFFSETS, MAX_VALUE_LEN, Manifest, ManifestError, ManifestState, Opening,
    RECORD_HEADER_LEN, Record, RecordError, RunId, RunRef, SegmentError, SegmentHeader, SegmentId, SegmentIdentity,
    Sequence, TimestampNs, block_align, crc32c_append, encode_commit_body, finish_frame,
};

mod limits {
    use super::*;

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
}

mod frames {
    use super::*;

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
    fn there_is_a_record_and_all_have_a_sequence() {
        refused("records", 12, &0_u32.to_le_bytes());
        accepted(40, &(u64::MAX - 2).to_le_bytes());
        refused("sequence", 40, &(u64::MAX - 1).to_le_bytes());
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
}

mod segments {
    use super::*;

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
}

mod records {
    use super::*;

    const LAST_BASE: u64 = MAX_BASE_LSN.0 / BLOCK_LEN as u64 * BLOCK_LEN as u64;

    fn bytes(operation: u8, key: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![operation, 0];
        bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        [&bytes, key, body].concat()
    }

    /// A record whose body is these numbers.
    fn of_numbers(operation: u8, numbers: &[u64]) -> Vec<u8> {
        bytes(operation, b"", &numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn malformed(what: &str, bytes: &[u8]) {
        match Record::decode(bytes) {
            Err(error @ RecordError::Malformed { .. }) => assert!(error.to_string().contains(what), "{error}"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn accepted(bytes: &[u8]) {
        let (record, len) = Record::decode(bytes).expect("within the rules");
        let mut again = vec![0; len];
        assert_eq!(record.encode(&mut again), bytes.len());
        assert_eq!(again, bytes);
    }

    #[test]
    fn all_of_a_record_is_there() {
        let put = bytes(1, b"key", b"value");
        accepted(&put);
        for len in 0..put.len() {
            assert_eq!(Record::decode(&put[..len]), Err(RecordError::Overrun), "{len}");
        }
        assert!(RecordError::Overrun.to_string().contains("fill"));
        accepted(&bytes(2, b"", b""));
        let mut reserved = put;
        reserved[1] = 1;
        malformed("reserved", &reserved);
    }

    #[test]
    fn values_are_as_long_as_allowed() {
        accepted(&bytes(4, b"", &vec![1; MAX_VALUE_LEN]));
        malformed("over the limit", &bytes(4, b"", &vec![1; MAX_VALUE_LEN + 1]));
        malformed("delete with a value", &bytes(2, b"key", b"v"));
        for operation in 3..15 {
            malformed("a key where none belongs", &bytes(operation, b"k", b""));
        }
        for operation in [0, 15, 255] {
            let unknown = RecordError::UnknownOperation { found: operation };
            assert_eq!(Record::decode(&bytes(operation, b"", b"")), Err(unknown));
            assert!(unknown.to_string().contains(&operation.to_string()));
        }
    }

    #[test]
    fn bodies_have_the_length_of_what_they_hold() {
        for (operation, numbers) in
            [(5, 2), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 2), (12, 2), (13, 4), (14, 1)]
        {
            accepted(&of_numbers(operation, &[4096; 4][..numbers]));
            malformed("wrong length", &of_numbers(operation, &[4096; 5][..numbers - 1]));
            malformed("wrong length", &of_numbers(operation, &[4096; 5][..=numbers]));
        }
    }

    #[test]
    fn epochs_are_in_range() {
        let most = MAX_EPOCH.0;
        // Those that are looked back at may be none yet: 0.
        for (operation, before, behind) in [(5, &[1][..], &[][..]), (10, &[], &[]), (11, &[0], &[]), (12, &[0], &[])] {
            let of = |epoch| of_numbers(operation, &[before, &[epoch], behind].concat());
            accepted(&of(0));
            accepted(&of(most));
            malformed("epoch out of range", &of(most + 1));
        }
        accepted(&of_numbers(13, &[1, 0, 1, most]));
        malformed("epoch out of range", &of_numbers(13, &[1, 0, 1, most + 1]));
        for operation in [7, 8, 9] {
            accepted(&of_numbers(operation, &[1]));
            accepted(&of_numbers(operation, &[most]));
            malformed("epoch 0", &of_numbers(operation, &[0]));
            malformed("epoch out of range", &of_numbers(operation, &[most + 1]));
        }
        malformed("epoch 0", &of_numbers(5, &[0, 0]));
    }

    #[test]
    fn what_leads_on_leads_to_where_a_segment_can_begin() {
        for base in [0, 4096, LAST_BASE] {
            accepted(&of_numbers(14, &[base]));
            accepted(&of_numbers(13, &[1, base, 1, 1]));
        }
        for base in [1, 4097, LAST_BASE + 1, LAST_BASE + 4096, u64::MAX] {
            malformed("base LSN", &of_numbers(14, &[base]));
            malformed("base LSN", &of_numbers(13, &[1, base, 1, 1]));
        }
    }

    #[test]
    fn names_are_those_that_dump_prints() {
        let commit = bytes(3, b"", &[0; 11]);
        let names: Vec<_> = [bytes(1, b"", b""), bytes(2, b"", b""), commit, bytes(4, b"", b"")]
            .into_iter()
            .chain((5..15).map(|operation| {
                let numbers = match operation {
                    5 | 11 | 12 => 2,
                    13 => 4,
                    _ => 1,
                };
                of_numbers(operation, &vec![4096; numbers])
            }))
            .map(|bytes| Record::decode(&bytes).unwrap().0.name())
            .collect();
        let told =
            "put delete commit payload barrier checkpoint_mark park unpark open close rollback release repair seal";
        assert_eq!(names.join(" "), told);
    }

    #[test]
    fn barriers_belong_to_the_epoch_that_they_end_and_openings_to_that_which_they_begin() {
        let records = [
            (Record::Payload(b""), 3),
            (Record::Barrier { epoch: Epoch(5), complete: Epoch(2) }, 5),
            (Record::Payload(b""), 6),
            (Record::Park { epoch: Epoch(9) }, 6),
            (Record::Unpark { epoch: Epoch(9) }, 9),
            (Record::CheckpointMark { id: 1 }, 9),
            (Record::Open { epoch: Epoch(12) }, 12),
            (Record::Close { complete: Epoch(1) }, 12),
        ];
        let entries = |records: &[Record<'_>]| -> Vec<_> {
            let mut frame = vec![0; FRAME_HEADER_LEN];
            for record in records {
                let at = frame.len();
                frame.resize(at + record.encoded_len(), 0);
                record.encode(&mut frame[at..]);
            }
            let fields = FrameFields {
                lsn: Lsn(0),
                durable_lsn: Lsn(0),
                epoch: Epoch(3),
                sequence: Sequence(7),
                timestamp: TimestampNs(0),
                opening: Opening(1),
                sealed: false,
            };
            finish_frame(&mut frame, records.len() as u32, &fields, 0);
            let frame = Frame::decode(&frame, 0, Lsn(0)).unwrap();
            frame.entries().map(|entry| entry.map(|entry| entry.epoch.0)).collect()
        };
        let found = entries(&records.map(|(record, _)| record));
        assert_eq!(found, records.map(|(_, epoch)| Ok(epoch)));
        let mut current = Epoch(3);
        let after = records.map(|(record, _)| {
            current = record.epoch_after(current);
            current.0
        });
        assert_eq!(after, [3, 6, 6, 6, 9, 9, 12, 12]);
        for back in [Record::Barrier { epoch: Epoch(2), complete: Epoch(2) }, Record::Open { epoch: Epoch(2) }] {
            assert_eq!(entries(&[back]), [Err(RecordError::Malformed { what: "the epoch goes back" })]);
        }
    }
}

mod commits {
    use super::*;

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
}

mod manifests {
    use super::*;

    const MOST: u64 = u64::MAX >> 2;

    fn run(number: u64) -> RunRef {
        RunRef { run: RunId(number), level: 1, bytes: 8192, puts: 3, deletes: 1, crc: 0xabc }
    }

    fn checkpoint(number: u64) -> Checkpoint {
        let core = CoreCheckpoint { lsn: Lsn(4096), runs: vec![run(1), run(2)] };
        Checkpoint {
            number,
            epoch: Epoch(10),
            time: TimestampNs(0),
            inherited: [].into(),
            cores: vec![core, CoreCheckpoint::default()],
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            number: 3,
            state: ManifestState::Ready,
            log_id: LogId([3; 16]),
            cores: 2,
            generation: 0,
            route: "xxh3-64".into(),
            checkpoints: vec![checkpoint(1), checkpoint(2)],
        }
    }

    fn changed(change: impl Fn(&mut Manifest)) -> Result<(), ManifestError> {
        let mut manifest = manifest();
        change(&mut manifest);
        let read = Manifest::decode(manifest.encode().as_bytes());
        assert!(read.as_ref().is_ok_and(|read| *read == manifest) || read.is_err());
        read.map(drop)
    }

    #[track_caller]
    fn accepted(change: impl Fn(&mut Manifest)) {
        assert_eq!(changed(change), Ok(()));
    }

    #[track_caller]
    fn refused(name: &'static str, change: impl Fn(&mut Manifest)) {
        let refusal = changed(change);
        assert_eq!(refusal, Err(ManifestError::Line { name }));
        let told = refusal.unwrap_err().to_string();
        assert!(told.contains(name), "{told}");
    }

    /// The same lines but for these, with the checksum that belongs to them.
    fn respelled(old: &str, new: &str) -> Result<Manifest, ManifestError> {
        let text = manifest().encode();
        let body = text.rsplit_once("crc32c ").unwrap().0;
        assert!(body.contains(old), "{body}");
        let body = body.replacen(old, new, 1);
        Manifest::decode(format!("{body}crc32c {:08x}\n", crc32c_append(0, body.as_bytes())).as_bytes())
    }

    #[test]
    fn there_is_one_spelling() {
        assert_eq!(respelled("cores 2", "cores 2"), Ok(manifest()));
        for (old, new) in [
            ("cores 2", "cores 02"),
            ("cores 2", "cores +2"),
            ("puts 3", "puts 03"),
            ("crc32c 00000abc", "crc32c 00000ABC"),
            ("crc32c 00000abc", "crc32c abc"),
            ("time 0", "time 00"),
        ] {
            assert_eq!(respelled(old, new), Err(ManifestError::Line { name: "crc32c" }), "{new}");
        }
        assert!(respelled("state ready", "state steady").is_err());
    }

    #[test]
    fn versions_count_from_one() {
        assert_eq!(respelled("manifest 1", "manifest 0"), Err(ManifestError::NotAManifest));
        assert_eq!(respelled("manifest 1", "manifest 2"), Err(ManifestError::Version { found: 2 }));
        assert!(ManifestError::Version { found: 2 }.to_string().contains("version 2"));
        assert!(ManifestError::NotAManifest.to_string().contains("manifest"));
        assert!(ManifestError::Checksum.to_string().contains("checksum"));
    }

    #[test]
    fn numbers_count_from_one_and_leave_room_to_count_on() {
        accepted(|manifest| manifest.number = 2);
        accepted(|manifest| manifest.number = MOST);
        refused("checkpoint", |manifest| manifest.number = MOST + 1);
        refused("checkpoint", |manifest| manifest.number = 1);
        // Without checkpoints that would forbid it, too.
        refused("number", |manifest| {
            manifest.number = 0;
            manifest.checkpoints.clear();
        });
        accepted(|manifest| manifest.generation = u32::MAX >> 1);
        refused("checkpoint", |manifest| manifest.generation = (u32::MAX >> 1) + 1);
    }

    #[test]
    fn there_are_as_many_cores_as_allowed() {
        for (cores, fits) in [(0, false), (1, true), (MAX_CORES, true), (MAX_CORES + 1, false)] {
            let of = |manifest: &mut Manifest| {
                manifest.cores = cores;
                manifest.checkpoints.clear();
            };
            if fits { accepted(of) } else { refused("cores", of) }
        }
    }

    #[test]
    fn checkpoints_follow_each_other_and_leave_room_to_count_on() {
        accepted(|manifest| manifest.checkpoints[1].epoch = MAX_EPOCH);
        accepted(|manifest| manifest.checkpoints[1].cores[0].lsn = Lsn(MOST));
        accepted(|manifest| manifest.checkpoints[1].cores[0].runs[1].run = RunId(MOST));
        accepted(|manifest| manifest.checkpoints[1].cores[0].runs[1].level = 0);
        let wrong: &[fn(&mut Manifest)] = &[
            |manifest| manifest.checkpoints[1].epoch = Epoch(MAX_EPOCH.0 + 1),
            |manifest| manifest.checkpoints[1].epoch = Epoch(9),
            |manifest| manifest.checkpoints[1].number = 1,
            |manifest| manifest.checkpoints[0].number = 0,
            |manifest| manifest.checkpoints[1].number = 4,
            |manifest| manifest.checkpoints[1].cores[0].lsn = Lsn(MOST + 1),
            |manifest| manifest.checkpoints[1].cores[0].lsn = Lsn(4095),
            |manifest| manifest.checkpoints[1].cores[0].runs[1].run = RunId(MOST + 1),
            |manifest| manifest.checkpoints[1].cores[0].runs[0].level = 0,
            |manifest| drop(manifest.checkpoints[1].cores.pop()),
            |manifest| manifest.checkpoints[1].cores.push(CoreCheckpoint::default()),
        ];
        for wrong in wrong {
            refused("checkpoint", wrong);
        }
    }

    #[test]
    fn runs_have_room_for_their_keys() {
        let most = 8192 / RECORD_HEADER_LEN as u64;
        let keys = |puts, deletes| {
            move |manifest: &mut Manifest| {
                (manifest.checkpoints[1].cores[0].runs[0].puts, manifest.checkpoints[1].cores[0].runs[0].deletes) =
                    (puts, deletes);
            }
        };
        accepted(keys(most, 0));
        accepted(keys(0, most));
        accepted(keys(most - 1, 1));
        refused("checkpoint", keys(most, 1));
        refused("checkpoint", keys(u64::MAX, 1));
        // All bytes together, and not each alone.
        let bytes = |first, second| {
            move |manifest: &mut Manifest| {
                manifest.checkpoints[1].cores[0].runs[0].bytes = first;
                manifest.checkpoints[1].cores[0].runs[1].bytes = second;
            }
        };
        accepted(bytes(MOST - 8192, 8192));
        refused("checkpoint", bytes(MOST - 8192, 8193));
        refused("checkpoint", bytes(u64::MAX, 8192));
    }

    #[test]
    fn the_newest_checkpoint_is_the_last() {
        assert_eq!(manifest().newest(), Some(&checkpoint(2)));
        assert_eq!(Manifest::new(LogId([1; 16]), 1, "xxh3-64").newest(), None);
    }

    #[test]
    fn a_manifest_is_as_long_as_allowed() {
        let of_len = |len: usize| {
            let mut manifest = Manifest::new(LogId([1; 16]), 1, "");
            manifest.route = "r".repeat(len - manifest.encode().len());
            assert_eq!(manifest.encode().len(), len);
            Manifest::decode(manifest.encode().as_bytes()).map(|read| read == manifest)
        };
        assert_eq!(of_len(MAX_MANIFEST_LEN), Ok(true));
        assert_eq!(of_len(MAX_MANIFEST_LEN + 1), Err(ManifestError::NotAManifest));
    }
}
