//! What the store must hold, known without looking at it, and the comparison.

use std::fmt;

use corewal::{Epoch, Lsn, Opened, Sequence};

use super::seen::{Seen, State, advance};
use super::workload::Workload;

/// A promise that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// After a kill the store opens.
    Opens,
    /// What was acknowledged is there.
    Durable,
    /// The state is that of whole commits: exactly the operations up to the
    /// offset, none of them in part.
    Atomic,
    /// State, offsets and watermark of all cores are of the same epoch.
    Consistent,
    /// LSN and sequence never go back.
    Order,
    /// Epochs never go back and are not used twice.
    Epochs,
    /// One process at a time.
    Lock,
    /// Who reads beside the writer sees the end of an epoch that stays.
    Readers,
    /// Damage is refused, and nothing else comes of it than the documents say.
    Damage,
    /// What a repair leaves opens, at a state that there was.
    Repair,
    /// What is restored is what was pushed.
    Archive,
}

impl Promise {
    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::Opens,
        Self::Durable,
        Self::Atomic,
        Self::Consistent,
        Self::Order,
        Self::Epochs,
        Self::Lock,
        Self::Readers,
        Self::Damage,
        Self::Repair,
        Self::Archive,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opens => "opens",
            Self::Durable => "durable",
            Self::Atomic => "atomic",
            Self::Consistent => "consistent",
            Self::Order => "order",
            Self::Epochs => "epochs",
            Self::Lock => "lock",
            Self::Readers => "readers",
            Self::Damage => "damage",
            Self::Repair => "repair",
            Self::Archive => "archive",
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// Which.
    pub(super) promise: Promise,
    /// What was expected and what was found.
    pub(super) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise.name(), self.detail)
    }
}

/// An epoch that the child called complete, and the offset it ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The epoch.
    pub(super) epoch: Epoch,
    /// Operations done at its end.
    pub(super) offset: u64,
}

/// Where a core's log stood after an opening.
#[derive(Clone, Copy, Debug)]
struct Stand {
    lsn: Lsn,
    sequence: Sequence,
    epoch: Epoch,
}

/// The state after the first `offset` operations, and what the store showed
/// last.
#[derive(Debug)]
pub(super) struct Oracle {
    workload: Workload,
    state: State,
    offset: u64,
    complete: Epoch,
    stands: Vec<Stand>,
}

impl Oracle {
    /// Of an empty store.
    pub(super) fn new(workload: Workload) -> Self {
        Self { workload, state: State::new(), offset: 0, complete: Epoch(0), stands: Vec::new() }
    }

    /// Operations that the store had when it was checked last.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The state after so many operations.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Compares an opened store with what it must be, given the last epoch that
    /// was acknowledged since the last check. Gives what is wrong.
    pub(super) fn check(&mut self, opened: &mut Opened, acknowledged: Option<Acknowledged>) -> Vec<Violation> {
        let mut found = Vec::new();
        let seen = Seen::of(opened);
        self.check_progress(opened, &seen, acknowledged, &mut found);
        if found.is_empty() {
            seen.check_state(&self.state, &mut found);
        }
        self.check_stands(opened, &mut found);
        found
    }

    /// How far the store says that it is.
    fn check_progress(
        &mut self,
        opened: &Opened,
        seen: &Seen,
        acknowledged: Option<Acknowledged>,
        found: &mut Vec<Violation>,
    ) {
        seen.check_consistent(self.workload, found);
        let mut broken = |promise, detail| found.push(Violation { promise, detail });
        let complete = opened.report.complete_epoch;
        let offset = seen.offset();
        if opened.store.complete_epoch() != complete {
            let store = opened.store.complete_epoch();
            broken(Promise::Epochs, format!("the report says epoch {complete} is complete, the store epoch {store}"));
        }
        if complete < self.complete {
            broken(Promise::Durable, format!("epoch {} was complete, now only {complete} is", self.complete));
        }
        if offset < self.offset {
            broken(Promise::Durable, format!("offset {} was recovered earlier, now only {offset}", self.offset));
        }
        if let Some(Acknowledged { epoch, offset: acknowledged }) = acknowledged {
            if complete < epoch || offset < acknowledged {
                broken(
                    Promise::Durable,
                    format!(
                        "epoch {epoch} with offset {acknowledged} was acknowledged, recovered are {complete} and {offset}"
                    ),
                );
            }
            if (complete == epoch) != (offset == acknowledged) {
                broken(
                    Promise::Consistent,
                    format!(
                        "epoch {epoch} ends at offset {acknowledged}, but epoch {complete} came back with {offset}"
                    ),
                );
            }
        }
        if found.is_empty() {
            advance(self.workload, &mut self.state, self.offset, offset);
            self.offset = offset;
            self.complete = complete;
        }
    }

