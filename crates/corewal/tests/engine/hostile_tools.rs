//! Hostile bytes and the tools: whatever a store's files hold, looking,
//! verifying and repairing give data or an error, and a repaired store opens.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use corewal::io::{SimOptions, SimStorage};
use corewal::{Commit, Keyed, LogId, Lsn, Options, Reader, Recover, repair_on, verify_on};
use proptest::prelude::*;

const DIR: &str = "/store";

fn options() -> Options {
    Options::new().cores(2).segment_bytes(16 << 10).buffer_bytes(4 << 10).log_id(LogId([5; 16])).single_threaded()
}

/// A store of two cores and several segments, closed in order.
fn store() -> SimStorage {
    let disk = SimStorage::new(SimOptions::default());
    let mut opened = options().open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
    for round in 0..12_u8 {
        let epoch = opened.store.next_epoch();
        for n in 0..20_u8 {
            let key = [n];
            let core = opened.store.route(&key);
            opened.shards[core.index()].put(&key, &[round; 150]).unwrap();
        }
        for shard in &mut opened.shards {
            shard.commit(&Commit::new().offset_u64("input", round.into())).unwrap();
            shard.end_epoch(epoch).unwrap();
            shard.sync().unwrap();
        }
    }
    for shard in opened.shards {
        shard.close().unwrap();
    }
    disk
}

#[derive(Clone, Debug)]
enum Harm {
    /// Changes bytes at a place given in parts of the file's length.
    Change {
        file: usize,
        place: f64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
        place: f64,
    },
    Remove {
        file: usize,
    },
    /// The content of one file stands in another.
    Copy {
        from: usize,
        to: usize,
    },
    Fill {
        file: usize,
        bytes: Vec<u8>,
    },
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..600);
    let place = || 0.0..1.0_f64;
    prop_oneof![
        4 => (any::<usize>(), place(), bytes()).prop_map(|(file, place, bytes)| Harm::Change { file, place, bytes }),
        2 => (any::<usize>(), place()).prop_map(|(file, place)| Harm::Truncate { file, place }),
        1 => any::<usize>().prop_map(|file| Harm::Remove { file }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Harm::Copy { from, to }),
        1 => (any::<usize>(), bytes()).prop_map(|(file, bytes)| Harm::Fill { file, bytes }),
    ]
}

fn apply(disk: &SimStorage, harm: &Harm) {
    let files: Vec<PathBuf> = disk.files().into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let pick = |at: &usize| files[at % files.len()].clone();
    let read = |path: &Path| disk.read_file(path).unwrap_or_default();
    let at = |len: usize, place: &f64| (len as f64 * place) as usize;
    match harm {
        Harm::Change { file, place, bytes } => {
            let mut content = read(&pick(file));
            let from = at(content.len(), place);
            let len = bytes.len().min(content.len() - from);
            content[from..from + len].copy_from_slice(&bytes[..len]);
            disk.write_file(&pick(file), content);
        }
        Harm::Truncate { file, place } => {
            let mut content = read(&pick(file));
            content.truncate(at(content.len(), place));
            disk.write_file(&pick(file), content);
        }
        Harm::Remove { file } => {
            disk.remove_file_durably(&pick(file));
        }
        Harm::Copy { from, to } => {
            disk.write_file(&pick(to), read(&pick(from)));
        }
        Harm::Fill { file, bytes } => {
            let len = read(&pick(file)).len();
            disk.write_file(&pick(file), bytes.iter().copied().cycle().take(len).collect());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tools_never_panic_and_a_repaired_store_opens(harms in proptest::collection::vec(harm(), 1..4)) {
        let disk = store();
        for harm in &harms {
            apply(&disk, harm);
        }
        if let Ok(reader) = Reader::open_on(disk.clone(), DIR) {
            let _ = reader.info();
            let _ = reader.replay(Recover::CompleteEpoch, |_| Keyed::default());
            reader.for_each_record(None, Lsn(0), |_| ControlFlow::Continue(())).unwrap();
        }
        let opens = options().open_on(disk.snapshot().crash(corewal::io::CrashKind::Process, 1), DIR, |_| Keyed::default());
        let found = verify_on(disk.clone(), DIR);
        if let Err(error) = &opens {
            let quiet = found.as_ref().is_ok_and(|found| found.findings.is_empty());
            prop_assert!(!quiet, "open refuses and verify finds nothing: {error}");
        }
        if let Ok(done) = repair_on(disk.clone(), DIR, true) {
            let opened = options().open_on(disk, DIR, |_| Keyed::default());
            let opened = opened.map_err(|error| TestCaseError::fail(format!("{error} after {done:?}")))?;
            prop_assert_eq!(opened.report.complete_epoch, done.complete_epoch);
            let offsets: Vec<_> = opened.shards.iter().map(|shard| shard.offset_u64("input")).collect();
            prop_assert_eq!(offsets[0], offsets[1], "one cut over both cores");
        }
    }
}
