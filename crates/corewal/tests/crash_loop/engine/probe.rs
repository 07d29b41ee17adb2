//! The state under test: the built-in one, and a trace of the payloads.

use std::collections::BTreeMap;

use corewal::{Change, Keyed, State};

/// Keys and values, and every payload in its order. (A log with payloads is
/// never folded.)
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) keyed: Keyed,
    pub(crate) payloads: Vec<u64>,
}

impl State for Probe {
    const FOLDS: bool = true;

    fn apply(&mut self, change: Change<'_>) {
        if let Change::Payload(bytes) = change {
            self.payloads.push(payload_id(bytes));
        }
        self.keyed.apply(change);
    }
}

/// Payloads alone, in a state of a kind that is never folded.
#[derive(Debug, Default)]
pub(crate) struct Trace(pub(crate) Vec<u64>);

impl State for Trace {
    fn apply(&mut self, change: Change<'_>) {
        if let Change::Payload(bytes) = change {
            self.0.push(payload_id(bytes));
        }
    }
}

impl Probe {
    pub(crate) fn map(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.keyed.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }
}

/// A payload begins with its number; the rest is filled by it.
pub(crate) fn payload(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.resize(len.max(8), id as u8);
    bytes
}

pub(crate) fn payload_id(bytes: &[u8]) -> u64 {
    let id = u64::from_le_bytes(bytes[..8].try_into().expect("payloads begin with their number"));
    assert!(bytes[8..].iter().all(|&byte| byte == id as u8), "payload {id} came back with other bytes");
    id
}
