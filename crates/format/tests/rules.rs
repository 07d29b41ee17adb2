//! Each rule of the decoders at its edge: what is still accepted, and what is
//! refused though its checksum matches. (Damage is refused by the checksum, so
//! no flipped bit ever comes to these rules: a hostile or faulty writer does.)
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use corewal_format::{
    BLOCK_LEN, Checkpoint, CommitRef, CoreCheckpoint, Epoch, FRAME_HEADER_LEN, Frame, FrameError, FrameFields,
    FrameHeader, LogId, Lsn, MAX_CORES, MAX_EPOCH, MAX_FRAME_LEN, MAX_KEY_LEN, MAX_MANIFEST_LEN, MAX_OFFSET_FIELD_LEN,
    MAX_OFFSETS, MAX_VALUE_LEN, Manifest, ManifestError, ManifestState, Opening, RECORD_HEADER_LEN, Record,
    RecordError, RunId, RunRef, Sequence, TimestampNs, block_align, crc32c_append, encode_commit_body, finish_frame,
};

mod limits {
    use super::*;

    #[test]
    fn are_what_the_document_says() {
        assert_eq!((MAX_KEY_LEN, MAX_VALUE_LEN, MAX_CORES), (65_535, 16 << 20, 1024));
        assert_eq!(MAX_EPOCH, Epoch(0x7FFF_FFFF_FFFF_FFFF));
        // The largest record, and a frame around it, in whole blocks.
        assert_eq!(MAX_FRAME_LEN, (16 << 20) + (17 << 12));
        assert!(FRAME_HEADER_LEN + RECORD_HEADER_LEN + MAX_KEY_LEN + MAX_VALUE_LEN <= MAX_FRAME_LEN);
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
