//! What a store must hold after a cut, known without looking at it, and the
//! comparison.

use std::collections::BTreeSet;
use std::fmt;

use corewal::{Epoch, Opened, Recover, Router};
use serde::{Deserialize, Serialize};

use crate::marker::Acknowledged;
use crate::workload::{SOURCE, Values, Workload};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which.
    pub(crate) promise: &'static str,
    /// What was expected and what was found.
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.detail)
    }
}

/// Ends a check.
pub(crate) type Checked<T> = Result<T, Violation>;

/// One broken promise.
pub(crate) fn broken<T>(promise: &'static str, detail: impl fmt::Display) -> Checked<T> {
    Err(Violation { promise, detail: detail.to_string() })
}

/// Which life of the store did which operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History(Vec<(u64, u64)>);

impl History {
    /// As this one, but from operation `from` on the life `life` did them.
    pub(crate) fn then(&self, from: u64, life: u64) -> Self {
        let mut parts = self.0.clone();
        parts.retain(|(start, _)| *start < from);
        parts.push((from, life));
        Self(parts)
    }

    /// What the store holds after `done` operations, of the keys that `ours`
    /// takes. Looks back from there until it has met each key.
    pub(crate) fn values(&self, workload: Workload, done: u64, ours: impl Fn(&[u8]) -> bool) -> Values {
        let (mut values, mut met) = (Values::new(), BTreeSet::new());
        let mut parts = self.0.iter().rev().peekable();
        for n in (0..done).rev() {
            while parts.next_if(|(start, _)| *start > n).is_some() {}
            let (_, life) = parts.peek().expect("every operation was done by a life");
            let operation = workload.operation(n, *life);
            if !met.insert(operation.key.clone()) {
                continue;
            }
            if let (true, Some(value)) = (ours(&operation.key), operation.value) {
                values.insert(operation.key, value);
            }
            if met.len() == Workload::KEYS {
                break;
            }
        }
        values
    }
}

/// The store as the guest found it, and what follows from that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    /// Which one. From 1.
    pub(crate) number: u64,
    /// The workload.
    pub(crate) workload: Workload,
    /// Its cores.
    pub(crate) cores: u16,
    /// What was complete when it began.
    pub(crate) epoch: u64,
    /// How many operations that were.
    pub(crate) done: u64,
    /// The first epoch that it ends; unknown until it has opened the store.
    pub(crate) first: Option<u64>,
    /// Who did the operations before.
    pub(crate) before: History,
}

/// Where a recovered store stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The complete epoch.
    pub(crate) epoch: u64,
    /// By core, its operations.
    pub(crate) operations: Vec<u64>,
    /// By core, who did them.
    pub(crate) histories: Vec<History>,
}

impl Life {
    /// Operations at the end of an epoch.
    fn operations_at(&self, epoch: u64) -> Option<u64> {
        match self.first {
            Some(first) if epoch >= first => Some(self.done + (epoch - first + 1) * self.workload.epoch_length()),
            _ => (epoch == self.epoch).then_some(self.done),
        }
    }

    /// Compares a store that was opened after a cut with what it must be.
    pub(crate) fn check(&self, opened: &mut Opened, recover: Recover, known: &Acknowledged) -> Checked<Found> {
        let operations = operations(opened);
        let epoch = opened.report.complete_epoch;
        if opened.store.complete_epoch() != epoch {
            return broken("epochs", format!("the report says {epoch}, the store {}", opened.store.complete_epoch()));
        }
        if epoch.get() < known.epoch {
            return broken("durable", format!("epoch {} was acknowledged, {epoch} came back", known.epoch));
        }
        let Some(complete) = self.operations_at(epoch.get()) else {
            return broken("consistent", format!("epoch {epoch} came back, which nobody ended"));
        };
        match recover {
            Recover::CompleteEpoch => self.check_cut(opened, &operations, complete)?,
            Recover::Latest => self.check_latest(opened, &operations, complete, known)?,
        }
        let histories = self.check_values(opened, &operations, known)?;
        Ok(Found { epoch: epoch.get(), operations, histories })
    }

    /// All cores stand at the end of the complete epoch.
    fn check_cut(&self, opened: &Opened, operations: &[u64], complete: u64) -> Checked<()> {
        if operations.iter().any(|done| *done != complete) {
            let epoch = opened.report.complete_epoch;
            return broken(
                "consistent",
                format!("epoch {epoch} ends at {complete}, the cores stand at {operations:?}"),
            );
        }
        self.check_watermarks(opened, operations)
    }

