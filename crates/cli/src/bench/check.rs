//! Whether a measured store gives back what was acknowledged.

use std::path::Path;

use corewal::io::FileStorage;
use corewal::{Change, Options, Recover, State};

use super::work::number;
use crate::exit::Failure;

/// A state that only checks the numbers of the records.
#[derive(Debug, Default)]
struct Numbers {
    last: Option<u64>,
    wrong: Option<String>,
}

impl State for Numbers {
    fn apply(&mut self, change: Change<'_>) {
        let Change::Put { key, .. } = change else { return };
        let found = number(key);
        // Where the beginning was released, any number may be the first.
        let expected = self.last.map(|last| last + 1);
        if found.is_none() || expected.is_some() && found != expected {
            self.wrong.get_or_insert_with(|| format!("after record {:?} came {found:?}", self.last));
        }
        self.last = found;
    }
}

/// Reopens the bare logs of a store: of each, the last of so many numbered
/// records must be there, and none may be missing before it.
pub(super) fn numbers(storage: FileStorage, dir: &Path, acknowledged: &[u64]) -> Result<(), Failure> {
    let opened = Options::new().create(false).recover(Recover::Latest).open_on(storage, dir, |_| Numbers::default())?;
    for (shard, &count) in opened.shards.iter().zip(acknowledged) {
        let core = shard.core();
        let Numbers { last, wrong } = shard.state();
        if let Some(wrong) = wrong {
            return Err(Failure::data(format!("core {core} of {}: {wrong}", dir.display())));
        }
        let held = last.map_or(0, |last| last + 1);
        if held != count {
            return Err(Failure::data(format!(
                "core {core} of {}: {count} records were acknowledged, the log goes up to {held}: this is a bug, \
                 please report it",
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
        numbers(FileStorage::new(), &store, &[5]).unwrap();
        let message = numbers(FileStorage::new(), &store, &[6]).unwrap_err().to_string();
        assert!(message.contains("6 records were acknowledged, the log goes up to 5"), "{message}");
    }
}
