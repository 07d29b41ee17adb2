//! Crafted logs: intact checksums over what no writer produces.

use corewal::format::{
    FRAME_HEADER_LEN, FrameFields, Manifest, ManifestState, Opening, Record, SegmentHeader, finish_frame,
};
use corewal::io::{SimOptions, SimStorage};
use corewal::{Epoch, Keyed, LogId, Lsn, Options, SegmentId, Sequence, TimestampNs, Verdict};

const SEGMENT: &str = "/store/core-0000/00000000000000000000.wal";

fn options() -> Options {
    Options::new().cores(1).log_id(LogId([5; 16])).single_threaded()
}

/// Opens a store whose only segment holds one frame with these records.
fn open_with(records: &[Record<'_>], sealed: bool) -> corewal::Result<()> {
    let disk = SimStorage::new(SimOptions::default());
    drop(options().open_on(disk.clone(), "/store", |_| Keyed::default())?);
    let mut file = disk.read_file(SEGMENT.as_ref()).unwrap();
    let identity = SegmentHeader::decode(&file).unwrap().identity;
    file.truncate(4096);
    let mut frame = vec![0; FRAME_HEADER_LEN];
    for record in records {
        let at = frame.len();
        frame.resize(at + record.encoded_len(), 0);
        record.encode(&mut frame[at..]);
    }
    let fields = FrameFields {
        lsn: Lsn(4096),
        durable_lsn: Lsn(4096),
        epoch: Epoch(1),
        sequence: Sequence(0),
        timestamp: TimestampNs(0),
        opening: Opening(1),
        sealed,
    };
    finish_frame(&mut frame, records.len() as u32, &fields, identity.checksum_seed());
    file.extend(frame);
    disk.write_file(SEGMENT.as_ref(), file);
    options().open_on(disk, "/store", |_| Keyed::default()).map(drop)
}

fn repair(segment: u64, base_lsn: u64) -> Record<'static> {
    let (segment, base_lsn) = (SegmentId(segment), Lsn(base_lsn));
    Record::Repair { segment, base_lsn, sequence: Sequence(0), forgiven: Epoch(0) }
}

#[test]
fn a_seal_or_repair_that_leads_back_is_refused_and_does_not_send_the_scan_round_in_a_circle() {
    let seal = |base_lsn| Record::Seal { base_lsn: Lsn(base_lsn) };
    let mark = Record::CheckpointMark { id: 1 }; // sealed, and no word of where the log goes on
    for record in [repair(0, 0), repair(0, 1 << 20), repair(1, 0), seal(0), seal(4096), mark] {
        let error = open_with(&[Record::Open { epoch: Epoch(1) }, record], true).unwrap_err();
        assert_eq!(error.damage().map(|damage| damage.verdict), Some(Verdict::Corrupt), "{error}");
    }
}

#[test]
fn positions_and_epochs_at_the_end_of_the_numbers_are_data_or_errors() {
    let open = Record::Open { epoch: Epoch(1) };
    let extremes = [
        (repair(u64::MAX, u64::MAX - 4095), true),
        (repair(5, u64::MAX - 4095), true),
        (Record::Seal { base_lsn: Lsn(u64::MAX) }, true),
        (Record::Seal { base_lsn: Lsn(u64::MAX - 4095) }, true),
        (Record::Seal { base_lsn: Lsn(u64::MAX / 2) }, true),
        (Record::Rollback { to: Lsn(u64::MAX), epoch: Epoch(u64::MAX) }, false),
        (Record::Rollback { to: Lsn(0), epoch: Epoch(0) }, false),
        (Record::Release { to: Lsn(u64::MAX), epoch: Epoch(u64::MAX) }, false),
        (Record::Release { to: Lsn(4096), epoch: Epoch(7) }, false),
        (Record::Barrier { epoch: Epoch(u64::MAX), complete: Epoch(u64::MAX) }, false),
        (Record::Park { epoch: Epoch(u64::MAX) }, false),
        (Record::Unpark { epoch: Epoch(u64::MAX) }, false),
        (Record::Open { epoch: Epoch(u64::MAX) }, false),
        (Record::Close { complete: Epoch(u64::MAX) }, false),
    ];
    for (record, sealed) in extremes {
        match open_with(&[open, record], sealed) {
            Ok(()) => {}
            Err(error) => assert!(error.damage().is_some(), "{record:?}: {error}"),
        }
    }
}

#[test]
fn an_old_manifest_that_says_creating_does_not_make_a_store_anew_over_its_data() {
    // Put back by a person, it made the open create segment 0 again, over what
    // stood in it, before anything was found wrong.
    let disk = SimStorage::new(SimOptions::default());
    let mut opened = options().open_on(disk.clone(), "/store", |_| Keyed::default()).unwrap();
    opened.shards[0].put(b"key", b"value").unwrap();
    opened.shards.remove(0).sync().unwrap();
    drop(opened);
    let before = disk.read_file(SEGMENT.as_ref());
    let manifest = Manifest::decode(&disk.read_file("/store/MANIFEST".as_ref()).unwrap()).unwrap();
    let old = Manifest { state: ManifestState::Creating, ..manifest };
    disk.write_file("/store/MANIFEST".as_ref(), old.encode().into_bytes());
    let error = options().open_on(disk.clone(), "/store", |_| Keyed::default()).unwrap_err();
    assert!(error.to_string().contains("though its logs hold data"), "{error}");
    assert_eq!(disk.read_file(SEGMENT.as_ref()), before);
}
