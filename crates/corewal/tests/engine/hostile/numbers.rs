//! Numbers of a manifest at the ends of what their type holds, under an intact
//! checksum.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use corewal::format::Manifest;
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{Checkpoints, Commit, Keyed, SystemClock, checkpoint_on, repair_on, verify_on};

use super::forge::{NUMBERS, manifest_with_number};
use super::open::{DIR, open_within_bounds, options};

/// A store of two cores with two checkpoints of several runs, and some log
/// behind them.
static STORE: LazyLock<SimSnapshot> = LazyLock::new(|| {
    let disk = SimStorage::default();
    for round in 0..3_u64 {
        let mut opened = options().open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
        for epoch in 0..2_u64 {
            let ended = opened.store.next_epoch();
            for n in 0..40_u64 {
                let key = format!("key-{}-{n}", round % 2);
                let owner = opened.store.route(key.as_bytes());
                opened.shards[owner.index()].put(key.as_bytes(), &[7; 50]).unwrap();
            }
            for shard in &mut opened.shards {
                shard.commit(&Commit::new().offset_u64("input", 2 * round + epoch)).unwrap();
                shard.end_epoch(ended).unwrap();
                shard.sync().unwrap();
            }
        }
        drop(opened);
        if round < 2 {
            checkpoint_on(disk.clone(), DIR, Checkpoints::default().keep(2), Arc::new(SystemClock)).unwrap();
        }
    }
    disk.snapshot()
});

fn disk() -> SimStorage {
    STORE.crash(CrashKind::Process, 0)
}

/// Before numbers were held to bounds two runs that claimed most of 2^64 keys
/// overflowed the sum of them, one that claimed 2^26 had room made for so many, and a manifest
/// with the last number could not be followed by another.
#[test]
fn a_manifest_with_any_number_changed_takes_no_memory_by_it_and_overflows_nothing() {
    let path = Path::new(DIR).join("MANIFEST");
    let text = String::from_utf8(disk().read_file(&path).unwrap()).unwrap();
    assert!(Manifest::decode(text.as_bytes()).unwrap().checkpoints.iter().any(|one| !one.cores[0].runs.is_empty()));
    let (mut walked, mut accepted) = (0, 0);
    for place in 0.. {
        let Some(_) = manifest_with_number(&text, place, 0) else { break };
        for number in NUMBERS {
            let forged = manifest_with_number(&text, place, number).expect("the place is there");
            accepted += u32::from(Manifest::decode(forged.as_bytes()).is_ok());
            let disk = disk();
            disk.write_file(&path, forged.clone().into_bytes());
            // So that it is this one that is taken or refused.
            disk.remove_file_durably(&Path::new(DIR).join("MANIFEST.old"));
            open_within_bounds(&disk);
            let _ = verify_on(disk.clone(), DIR);
            let _ = repair_on(disk.clone(), DIR, true);
            walked += 1;
        }
    }
    assert!(walked > 300 && accepted > walked / 20, "{walked} {accepted}");
}
