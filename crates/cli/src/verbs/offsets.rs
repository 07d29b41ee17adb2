//! Source offsets and watermark of a whole store, from those of its cores.

use std::collections::BTreeMap;

use corewal::CoreView;
use serde_json::Value;

use crate::text;

/// Names with this byte are the program's own notes beside a source's offset.
const NOTE: char = '\0';

/// By source: the offset that all cores have reached. Where the cores differ,
/// the smallest is the one from which nothing is missed.
pub(super) fn merge<T>(views: &[CoreView<T>]) -> BTreeMap<&str, &[u8]> {
    let mut merged: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (name, value) in views.iter().flat_map(|view| &view.offsets) {
        if name.contains(NOTE) {
            continue;
        }
        let slot = merged.entry(name).or_insert(value);
        if rank(value) < rank(slot) {
            *slot = value;
        }
    }
    merged
}

/// The watermark that all cores that have one have reached.
pub(super) fn watermark<T>(views: &[CoreView<T>]) -> Option<i64> {
    views.iter().filter_map(|view| view.watermark).min()
}

/// Numbers by their size, other offsets by their bytes.
fn rank(value: &[u8]) -> (Option<u64>, &[u8]) {
    (number(value), value)
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

/// An offset as JSON: a number if it is one, else its printed form.
pub(super) fn json(value: &[u8]) -> Value {
    number(value).map_or_else(|| text::print(value).into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corewal::{CoreId, Offsets};

    #[test]
    fn the_slowest_core_decides_and_notes_are_left_out() {
        let view = |core, offset: u64, watermark| CoreView {
            core: CoreId(core),
            state: (),
            offsets: Offsets::from([
                ("in".to_owned(), offset.to_le_bytes().to_vec()),
                ("in\0note".to_owned(), vec![1]),
            ]),
            watermark,
        };
        let views = [view(0, 300, Some(7)), view(1, 256, None)];
        let merged: Vec<_> = merge(&views).into_iter().map(|(name, value)| (name, json(value))).collect();
        assert_eq!(merged, [("in", Value::from(256))]);
        assert_eq!(watermark(&views), Some(7));
        assert_eq!(json(b"opaque"), Value::from("opaque"));
    }
}
