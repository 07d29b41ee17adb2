//! Records, and the epochs they belong to.

use corewal_format::{
    BLOCK_LEN, Epoch, FRAME_HEADER_LEN, Frame, FrameFields, Lsn, MAX_BASE_LSN, MAX_EPOCH, MAX_VALUE_LEN, Opening,
    Record, RecordError, Sequence, TimestampNs, finish_frame,
};

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
    for (operation, numbers) in [(5, 2), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 2), (12, 2), (13, 4), (14, 1)] {
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
    let told = "put delete commit payload barrier checkpoint_mark park unpark open close rollback release repair seal";
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
