//! What a store shows of itself, however it was opened: whether that is the
//! state at the end of an epoch, and which.

use std::collections::{BTreeMap, BTreeSet};

use corewal::{CoreView, Keyed, Opened, Router};

use super::oracle::{Oracle, Promise, Violation};
use super::workload::{Operation, SOURCE, Scratch, Workload};

/// Keys and values.
pub(super) type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// Offsets, watermarks and state of all cores.
#[derive(Debug)]
pub(super) struct Seen {
    offsets: Vec<u64>,
    watermarks: Vec<Option<i64>>,
    state: State,
    /// A key that a core has and does not own.
    astray: Option<String>,
}

impl Seen {
    /// Of a store that is open.
    pub(super) fn of(opened: &mut Opened) -> Self {
        let offsets = opened.shards.iter().map(|shard| shard.offset_u64(SOURCE).unwrap_or(0)).collect();
        let watermarks = opened.shards.iter().map(corewal::Shard::watermark).collect();
        let mut seen = Self { offsets, watermarks, state: State::new(), astray: None };
        let router = opened.store.router();
        for shard in &mut opened.shards {
            let core = shard.core();
            for (key, value) in shard.scan(b"") {
                seen.take(&router, core, key, value);
            }
        }
        seen
    }

    /// Of a store that is looked into.
    pub(super) fn of_views(views: &[CoreView<Keyed>], router: &Router) -> Self {
        let offset = |view: &CoreView<Keyed>| {
            let bytes = view.offsets.get(SOURCE).and_then(|value| value.as_slice().try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let offsets = views.iter().map(offset).collect();
        let watermarks = views.iter().map(|view| view.watermark).collect();
        let mut seen = Self { offsets, watermarks, state: State::new(), astray: None };
        for view in views {
            for (key, value) in view.state.iter() {
                seen.take(router, view.core, key, value);
            }
        }
        seen
    }

    fn take(&mut self, router: &Router, core: corewal::CoreId, key: &[u8], value: &[u8]) {
        if router.route(key) != core {
            self.astray = Some(format!("core {core} has key {}, which is another's", key.escape_ascii()));
        }
        self.state.insert(key.to_vec(), value.to_vec());
    }

    /// Operations that are in it.
    pub(super) fn offset(&self) -> u64 {
        self.offsets.iter().copied().max().unwrap_or(0)
    }

    /// Whether all cores stand at the end of one and the same epoch.
    pub(super) fn check_consistent(&self, workload: Workload, found: &mut Vec<Violation>) {
        let mut broken = |detail| found.push(Violation { promise: Promise::Consistent, detail });
        let offset = self.offset();
        let watermark = (offset > 0).then(|| workload.watermark(offset));
        if self.offsets.iter().any(|other| *other != offset) {
            broken(format!("the cores stand at different offsets: {:?}", self.offsets));
        }
        if self.watermarks.iter().any(|found| *found != watermark) {
            let watermarks = &self.watermarks;
            broken(format!("at offset {offset} the watermark is {watermark:?}, the cores say {watermarks:?}"));
        }
        if !offset.is_multiple_of(workload.epoch_length()) {
            broken(format!("offset {offset} is not the end of an epoch"));
        }
    }

    /// Whether it is the state that is expected at its offset.
    pub(super) fn check_state(&self, expected: &State, found: &mut Vec<Violation>) {
        if let Some(detail) = self.astray.clone() {
            found.push(Violation { promise: Promise::Consistent, detail });
        }
        let keys: BTreeSet<_> = self.state.keys().chain(expected.keys()).collect();
        let differ: Vec<_> = keys.into_iter().filter(|key| self.state.get(*key) != expected.get(*key)).collect();
        if let Some(key) = differ.first() {
            let detail = format!(
                "at offset {} {} key(s) differ; the first is {}: expected {}, found {}",
                self.offset(),
                differ.len(),
                key.escape_ascii(),
                shown(expected.get(*key)),
                shown(self.state.get(*key)),
            );
            found.push(Violation { promise: Promise::Atomic, detail });
        }
    }

    /// Both, against the state that follows from the workload alone; the oracle
    /// has that at hand for one offset.
    pub(super) fn check(&self, workload: Workload, oracle: &Oracle) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_consistent(workload, &mut found);
        if !found.is_empty() {
            return found;
        }
        if self.offset() == oracle.offset() {
            self.check_state(oracle.state(), &mut found);
        } else {
            let mut expected = State::new();
            advance(workload, &mut expected, 0, self.offset());
            self.check_state(&expected, &mut found);
        }
        found
    }
}

/// Brings a state from one offset to another.
pub(super) fn advance(workload: Workload, state: &mut State, from: u64, to: u64) {
    let mut scratch = Scratch::default();
    for n in from..to {
        match workload.operation(n, &mut scratch) {
            Operation::Put(key, value) => state.insert(key.to_vec(), value.to_vec()),
            Operation::Delete(key) => state.remove(key),
        };
    }
}

fn shown(value: Option<&Vec<u8>>) -> String {
    value.map_or_else(
        || "nothing".to_owned(),
        |value| format!("{} ({} bytes)", value[..value.len().min(24)].escape_ascii(), value.len()),
    )
}
