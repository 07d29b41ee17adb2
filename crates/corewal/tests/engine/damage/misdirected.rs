//! Blocks that landed in another file than the one they were written to.

use std::path::PathBuf;

use corewal::format::BLOCK_LEN;
use corewal::io::{CrashKind, SimStorage};
use corewal::{Commit, Keyed, Recover};

use super::world::{DIR, data_of, options, place_of};

#[test]
fn a_block_that_landed_in_the_other_cores_file_is_noticed() {
    other_cores_blocks(Recover::CompleteEpoch);
}

/// No epoch ends, so no log knows anything of the other: what was durable the
/// frames behind it know.
#[test]
fn a_block_that_landed_in_the_other_cores_file_is_noticed_by_its_own_log_alone() {
    other_cores_blocks(Recover::Latest);
}

/// Two cores that have done the same as often, so that frames of the two stand
/// at the same positions with the same numbers: only whose they are differs. A
/// disk that wrote one over the other has taken an acknowledged commit away and
/// given a foreign one for it.
fn other_cores_blocks(recover: Recover) {
    let options = || options(7).recover(recover);
    let disk = SimStorage::default();
    let mut store = options().open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
    let keys = [0, 1].map(|core| {
        let mut names = (0..).map(|number: u32| number.to_string());
        names.find(|name| store.store.route(name.as_bytes()).index() == core).unwrap()
    });
    for round in 0..8_u64 {
        let epoch = store.store.next_epoch();
        for (shard, key) in store.shards.iter_mut().zip(&keys) {
            shard.put(key.as_bytes(), &round.to_le_bytes()).unwrap();
            shard.commit(&Commit::new().offset_u64("input", round)).unwrap();
            if recover == Recover::CompleteEpoch {
                shard.end_epoch(epoch).unwrap();
            }
            shard.sync().unwrap();
        }
    }
    let whole = data_of(&store);
    store.shards.drain(..).for_each(|shard| shard.close().unwrap());
    drop(store);
    let closed = disk.snapshot();
    let copy = || closed.crash(CrashKind::Process, 0);
    let (mut same, mut refused) = (0, 0);
    for (to, from) in [(0, 1), (1, 0)] {
        for (path, other) in segments(&copy(), to).iter().zip(&segments(&copy(), from)) {
            let (bytes, theirs) = (copy().read_file(path).unwrap(), copy().read_file(other).unwrap());
            for at in (BLOCK_LEN..bytes.len().min(theirs.len())).step_by(BLOCK_LEN) {
                let mut changed = bytes.clone();
                changed[at..at + BLOCK_LEN].copy_from_slice(&theirs[at..at + BLOCK_LEN]);
                if changed == bytes {
                    continue;
                }
                let damaged = copy();
                damaged.write_file(path, changed);
                match options().open_on(damaged, DIR, |_| Keyed::default()) {
                    Ok(store) => {
                        assert_eq!(data_of(&store), whole, "{} over {} at {at}", other.display(), path.display());
                        same += 1;
                    }
                    Err(error) => {
                        let damage = error.damage().unwrap_or_else(|| panic!("{error}"));
                        assert_eq!((damage.core.index(), damage.offset), (to, at as u64), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("blocks of one core in the file of the other: {same} identical, {refused} refused");
    assert!(refused >= 20, "{refused}");
}

/// The segments of a core, in order.
fn segments(disk: &SimStorage, core: usize) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| place_of(path).is_some_and(|(of, _)| of.index() == core));
    files
}
