//! The attacks, and what opening may cost under them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use corewal::format::{BLOCK_LEN, FRAME_HEADER_LEN, MAX_FRAME_LEN, SegmentIdentity};
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{Commit, Keyed, LogId, Options, Recover};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::counting::Counting;
use super::forge::{FRAME_FIELDS, NUMBERS, SEGMENT_FIELDS, manifest_with, put, sign};

pub(crate) const DIR: &str = "/db";

pub(crate) fn options() -> Options {
    Options::new().cores(2).buffers(2).buffer_bytes(4096).segment_bytes(16_384).log_id(LogId([7; 16])).single_threaded()
}

/// A store of two cores and some segments.
static STORE: LazyLock<SimSnapshot> = LazyLock::new(|| {
    let disk = SimStorage::default();
    let mut store = options().open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
    for round in 0..6_u64 {
        let epoch = store.store.next_epoch();
        for shard in &mut store.shards {
            shard.payload(&[round as u8; 100]).unwrap();
            shard.commit(&Commit::new().offset_u64("input", round)).unwrap();
            shard.end_epoch(epoch).unwrap();
            shard.sync().unwrap();
        }
    }
    drop(store);
    disk.snapshot()
});

fn segments(disk: &SimStorage) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "wal")).collect()
}

/// Opens, and holds what it took against bounds: no panic, memory by what is
/// there and not by what is claimed, reading in proportion to it.
pub(crate) fn open_within_bounds(disk: &SimStorage) {
    let size: u64 = disk.files().iter().map(|path| disk.read_file(path).unwrap().len() as u64).sum();
    let files = disk.files().len() as u64;
    for recover in [Recover::CompleteEpoch, Recover::Latest] {
        let disk = Counting::new(disk.snapshot().crash(CrashKind::Process, 0));
        let open = || drop(options().recover(recover).open_on(disk.clone(), DIR, |_| Keyed::default()));
        // A panic must not leave the counting allocator counting.
        let mut result = Ok(());
        let info = allocation_counter::measure(|| result = catch_unwind(AssertUnwindSafe(open)));
        result.unwrap_or_else(|panic| resume_unwind(panic));
        let memory = (1 << 20) + 8 * size;
        assert!(info.bytes_max < memory, "{} bytes of memory for {size} bytes of files", info.bytes_max);
        assert!(disk.bytes_read() <= (1 << 20) + 24 * size, "{} bytes read of {size}", disk.bytes_read());
        assert!(disk.calls() <= 100 + 40 * files + size / 64, "{} calls for {files} files", disk.calls());
    }
}

/// Lines that no manifest of this store has.
const LINES: [&str; 12] = [
    "cores 0",
    "cores 1",
    "cores 3",
    "cores 1024",
    "cores 65536",
    "cores 02",
    "state creating",
    "state",
    "route md5",
    "log 00000000000000000000000000000000",
    "corewal manifest 2",
    "corewal manifest 0",
];

#[derive(Clone, Debug)]
enum Attack {
    /// A file of anything, signed or not.
    Anything(Index, Vec<u8>, bool),
    /// Some bytes changed.
    Bytes(Index, Vec<(Index, u8)>, bool),
    /// A number in the header of a frame.
    Frame(Index, Index, (usize, usize), u64),
    /// A number in the header of a segment.
    Segment(Index, (usize, usize), u64),
    /// Other bytes for the records of a frame.
    Records(Index, Index, Vec<u8>),
    /// A block of one file over one of another.
    Splice(Index, Index, Index, Index),
    /// Cut, or grown with one byte's value.
    Length(Index, u16, u8),
    /// A line of the manifest.
    Manifest(&'static str),
}

fn attack() -> impl Strategy<Value = Attack> {
    let index = any::<Index>;
    let number = || prop_oneof![select(NUMBERS.as_slice()), any::<u64>(), (0_u64..64).prop_map(|n| n * 4096)];
    prop_oneof![
        1 => (index(), vec(any::<u8>(), 0..9000), any::<bool>()).prop_map(|(f, b, s)| Attack::Anything(f, b, s)),
        2 => (index(), vec((index(), any::<u8>()), 1..8), any::<bool>()).prop_map(|(f, b, s)| Attack::Bytes(f, b, s)),
        4 => (index(), index(), select(FRAME_FIELDS.as_slice()), number()).prop_map(|(f, a, w, n)| Attack::Frame(f, a, w, n)),
        2 => (index(), select(SEGMENT_FIELDS.as_slice()), number()).prop_map(|(f, w, n)| Attack::Segment(f, w, n)),
        4 => (index(), index(), records()).prop_map(|(f, a, b)| Attack::Records(f, a, b)),
        1 => (index(), index(), index(), index()).prop_map(|(f, a, g, b)| Attack::Splice(f, a, g, b)),
        1 => (index(), any::<u16>(), any::<u8>()).prop_map(|(f, l, b)| Attack::Length(f, l, b)),
        1 => select(LINES.as_slice()).prop_map(Attack::Manifest),
    ]
}

/// Records as no writer makes them: an operation, lengths and numbers by chance.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![select(NUMBERS.as_slice()), 0_u64..20, (0_u64..16).prop_map(|n| n * 4096)];
    let record =
        (0_u8..16, prop_oneof![9 => Just(0_u16), 1 => any::<u16>()], vec(number(), 0..5), any::<Option<u32>>())
            .prop_map(|(op, key_len, numbers, lie)| {
                let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                let len = lie.filter(|lie| lie % 8 == 0).unwrap_or(body.len() as u32);
                [&[op, 0][..], &key_len.to_le_bytes(), &len.to_le_bytes(), &body].concat()
            });
    vec(record, 1..4).prop_map(|records| records.concat())
}