    fn check_stands(&mut self, opened: &Opened, found: &mut Vec<Violation>) {
        let stands: Vec<_> = opened
            .shards
            .iter()
            .map(|shard| Stand {
                lsn: shard.log().appended_lsn(),
                sequence: shard.log().sequence(),
                epoch: shard.log().epoch(),
            })
            .collect();
        if stands.len() != self.stands.len() {
            // Another number of cores, each with a log that begins behind all
            // there were.
            let before = self.stands.iter().map(|stand| stand.lsn).max().unwrap_or(Lsn(0));
            if let Some(now) = stands.iter().find(|stand| stand.lsn <= before) {
                let detail = format!("a core of another number of cores stands at {now:?}, one of before at {before}");
                found.push(Violation { promise: Promise::Order, detail });
            }
            self.stands.clear();
        }
        for (core, (before, now)) in self.stands.iter().zip(&stands).enumerate() {
            // Each opening writes a record, so both must have moved.
            if now.lsn <= before.lsn || now.sequence <= before.sequence {
                let detail = format!("core {core} went from {before:?} to {now:?}");
                found.push(Violation { promise: Promise::Order, detail });
            }
            if now.epoch < before.epoch {
                let detail = format!("core {core} went from {before:?} to {now:?}");
                found.push(Violation { promise: Promise::Epochs, detail });
            }
        }
        if let Some(stand) = stands.iter().find(|stand| stand.epoch <= self.complete) {
            let detail = format!("epoch {} is complete, and {stand:?} would use it again", self.complete);
            found.push(Violation { promise: Promise::Epochs, detail });
        }
        self.stands = stands;
    }
}

#[cfg(test)]
mod tests {
    use super::super::setup::Setup;
    use super::super::workload::{Operation, SOURCE, Scratch};
    use super::*;

    const WORKLOAD: Workload = Workload { seed: 3, keys: 50, value_bytes: 40_000 };

    fn options(cores: u16) -> corewal::Options {
        Setup::small(cores, 50).options()
    }

    fn apply(opened: &mut Opened, operation: Operation<'_>) {
        let shard = &mut opened.shards[opened.store.route(operation.key()).index()];
        match operation {
            Operation::Put(key, value) => shard.put(key, value).unwrap(),
            Operation::Delete(key) => shard.delete(key).unwrap(),
        }
    }

    /// Writes an epoch from `begin` on as the workload says, but for what
    /// `spoil` does before the barrier.
    fn epoch(opened: &mut Opened, begin: u64, spoil: impl Fn(&mut Opened)) -> Acknowledged {
        let (epoch, end) = (opened.store.next_epoch(), begin + WORKLOAD.epoch_length());
        let mut scratch = Scratch::default();
        for n in begin..end {
            apply(opened, WORKLOAD.operation(n, &mut scratch));
        }
        for shard in &mut opened.shards {
            shard.commit(&WORKLOAD.commit(end)).unwrap();
        }
        spoil(opened);
        for shard in &mut opened.shards {
            shard.end_epoch(epoch).unwrap();
            shard.sync().unwrap();
        }
        Acknowledged { epoch, offset: end }
    }

