//! What an archive keeps that the store has let go: older checkpoints, and the
//! logs that go on from them.

use std::collections::BTreeMap;

use corewal_format::CoreId;

use crate::index::{Checkpoint, Index, Segment};
use crate::plan;

/// Adds to what the store has the newest older checkpoints of the index
/// before, until there are `keep`, and the segments between them and what the
/// store has. Only what is older than all of the store's checkpoints is kept:
/// a store that was restored to an earlier epoch and went another way must not
/// meet its former future.
pub(crate) fn retain(before: &Index, checkpoints: &mut Vec<Checkpoint>, segments: &mut Vec<Segment>, keep: usize) {
    let Some(oldest) = checkpoints.iter().min_by_key(|checkpoint| checkpoint.facts.number) else { return };
    let oldest = oldest.facts.clone();
    let mut older: Vec<&Checkpoint> = before
        .checkpoints
        .iter()
        .filter(|old| old.facts.number < oldest.number && old.facts.epoch <= oldest.epoch)
        .filter(|old| old.facts.generation <= oldest.generation)
        .collect();
    older.sort_by_key(|old| old.facts.number);
    let spare = keep.saturating_sub(checkpoints.len());
    let older = older.split_off(older.len().saturating_sub(spare));

    // The first segment that the store has, by generation and core.
    let mut begins: BTreeMap<(u32, CoreId), u64> = BTreeMap::new();
    for segment in segments.iter() {
        let first = begins.entry((segment.facts.generation, segment.facts.core)).or_insert(u64::MAX);
        *first = segment.facts.number.0.min(*first);
    }
    let mut kept: BTreeMap<(u32, CoreId, u64), &Segment> = BTreeMap::new();
    for checkpoint in &older {
        for segment in plan::needed(before, checkpoint) {
            let facts = &segment.facts;
            let first = begins.get(&(facts.generation, facts.core)).copied().unwrap_or(u64::MAX);
            if facts.first_epoch <= oldest.epoch && facts.number.0 < first {
                kept.insert(segment.order(), segment);
            }
        }
    }
    checkpoints.extend(older.into_iter().cloned());
    segments.extend(kept.into_values().cloned());
}