fn change(disk: &SimStorage, path: &Path, signed: bool, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.read_file(path).unwrap();
    change(&mut bytes);
    if signed {
        sign(&mut bytes);
    }
    disk.write_file(path, bytes);
}

/// The place of a frame among the blocks of a file.
fn block(bytes: &[u8], index: Index) -> usize {
    let blocks = (bytes.len() / BLOCK_LEN).saturating_sub(1).max(1);
    (1 + index.index(blocks)) * BLOCK_LEN
}

fn apply(disk: &SimStorage, attack: Attack) {
    let segments = segments(disk);
    let file = |index: Index| &segments[index.index(segments.len())];
    match attack {
        Attack::Anything(at, bytes, signed) => change(disk, file(at), signed, |file| {
            // Behind a true magic it goes further.
            let head = file.len().min(64);
            file.truncate(head);
            file.extend(bytes);
        }),
        Attack::Bytes(at, edits, signed) => change(disk, file(at), signed, |file| {
            for (at, byte) in edits {
                let at = at.index(file.len().max(1));
                if let Some(old) = file.get_mut(at) {
                    *old = byte;
                }
            }
        }),
        Attack::Frame(at, frame, field, number) => change(disk, file(at), true, |file| {
            let from = block(file, frame).min(file.len());
            put(&mut file[from..], field, number);
        }),
        Attack::Segment(at, field, number) => change(disk, file(at), true, |file| put(file, field, number)),
        Attack::Records(at, frame, records) => change(disk, file(at), true, |file| {
            let from = block(file, frame);
            let to = from + FRAME_HEADER_LEN + records.len();
            if to <= file.len() {
                file[from + FRAME_HEADER_LEN..to].copy_from_slice(&records);
                put(&mut file[from..], (8, 4), (FRAME_HEADER_LEN + records.len()) as u64);
            }
        }),
        Attack::Splice(at, to, other, from) => {
            let other = disk.read_file(file(other)).unwrap();
            let from = block(&other, from);
            let other = other.get(from..from + BLOCK_LEN).unwrap_or(&[]).to_vec();
            change(disk, file(at), true, |file| {
                let to = block(file, to);
                if let Some(block) = file.get_mut(to..to + other.len()) {
                    block.copy_from_slice(&other);
                }
            });
        }
        Attack::Length(at, len, byte) => change(disk, file(at), false, |file| file.resize(len.into(), byte)),
        Attack::Manifest(line) => {
            let path = Path::new(DIR).join("MANIFEST");
            let text = String::from_utf8(disk.read_file(&path).unwrap()).unwrap();
            disk.write_file(&path, manifest_with(&text, line).into_bytes());
        }
    }
}

/// How many stores are attacked: `PROPTEST_CASES`, or this many.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(5000, |text| text.parse().expect("PROPTEST_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_data_or_an_error(attacks in vec(attack(), 1..5)) {
        let disk = STORE.crash(CrashKind::Process, 0);
        for attack in attacks {
            apply(&disk, attack);
        }
        open_within_bounds(&disk);
    }
}