    /// Each core stands at one of its commits, with all that it acknowledged.
    fn check_latest(&self, opened: &Opened, operations: &[u64], complete: u64, known: &Acknowledged) -> Checked<()> {
        for (core, (found, acknowledged)) in operations.iter().zip(&known.operations).enumerate() {
            let least = complete.max(*acknowledged);
            if *found < least {
                return broken("durable", format!("core {core} had {least} operations durable, {found} came back"));
            }
            if !self.workload.commits(*found) {
                return broken("atomic", format!("core {core} stands at {found}, where it did not commit"));
            }
        }
        self.check_watermarks(opened, operations)
    }

    fn check_watermarks(&self, opened: &Opened, operations: &[u64]) -> Checked<()> {
        for (shard, done) in opened.shards.iter().zip(operations) {
            let expected = (*done > 0).then(|| self.workload.watermark(*done));
            if shard.watermark() != expected {
                let found = shard.watermark();
                return broken("consistent", format!("at {done} the watermark is {expected:?}, found {found:?}"));
            }
        }
        Ok(())
    }

    /// Each core holds what its operations make. Until the opening is durable,
    /// what an earlier life had written behind the complete epoch may still be
    /// the core's own: gives who did it.
    fn check_values(&self, opened: &mut Opened, operations: &[u64], known: &Acknowledged) -> Checked<Vec<History>> {
        let with = self.before.then(self.done, self.number);
        let mut histories = Vec::new();
        for (core, done) in operations.iter().enumerate() {
            let verdict = compare(opened, core, &with, self.workload, *done);
            let history = match verdict {
                Ok(()) => with.clone(),
                Err(violation) if known.opened || *done <= self.done || self.before == History::default() => {
                    return Err(violation);
                }
                Err(_) => {
                    compare(opened, core, &self.before, self.workload, *done)?;
                    self.before.clone()
                }
            };
            histories.push(history);
        }
        Ok(histories)
    }

    /// Goes on with an opened store as another life, up to the end of an epoch
    /// in which each core has something to do. Drops it without closing.
    pub(crate) fn go_on(&self, mut opened: Opened, found: &Found, life: u64) -> corewal::Result<Found> {
        let length = self.workload.epoch_length();
        let furthest = found.operations.iter().max().expect("a store has cores");
        let end = (furthest / length + 2) * length;
        let epoch = opened.store.next_epoch();
        let router = opened.store.router();
        let mut histories = Vec::new();
        for (shard, (history, begin)) in opened.shards.iter_mut().zip(found.histories.iter().zip(&found.operations)) {
            for n in *begin..end {
                let operation = self.workload.operation(n, life);
                if router.route(&operation.key) != shard.core() {
                    continue;
                }
                match &operation.value {
                    Some(value) => shard.put(&operation.key, value)?,
                    None => shard.delete(&operation.key)?,
                }
            }
            shard.commit(&self.workload.commit(end))?;
            shard.end_epoch(epoch)?;
            histories.push(history.then(*begin, life));
        }
        for shard in &mut opened.shards {
            shard.sync()?;
        }
        Ok(Found { epoch: epoch.get(), operations: vec![end; found.operations.len()], histories })
    }

    /// Compares a store that was opened after [`Life::go_on`].
    pub(crate) fn check_again(&self, opened: &mut Opened, expected: &Found) -> Checked<()> {
        let operations = operations(opened);
        if opened.report.complete_epoch != Epoch(expected.epoch) || operations != expected.operations {
            let epoch = opened.report.complete_epoch;
            let found = format!("epoch {epoch} and {operations:?}");
            return broken("goes on", format!("after {expected:?} {found} came back"));
        }
        self.check_watermarks(opened, &operations)?;
        for (core, (history, done)) in expected.histories.iter().zip(&operations).enumerate() {
            compare(opened, core, history, self.workload, *done)?;
        }
        Ok(())
    }
}

fn operations(opened: &Opened) -> Vec<u64> {
    opened.shards.iter().map(|shard| shard.offset_u64(SOURCE).unwrap_or(0)).collect()
}

/// Compares what a core holds.
fn compare(opened: &mut Opened, core: usize, history: &History, workload: Workload, done: u64) -> Checked<()> {
    let router: Router = opened.store.router();
    let shard = &mut opened.shards[core];
    let id = shard.core();
    let expected = history.values(workload, done, |key| router.route(key) == id);
    let found: Values = shard.scan(b"").map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    let keys = expected.keys().chain(found.keys());
    match keys.into_iter().find(|key| expected.get(*key) != found.get(*key)) {
        None => Ok(()),
        Some(key) => {
            let (expected, found) = (shown(expected.get(key)), shown(found.get(key)));
            let key = String::from_utf8_lossy(key);
            broken("atomic", format!("core {core} at {done}: {key} is {found}, not {expected}"))
        }
    }
}

