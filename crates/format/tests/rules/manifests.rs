//! The manifest and its checkpoints.

use corewal_format::{
    Checkpoint, CoreCheckpoint, Epoch, LogId, Lsn, MAX_CORES, MAX_EPOCH, MAX_MANIFEST_LEN, Manifest, ManifestError,
    ManifestState, RECORD_HEADER_LEN, RunId, RunRef, TimestampNs, crc32c_append,
};

const MOST: u64 = u64::MAX >> 2;
/// The last position that can be covered: behind every segment that there can be.
const LAST: Lsn = Lsn(u64::MAX >> 1);

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
    accepted(|manifest| manifest.checkpoints[1].cores[0].lsn = LAST);
    accepted(|manifest| manifest.checkpoints[1].cores[0].runs[1].run = RunId(MOST));
    accepted(|manifest| manifest.checkpoints[1].cores[0].runs[1].level = 0);
    let wrong: &[fn(&mut Manifest)] = &[
        |manifest| manifest.checkpoints[1].epoch = Epoch(MAX_EPOCH.0 + 1),
        |manifest| manifest.checkpoints[1].epoch = Epoch(9),
        |manifest| manifest.checkpoints[1].number = 1,
        |manifest| manifest.checkpoints[0].number = 0,
        |manifest| manifest.checkpoints[1].number = 4,
        |manifest| manifest.checkpoints[1].cores[0].lsn = LAST.plus(1),
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
