//! Whether a measured store gives back what was acknowledged.

use std::ops::Range;
use std::path::Path;

use corewal::io::FileStorage;
use corewal::{Change, Options, Recover, State};

use super::work::number;
use crate::exit::Failure;

/// A state that only checks the numbers of the records.
#[derive(Debug, Default)]
struct Numbers {
    /// All that were found, without a gap.
    found: Option<Range<u64>>,
    wrong: Option<String>,
}

impl State for Numbers {
    fn apply(&mut self, change: Change<'_>) {
        let Change::Put { key, .. } = change else { return };
        match (number(key), &mut self.found) {
            // Where the beginning was released, any number may be the first.
            (Some(number), None) => self.found = Some(number..number + 1),
            (Some(number), Some(found)) if number == found.end => found.end += 1,
            (number, found) => {
                self.wrong.get_or_insert_with(|| format!("after records {found:?} came {number:?}"));
            }
        }
    }
}

/// Reopens the bare logs of a store: of each, these numbered records must be
/// there, none after them, and before them only those that come right before.
pub(super) fn numbers(storage: FileStorage, dir: &Path, held: &[Range<u64>]) -> Result<(), Failure> {
    let opened = Options::new().create(false).recover(Recover::Latest).open_on(storage, dir, |_| Numbers::default())?;
    for (shard, held) in opened.shards.iter().zip(held) {
        let core = shard.core();
        let Numbers { found, wrong } = shard.state();
        if let Some(wrong) = wrong {
            return Err(Failure::data(format!("core {core} of {}: {wrong}", dir.display())));
        }
        let found = found.clone().unwrap_or(held.start..held.start);
        if found.end != held.end || found.start > held.start {
            return Err(Failure::data(format!(
                "core {core} of {}: records {held:?} were acknowledged and not released, the log has {found:?}: this \
                 is a bug, please report it",
                dir.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::work::Log;
    use super::*;

    #[test]
    fn what_is_missing_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        let options = Options::new().cores(1);
        let mut log = Log::create(FileStorage::new(), &store, options, 10).unwrap().remove(0);
        for _ in 0..5 {
            log.put().unwrap();
        }
        log.commit().unwrap();
        log.writer.sync().unwrap();
        log.next += 1; // one is skipped
        log.put().unwrap();
        drop(log); // and one is not committed
        let check = |held| numbers(FileStorage::new(), &store, &[held]);
        check(0..5).unwrap();
        check(3..5).unwrap();
        for held in [0..6, 0..4, 5..6] {
            let message = check(held.clone()).unwrap_err().to_string();
            assert!(message.contains(&format!("{held:?} were acknowledged")) && message.contains("0..5"), "{message}");
        }
    }

    #[test]
    fn a_beginning_may_be_missing_only_where_it_was_released() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        let mut log = Log::create(FileStorage::new(), &store, Options::new().cores(1), 10).unwrap().remove(0);
        log.next = 3;
        log.put().unwrap();
        log.commit().unwrap();
        log.writer.sync().unwrap();
        drop(log);
        let check = |held| numbers(FileStorage::new(), &store, &[held]);
        check(3..4).unwrap();
        check(4..4).unwrap();
        assert!(check(0..4).is_err() && check(4..5).is_err());
    }

    #[test]
    fn a_log_of_which_all_was_released_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        drop(Log::create(FileStorage::new(), &store, Options::new().cores(1), 10).unwrap());
        let check = |held| numbers(FileStorage::new(), &store, &[held]);
        check(7..7).unwrap();
        assert!(check(6..7).is_err());
    }
}