fn shown(value: Option<&Vec<u8>>) -> String {
    value.map_or_else(
        || "nothing".to_owned(),
        |value| format!("{:?} ({} bytes)", String::from_utf8_lossy(&value[..value.len().min(20)]), value.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::options;

    const WORKLOAD: Workload = Workload { seed: 11 };

    fn life() -> Life {
        let before = History::default();
        Life { number: 1, workload: WORKLOAD, cores: 2, epoch: 0, done: 0, first: Some(1), before }
    }

    /// A store in which the life has done some epochs, with `spoil` before the
    /// last one ends; and the promise that a check against `known` finds broken.
    fn check(
        recover: Recover,
        spoil: impl Fn(&mut Opened),
        forge: impl Fn(&mut Acknowledged),
    ) -> Result<(), &'static str> {
        let dir = tempfile::tempdir().unwrap();
        let open = || options(2).recover(recover).open(dir.path()).unwrap();
        let start = Found { epoch: 0, operations: vec![0, 0], histories: vec![History::default(); 2] };
        let done = life().go_on(open(), &start, 1).unwrap();
        let mut opened = open();
        spoil(&mut opened);
        for shard in &mut opened.shards {
            shard.sync().unwrap();
        }
        drop(opened);
        let mut known = Acknowledged { opened: true, epoch: done.epoch, operations: done.operations };
        forge(&mut known);
        // Its only epoch is as long as what it did.
        let epochs = known.operations[0] / WORKLOAD.epoch_length();
        let life = Life { done: WORKLOAD.epoch_length() * (epochs - 1), ..life() };
        let mut opened = open();
        let whole = Life { before: History::default().then(0, 1), ..life };
        let found = whole.check(&mut opened, recover, &known).map_err(|violation| violation.promise)?;
        let further = whole.go_on(opened, &found, 9).unwrap();
        whole.check_again(&mut open(), &further).map_err(|violation| violation.promise)
    }

    #[test]
    fn a_true_store_passes_and_goes_on() {
        for recover in [Recover::CompleteEpoch, Recover::Latest] {
            assert_eq!(check(recover, |_| (), |_| ()), Ok(()));
        }
    }

    #[test]
    fn what_is_lost_or_made_up_is_named() {
        use Recover::{CompleteEpoch, Latest};
        assert_eq!(check(CompleteEpoch, |_| (), |known| known.epoch += 1), Err("durable"));
        assert_eq!(check(Latest, |_| (), |known| known.operations[1] += 1), Err("durable"));

        let key = |opened: &Opened| {
            (0..).map(|n| format!("key-{n:04}")).find(|key| opened.store.route(key.as_bytes()).index() == 0)
        };
        let stray = |opened: &mut Opened| {
            let key = key(opened).unwrap();
            opened.shards[0].put(key.as_bytes(), b"stray").unwrap();
            opened.shards[0].commit(&corewal::Commit::new()).unwrap();
        };
        assert_eq!(check(Latest, stray, |_| ()), Err("atomic"));
        // Behind the complete epoch it does not count.
        assert_eq!(check(CompleteEpoch, stray, |_| ()), Ok(()));

        let uneven = |opened: &mut Opened| {
            let n = opened.shards[1].offset_u64(SOURCE).unwrap() + 1;
            opened.shards[1].commit(&corewal::Commit::new().offset_u64(SOURCE, n)).unwrap();
            let epoch = opened.store.next_epoch();
            opened.shards.iter_mut().for_each(|shard| shard.end_epoch(epoch).unwrap());
        };
        assert_eq!(check(CompleteEpoch, uneven, |_| ()), Err("consistent"));
    }

    #[test]
    fn what_an_earlier_life_left_is_told_from_what_this_one_did() {
        let old = History::default().then(0, 1);
        let new = old.then(40, 2);
        let values = |history: &History, done| history.values(WORKLOAD, done, |_| true);
        assert_eq!(values(&old, 40), values(&new, 40));
        assert_ne!(values(&old, 60), values(&new, 60));
        let mut model = Values::new();
        for n in 0..5000 {
            WORKLOAD.operation(n, if n < 40 { 1 } else { 2 }).apply(&mut model);
        }
        assert_eq!(values(&new, 5000), model);
    }
}