/// A large file in which every block claims to begin a frame as long as frames
/// can be: checking each claim would read the file over and over.
#[test]
fn a_file_full_of_claims_is_not_read_over_and_over() {
    let disk = STORE.crash(CrashKind::Process, 0);
    let path = segments(&disk).pop().unwrap();
    let mut bytes = disk.read_file(&path).unwrap();
    let identity: SegmentIdentity = corewal::format::SegmentHeader::decode(&bytes).unwrap().identity;
    let end = bytes.len();
    bytes.resize(24 << 20, 0);
    for at in (end..bytes.len()).step_by(BLOCK_LEN) {
        put(&mut bytes[at..], (4, 2), 0xF7C3);
        put(&mut bytes[at..], (8, 4), MAX_FRAME_LEN as u64);
        put(&mut bytes[at..], (16, 8), identity.base_lsn.get() + at as u64);
    }
    disk.write_file(&path, bytes);
    let disk = Counting::new(disk);
    let info = allocation_counter::measure(|| {
        let opened = options().open_on(disk.clone(), DIR, |_| Keyed::default());
        assert!(opened.is_err(), "what cannot be checked within bounds is refused");
    });
    assert!(info.bytes_max < (4 << 20) + 2 * MAX_FRAME_LEN as u64, "{} bytes of memory", info.bytes_max);
    assert!(disk.bytes_read() < 512 << 20, "{} bytes read of 24 MiB", disk.bytes_read());
}

#[test]
fn a_directory_full_of_empty_segments_is_looked_at_once() {
    let disk = STORE.crash(CrashKind::Process, 0);
    for number in 0..2000_u64 {
        let path = Path::new(DIR).join("core-0001").join(format!("{:020}.wal", 10 + 2 * number));
        disk.write_file(&path, Vec::new());
    }
    open_within_bounds(&disk);
}

/// Found by the attacks above: adding to such a base overflowed.
#[test]
fn a_base_lsn_past_all_logs_is_refused() {
    let disk = STORE.crash(CrashKind::Process, 0);
    let path = segments(&disk).pop().unwrap();
    let mut bytes = disk.read_file(&path).unwrap();
    put(&mut bytes, (40, 8), 9);
    put(&mut bytes, (48, 8), u64::MAX - 4095);
    sign(&mut bytes);
    disk.write_file(&path.with_file_name("00000000000000000009.wal"), bytes);
    open_within_bounds(&disk);
}

/// Found by the attacks above: the cursor compares the epochs in which frames
/// begin, so a barrier far ahead could be followed by a frame of its past.
#[test]
fn an_epoch_that_goes_back_between_two_frames_is_damage() {
    let disk = STORE.crash(CrashKind::Process, 0);
    change(&disk, &segments(&disk)[0], true, |file| {
        let barrier = [5, 0, 0, 0, 16, 0, 0, 0];
        let at = file.windows(8).position(|bytes| bytes == barrier).expect("a barrier");
        put(file, (at + 8, 8), 1000);
    });
    let error = options().open_on(disk, DIR, |_| Keyed::default()).unwrap_err();
    assert!(error.damage().is_some_and(|damage| damage.detail.contains("epoch goes back")), "{error}");
}

/// Found by the attacks above, once in some hundred thousand: the base to which
/// a seal leads was not held to what the header of a segment is, and was added to.
#[test]
fn a_seal_that_leads_past_all_logs_is_refused() {
    for index in 0..segments(&STORE.crash(CrashKind::Process, 0)).len() {
        for frame in 1..8 {
            for end in [u64::MAX - 4095, u64::MAX, (u64::MAX >> 1) - 4095, u64::MAX >> 1] {
                let disk = STORE.crash(CrashKind::Process, 0);
                let path = segments(&disk)[index].clone();
                change(&disk, &path, true, |file| {
                    let from = frame * BLOCK_LEN;
                    let to = from + FRAME_HEADER_LEN + 16;
                    if to <= file.len() {
                        put(&mut file[from..], (FRAME_HEADER_LEN, 8), 14 | 8 << 32);
                        put(&mut file[from..], (FRAME_HEADER_LEN + 8, 8), end);
                        put(&mut file[from..], (8, 4), (FRAME_HEADER_LEN + 16) as u64);
                    }
                });
                open_within_bounds(&disk);
            }
        }
    }
}
