//! A run: the one file of a checkpoint.
//!
//! The first byte says what is mended ([`seal`](crate::seal)), whether the
//! manifest says of the run what it is, and its level; the others are the file.

use std::collections::BTreeMap;

use corewal::format::{BLOCK_LEN, CoreId, Frame, Lsn, Record, RunRef, SegmentIdentity, block_align};

use crate::frames::decode_all;
use crate::hold::hold;
use crate::input::is_set;
use crate::seal::{NAMED, NUMBERED, PLACED, SIGNED, header, mend};
use crate::store::{CHECKPOINT_ONLY, LOG, WAYS, copy, disk, manifest, manifest_path, open, options, run};
use crate::{Outcome, Seed};

/// The manifest states the length, the counts and the checksum of the file.
const COUNTED: u8 = 16;
/// The run is changes, and not a part of the base.
const CHANGES: u8 = 32;

type Keys = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

pub(crate) fn check(input: &[u8]) -> Outcome {
    let Some((&mode, bytes)) = input.split_first() else { return Outcome::Refused };
    let disk = disk(&CHECKPOINT_ONLY);
    let (known, path) = run(&disk);
    let identity = SegmentIdentity::of_run(LOG, CoreId(0), known.run);
    let mut file = bytes.to_vec();
    if is_set(mode, COUNTED) {
        // Padding behind the last frame is part of a run.
        file.resize(block_align(file.len()), 0);
    }
    mend(&mut file, mode, &header(identity, true));
    decode_all(&file);
    let keys = read(&file, identity.checksum_seed());
    let mut named = known;
    named.level = u8::from(!is_set(mode, CHANGES));
    if is_set(mode, COUNTED) {
        let puts = keys.values().filter(|value| value.is_some()).count() as u64;
        let (bytes, deletes) = (file.len() as u64, keys.len() as u64 - puts);
        named = RunRef { bytes, puts, deletes, crc: crc32c::crc32c(&file), ..named };
    }
    let mut manifest = manifest(&disk);
    manifest.checkpoints.last_mut().expect("one").cores[0].runs = vec![named];
    disk.write_file(&manifest_path(), manifest.encode().into_bytes());
    disk.write_file(&path, file);
    let expected: BTreeMap<&[u8], &[u8]> =
        keys.iter().filter_map(|(key, value)| Some((key.as_slice(), value.as_deref()?))).collect();
    for recover in WAYS {
        if let Ok(store) = open(&copy(&disk), options().recover(recover)) {
            let found: BTreeMap<_, _> = store.shards[0].state().iter().collect();
            assert_eq!(found, expected, "an opening took it for something else");
        }
    }
    hold(&disk)
}

/// The keys of a run, read as plainly as can be: whatever frames there are, in
/// the order in which they stand.
fn read(file: &[u8], seed: u32) -> Keys {
    let mut keys = Keys::new();
    let mut at = BLOCK_LEN;
    while let Some(Ok(frame)) = file.get(at..).map(|bytes| Frame::decode(bytes, seed, Lsn(at as u64))) {
        for entry in frame.entries().flatten() {
            match entry.record {
                Record::Put { key, value } => keys.insert(key.to_vec(), Some(value.to_vec())),
                Record::Delete { key } => keys.insert(key.to_vec(), None),
                _ => None,
            };
        }
        at += block_align(frame.header.len);
    }
    keys
}

pub(crate) fn seeds() -> Vec<Seed> {
    let disk = disk(&CHECKPOINT_ONLY);
    let file = disk.read_file(&run(&disk).1).expect("a run");
    let seed = |mode: u8, len: usize| [&[mode][..], &file[..len]].concat();
    let end = file.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    vec![
        ("as_it_is", seed(0, file.len())),
        ("counted", seed(COUNTED, end)),
        ("signed", seed(COUNTED | SIGNED, end)),
        ("placed", seed(COUNTED | SIGNED | PLACED | NUMBERED, end)),
        ("changes", seed(COUNTED | CHANGES | SIGNED | NAMED, end)),
        ("cut", seed(COUNTED | SIGNED, file.len() - BLOCK_LEN)),
    ]
}