    fn check(spoil: impl Fn(&mut Opened), forge: impl Fn(Acknowledged) -> Acknowledged) -> Vec<Promise> {
        let dir = tempfile::tempdir().unwrap();
        let open = || options(2).open(dir.path()).unwrap();
        let mut oracle = Oracle::new(WORKLOAD);
        let first = epoch(&mut open(), 0, |_| ());
        assert_eq!(oracle.check(&mut open(), Some(first)), []);
        assert_eq!(oracle.check(&mut open(), None), []);
        let second = epoch(&mut open(), first.offset, spoil);
        oracle.check(&mut open(), Some(forge(second))).into_iter().map(|violation| violation.promise).collect()
    }

    fn commit_all(opened: &mut Opened, commit: &corewal::Commit) {
        for shard in &mut opened.shards {
            shard.commit(commit).unwrap();
        }
    }

    #[test]
    fn a_true_store_passes() {
        assert_eq!(check(|_| (), |ack| ack), []);
    }

    #[test]
    fn what_is_broken_is_named() {
        let lost = |ack: Acknowledged| Acknowledged { epoch: ack.epoch.next(), offset: ack.offset + 1 };
        assert_eq!(check(|_| (), lost), [Promise::Durable]);
        let other = |ack: Acknowledged| Acknowledged { offset: ack.offset - 1, ..ack };
        assert_eq!(check(|_| (), other), [Promise::Consistent]);

        let stray = |opened: &mut Opened| {
            let operation = Operation::Put(b"key-000001", b"stray");
            apply(opened, operation);
            commit_all(opened, &corewal::Commit::new());
        };
        assert_eq!(check(stray, |ack| ack), [Promise::Atomic]);
        let missing = |opened: &mut Opened| {
            (0..50).for_each(|n| apply(opened, Operation::Delete(format!("key-{n:06}").as_bytes())));
            commit_all(opened, &corewal::Commit::new());
        };
        assert_eq!(check(missing, |ack| ack), [Promise::Atomic]);
        let uneven = |opened: &mut Opened| {
            opened.shards[1].commit(&corewal::Commit::new().offset_u64(SOURCE, 1)).unwrap();
        };
        assert_eq!(check(uneven, |ack| ack), [Promise::Consistent]);
        let late = |opened: &mut Opened| commit_all(opened, &corewal::Commit::new().watermark(i64::MAX));
        assert_eq!(check(late, |ack| ack), [Promise::Consistent]);
    }

    /// Cuts the end of a core's log off, so that its last epoch is gone: what a
    /// lost write would do. The last frame of each core is an opening's, so the
    /// store is one that a kill left.
    #[test]
    fn a_store_from_which_an_acknowledged_epoch_was_cut_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut oracle = Oracle::new(WORKLOAD);
        // On one thread: none renames a file while they are copied.
        let mut opened = options(1).single_threaded().open(dir.path()).unwrap();
        let first = epoch(&mut opened, 0, |_| ());
        let kept: Vec<_> =
            files(dir.path()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        let second = epoch(&mut opened, first.offset, |_| ());
        std::mem::forget(opened);
        // As the medium would be if the second epoch had never come to it.
        let away = tempfile::tempdir().unwrap();
        for (path, bytes) in kept {
            let target = away.path().join(path.strip_prefix(dir.path()).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(target, bytes).unwrap();
        }
        let mut lost = options(1).open(away.path()).unwrap();
        assert_eq!(oracle.check(&mut lost, Some(first)), [], "the first is there");
        drop(lost);
        let mut lost = options(1).open(away.path()).unwrap();
        let found = oracle.check(&mut lost, Some(second));
        assert_eq!(found.first().map(|violation| violation.promise), Some(Promise::Durable), "{found:?}");
    }

    fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn a_log_that_went_back_is_named() {
        let (dir, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut oracle = Oracle::new(WORKLOAD);
        for dir in [dir.path(), dir.path()] {
            assert_eq!(oracle.check(&mut options(2).open(dir).unwrap(), None), []);
        }
        let found = oracle.check(&mut options(2).open(fresh.path()).unwrap(), None);
        assert!(found.iter().any(|violation| violation.promise == Promise::Order), "{found:?}");
    }
}
