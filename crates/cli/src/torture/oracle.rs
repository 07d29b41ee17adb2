//! What the store must hold, known without looking at it, and the comparison.

use std::collections::BTreeMap;
use std::fmt;

use corewal::{Epoch, Lsn, Opened, Sequence};

use super::workload::{Operation, SOURCE, Scratch, Workload};
use crate::text;

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
}

impl Promise {
    /// All of them.
    pub(super) const ALL: [Self; 7] =
        [Self::Opens, Self::Durable, Self::Atomic, Self::Consistent, Self::Order, Self::Epochs, Self::Lock];

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
    scratch: Scratch,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    offset: u64,
    complete: Epoch,
    stands: Vec<Stand>,
}

impl Oracle {
    /// Of an empty store.
    pub(super) fn new(workload: Workload) -> Self {
        Self {
            workload,
            scratch: Scratch::default(),
            state: BTreeMap::new(),
            offset: 0,
            complete: Epoch(0),
            stands: Vec::new(),
        }
    }

    /// Operations that the store had when it was checked last.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Compares an opened store with what it must be, given the last epoch that
    /// was acknowledged since the last check. Gives what is wrong.
    pub(super) fn check(&mut self, opened: &mut Opened, acknowledged: Option<Acknowledged>) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_progress(opened, acknowledged, &mut found);
        if found.is_empty() {
            self.check_state(opened, &mut found);
        }
        self.check_stands(opened, &mut found);
        found
    }

    /// How far the store says that it is.
    fn check_progress(&mut self, opened: &Opened, acknowledged: Option<Acknowledged>, found: &mut Vec<Violation>) {
        let mut broken = |promise, detail| found.push(Violation { promise, detail });
        let complete = opened.report.complete_epoch;
        let offsets: Vec<_> = opened.shards.iter().map(|shard| shard.offset_u64(SOURCE).unwrap_or(0)).collect();
        let watermarks: Vec<_> = opened.shards.iter().map(corewal::Shard::watermark).collect();
        let offset = offsets.iter().copied().max().unwrap_or(0);
        let watermark = (offset > 0).then(|| self.workload.watermark(offset));

        if offsets.iter().any(|other| *other != offset) {
            broken(Promise::Consistent, format!("the cores stand at different offsets: {offsets:?}"));
        }
        if watermarks.iter().any(|found| *found != watermark) {
            broken(
                Promise::Consistent,
                format!("at offset {offset} the watermark is {watermark:?}, the cores say {watermarks:?}"),
            );
        }
        if !offset.is_multiple_of(self.workload.epoch_length()) {
            broken(Promise::Consistent, format!("offset {offset} is not the end of an epoch"));
        }
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
            self.advance(offset);
            self.complete = complete;
        }
    }

    fn advance(&mut self, offset: u64) {
        for n in self.offset..offset {
            match self.workload.operation(n, &mut self.scratch) {
                Operation::Put(key, value) => self.state.insert(key.to_vec(), value.to_vec()),
                Operation::Delete(key) => self.state.remove(key),
            };
        }
        self.offset = offset;
    }

    fn check_state(&self, opened: &mut Opened, found: &mut Vec<Violation>) {
        let offset = self.offset;
        let mut seen = BTreeMap::new();
        let router = opened.store.router();
        for shard in &mut opened.shards {
            let core = shard.core();
            for (key, value) in shard.scan(b"") {
                if router.route(key) != core {
                    let detail = format!("core {core} has key {}, which is another's", text::print(key));
                    found.push(Violation { promise: Promise::Consistent, detail });
                }
                seen.insert(key.to_vec(), value.to_vec());
            }
        }
        let keys: std::collections::BTreeSet<_> = seen.keys().chain(self.state.keys()).collect();
        let differ: Vec<_> = keys.into_iter().filter(|key| seen.get(*key) != self.state.get(*key)).collect();
        if let Some(key) = differ.first() {
            let detail = format!(
                "at offset {offset} {} key(s) differ; the first is {}: expected {}, found {}",
                differ.len(),
                text::print(key),
                shown(self.state.get(*key)),
                shown(seen.get(*key)),
            );
            found.push(Violation { promise: Promise::Atomic, detail });
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

fn shown(value: Option<&Vec<u8>>) -> String {
    value.map_or_else(
        || "nothing".to_owned(),
        |value| format!("{} ({} bytes)", text::print(&value[..value.len().min(24)]), value.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::workload::options;
    use super::*;

    const WORKLOAD: Workload = Workload { seed: 3, keys: 50 };

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
