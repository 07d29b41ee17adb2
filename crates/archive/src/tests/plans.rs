//! The choice of files, against made-up histories whose every record is known.

use corewal_format::{CoreId, Epoch, LogId, Lsn, MAX_EPOCH, SegmentId};
use proptest::prelude::*;

use crate::index::{Checkpoint, Index, Part, Segment};
use crate::inventory::{CheckpointFacts, SegmentFacts};
use crate::plan::{self, Target, Unrestorable};
use crate::retain::retain;
use crate::sealed::LAYOUT_VERSION;
use crate::types::{Content, Nonce, Term};

fn part(name: String) -> Part {
    Part { key: name.clone(), name, bytes: 1, blake3: String::new() }
}

fn index(checkpoints: Vec<Checkpoint>, segments: Vec<Segment>) -> Index {
    let nonce = Nonce::draw().unwrap();
    Index {
        version: LAYOUT_VERSION,
        log_id: LogId([1; 16]),
        term: Term(1),
        nonce: nonce.clone(),
        number: 1,
        content: Content { maker: nonce, number: 1 },
        inherited: None,
        time_ns: 0,
        generation: 0,
        cores: 2,
        complete_epoch: Epoch(100),
        checkpoints,
        segments,
    }
}

fn checkpoint(number: u64, epoch: u64, cores: u16) -> Checkpoint {
    let facts = CheckpointFacts {
        number,
        generation: 0,
        cores,
        epoch: Epoch(epoch),
        time_ns: epoch as i64 * 10,
        text: String::new(),
    };
    Checkpoint { facts, runs: vec![part(format!("runs/{number}"))] }
}

/// The segment of a core that holds the ends of the epochs after `from` up to
/// `to`, and nothing of an epoch after.
fn segment(core: u16, number: u64, from: u64, to: u64) -> Segment {
    let facts = SegmentFacts {
        generation: 0,
        core: CoreId(core),
        cores: 2,
        number: SegmentId(number),
        base: Lsn(number * 100),
        end: Lsn(number * 100 + 50),
        next: SegmentId(number + 1),
        next_base: Lsn(number * 100 + 100),
        first: number == 0,
        first_epoch: Epoch(from + 1),
        ended: Epoch(to),
        newest_ns: to as i64 * 10,
        note: String::new(),
    };
    Segment { facts, file: part(format!("core-{core}/{number}")) }
}

/// Segments of two cores, each of one epoch, from one epoch on.
fn both(epochs: std::ops::RangeInclusive<u64>) -> Vec<Segment> {
    (0..2).flat_map(|core| epochs.clone().map(move |epoch| segment(core, epoch - 1, epoch - 1, epoch))).collect()
}

/// Checkpoint, segments (core and number) and reach of a plan, for short.
type Chosen = (Option<u64>, Vec<(u16, u64)>, u64);

fn chosen(index: &Index, target: Target) -> Result<Chosen, Unrestorable> {
    plan::plan(index, target).map(|plan| {
        let segments = plan.segments.iter().map(|s| (s.facts.core.0, s.facts.number.0)).collect();
        (plan.checkpoint.map(|checkpoint| checkpoint.facts.number), segments, plan.reaches.0)
    })
}

#[test]
fn the_newest_checkpoint_before_the_target_and_what_follows_it() {
    let index = index(vec![checkpoint(1, 2, 2), checkpoint(2, 4, 2)], both(2..=6));
    let after_two = vec![(0, 1), (0, 2), (1, 1), (1, 2)];
    assert_eq!(chosen(&index, Target::Epoch(Epoch(3))), Ok((Some(1), after_two, 3)));
    assert_eq!(chosen(&index, Target::Epoch(Epoch(4))), Ok((Some(2), vec![], 4)), "the checkpoint is enough");
    let after_four: Vec<_> = (0..2).flat_map(|core| (3..6).map(move |number| (core, number))).collect();
    assert_eq!(chosen(&index, Target::Latest), Ok((Some(2), after_four.clone(), 6)));
    assert_eq!(chosen(&index, Target::Epoch(Epoch(6))), Ok((Some(2), after_four, 6)));
    assert_eq!(chosen(&index, Target::Epoch(Epoch(7))), Err(Unrestorable::NotReached { newest: Epoch(6) }));
    assert_eq!(chosen(&index, Target::Epoch(Epoch(1))), Err(Unrestorable::TooOld { oldest: Epoch(2) }));
    assert_eq!(plan::covered(&index), Epoch(6));
}

#[test]
fn what_was_not_sealed_before_a_later_checkpoint_lies_between() {
    let index = index(vec![checkpoint(1, 2, 2), checkpoint(2, 6, 2)], both(2..=3));
    let between = Unrestorable::Between { before: Epoch(3), after: Epoch(6) };
    assert_eq!(chosen(&index, Target::Epoch(Epoch(5))), Err(between));
    assert_eq!(chosen(&index, Target::Epoch(Epoch(3))).unwrap().2, 3);
    assert_eq!(chosen(&index, Target::Epoch(Epoch(6))), Ok((Some(2), vec![], 6)));
}

#[test]
fn by_time() {
    let index = index(vec![checkpoint(1, 2, 2), checkpoint(2, 4, 2)], both(2..=6));
    // At time 35 epoch 3 had ended and 4 had not: the segment that shows it is
    // among the files.
    let (checkpoint, segments, reaches) = chosen(&index, Target::Time(35)).unwrap();
    assert_eq!((checkpoint, segments.len(), reaches), (Some(1), 6, 4));
    let (checkpoint, _, reaches) = chosen(&index, Target::Time(i64::MAX)).unwrap();
    assert_eq!((checkpoint, reaches), (Some(2), 6));
    assert_eq!(chosen(&index, Target::Time(19)), Err(Unrestorable::TooOld { oldest: Epoch(2) }));
}

#[test]
fn a_gap_is_named() {
    let mut segments = both(2..=6);
    segments.retain(|s| (s.facts.core.0, s.facts.number.0) != (1, 3));
    let index = index(vec![checkpoint(1, 2, 2)], segments);
    let gap = |reaches, missing| Unrestorable::Gap { generation: 0, core: CoreId(1), reaches: Epoch(reaches), missing };
    assert_eq!(chosen(&index, Target::Epoch(Epoch(5))), Err(gap(3, Some(SegmentId(3)))));
    assert_eq!(chosen(&index, Target::Time(55)), Err(gap(3, Some(SegmentId(3)))));
    assert!(chosen(&index, Target::Time(25)).is_ok());
    assert_eq!(plan::covered(&index), Epoch(3));
    let words = gap(3, Some(SegmentId(3))).to_string();
    assert!(words.contains("segment 3 of core 1"), "{words}");
}

#[test]
fn a_log_whose_beginning_is_missing_is_no_log() {
    let index_of = |segments| index(vec![], segments);
    assert_eq!(chosen(&index_of(both(1..=3)), Target::Latest).unwrap().2, 3);
    assert_eq!(chosen(&index_of(both(2..=3)), Target::Latest), Err(Unrestorable::Empty));
    assert_eq!(chosen(&index_of(vec![]), Target::Latest), Err(Unrestorable::Empty));
    let mut one_headless = both(1..=3);
    one_headless.retain(|s| s.facts.core.0 == 0 || s.facts.number.0 > 0);
    assert!(matches!(chosen(&index_of(one_headless), Target::Latest), Err(Unrestorable::Gap { missing: None, .. })));
}

#[test]
fn a_parked_core_holds_nobody_up() {
    let mut segments = both(1..=3);
    segments.retain(|s| s.facts.core.0 == 0 || s.facts.number.0 == 0);
    segments.last_mut().unwrap().facts.ended = Epoch(MAX_EPOCH.0);
    assert_eq!(chosen(&index(vec![], segments), Target::Latest).unwrap().2, 3);
}

#[test]
fn a_later_generation_begins_with_its_checkpoint() {
    let mut next = checkpoint(2, 3, 1);
    next.facts.generation = 1;
    let mut later = segment(0, 0, 3, 5);
    (later.facts.generation, later.facts.cores) = (1, 1);
    let mut segments = both(1..=3);
    segments.push(later);
    let index = index(vec![next], segments);
    assert_eq!(chosen(&index, Target::Latest), Ok((Some(2), vec![(0, 0)], 5)));
    assert_eq!(chosen(&index, Target::Epoch(Epoch(2))).unwrap().0, None, "the former generation, from its beginning");
}

#[test]
fn what_the_store_let_go_is_kept_as_far_as_asked() {
    let before = index(vec![checkpoint(1, 1, 2), checkpoint(2, 3, 2)], both(1..=4));
    let kept = |keep| {
        let (mut checkpoints, mut segments) = (vec![checkpoint(3, 5, 2)], both(5..=6));
        retain(&before, &mut checkpoints, &mut segments, keep);
        segments.sort_by_key(Segment::order);
        checkpoints.sort_by_key(|c| c.facts.number);
        index(checkpoints, segments)
    };
    assert!(matches!(chosen(&kept(1), Target::Epoch(Epoch(4))), Err(Unrestorable::TooOld { .. })));
    assert_eq!(chosen(&kept(2), Target::Epoch(Epoch(4))).unwrap().0, Some(2));
    assert!(chosen(&kept(2), Target::Epoch(Epoch(2))).is_err());
    assert_eq!(chosen(&kept(3), Target::Epoch(Epoch(2))).unwrap().0, Some(1));
    assert_eq!(plan::covered(&kept(3)), Epoch(6));
}

#[test]
fn a_former_future_is_not_kept() {
    // The store was restored to epoch 4 from checkpoint 2 and goes another way.
    let before = index(vec![checkpoint(1, 1, 2), checkpoint(2, 3, 2), checkpoint(3, 6, 2)], both(1..=8));
    let (mut checkpoints, mut segments) = (vec![checkpoint(2, 3, 2)], vec![]);
    retain(&before, &mut checkpoints, &mut segments, 9);
    assert_eq!(checkpoints.iter().map(|c| c.facts.number).collect::<Vec<_>>(), [2, 1]);
    assert!(segments.iter().all(|segment| segment.facts.first_epoch <= Epoch(3)), "{segments:?}");
}

/// A log of one core: for each segment the epochs of its records, each epoch's
/// end being the last of them.
fn logs() -> impl Strategy<Value = Vec<Vec<Vec<u64>>>> {
    let log = prop::collection::vec((1_usize..4, 0_usize..4), 1..9).prop_map(|epochs| {
        let mut segments = vec![Vec::new()];
        for (epoch, (records, cut)) in (1_u64..).zip(epochs) {
            for record in 0..records {
                segments.last_mut().unwrap().push(epoch);
                if record == cut {
                    segments.push(Vec::new());
                }
            }
        }
        // What is not sealed is not archived; a segment has a frame at least.
        if segments.last().unwrap().is_empty() { segments } else { [segments, vec![vec![]]].concat() }
    });
    prop::collection::vec(log, 1..3)
}

/// The segments of a log, but for those that are gone.
fn segments_of(core: usize, log: &[Vec<u64>], whole: &[u64], cores: u16) -> Vec<Segment> {
    let sealed = &log[..log.len() - 1];
    let mut found = Vec::new();
    for (number, records) in sealed.iter().enumerate() {
        let written: Vec<u64> = sealed[..=number].concat();
        // An epoch has ended if all its records are there.
        let ended = whole
            .iter()
            .zip(1..)
            .take_while(|&(&count, epoch)| written.iter().filter(|&&record| record == epoch).count() as u64 >= count);
        let mut made = segment(core as u16, number as u64, records[0] - 1, ended.count() as u64);
        made.facts.cores = cores;
        found.push(made);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_holds_all_that_the_target_needs(
        logs in logs(),
        gone in prop::collection::vec(0_usize..12, 0..3),
        checkpoints in prop::collection::btree_set(1_u64..9, 0..3),
        target in 1_u64..10,
    ) {
        let cores = logs.len() as u16;
        let mut segments = Vec::new();
        for (core, log) in logs.iter().enumerate() {
            let records = log.concat();
            let newest = records.iter().copied().max().unwrap_or(0);
            let whole: Vec<u64> =
                (1..=newest).map(|epoch| records.iter().filter(|&&record| record == epoch).count() as u64).collect();
            segments.extend(segments_of(core, log, &whole, cores));
        }
        for gone in &gone {
            if *gone < segments.len() {
                segments.remove(*gone);
            }
        }
        let records = |segment: &Segment| logs[segment.facts.core.index()][segment.facts.number.0 as usize].clone();
        // What is needed on top of a base of epoch `from` to reach `to`.
        let holds = |files: &[&Segment], from: u64, to: u64, with_base: bool| logs.iter().enumerate().all(|(core, log)| {
            let there = |number: usize| files.iter().any(|s| (s.facts.core.index(), s.facts.number.0) == (core, number as u64));
            let reaches = log.concat().iter().any(|&record| record >= to);
            let needed = |records: &Vec<u64>| records.iter().any(|&epoch| epoch > from && epoch <= to)
                || (with_base && records.iter().rfind(|&&epoch| epoch <= from) == Some(&from) && from > 0);
            (reaches || to <= from) && log.iter().enumerate().all(|(number, records)| !needed(records) || there(number))
        });
        let bases: Vec<u64> = checkpoints.iter().copied().collect();
        let index = index(bases.iter().map(|&epoch| checkpoint(epoch, epoch, cores)).collect(), segments.clone());
        let all: Vec<&Segment> = segments.iter().collect();
        match plan::plan(&index, Target::Epoch(Epoch(target))) {
            Ok(plan) => {
                let from = plan.checkpoint.map_or(0, |checkpoint| checkpoint.facts.epoch.0);
                prop_assert!(from <= target && plan.reaches.0 >= target);
                prop_assert!(target == from || holds(&plan.segments, from, target, false), "{:?}", plan.segments);
                for pair in plan.segments.windows(2).filter(|pair| pair[0].facts.core == pair[1].facts.core) {
                    prop_assert_eq!(pair[0].facts.next, pair[1].facts.number);
                }
                let enough = plan.segments.iter().all(|s| records(s)[0] <= target);
                prop_assert!(enough, "nothing is fetched that begins after the target");
            }
            Err(_) => {
                for from in bases.iter().copied().chain([0]).filter(|from| *from <= target) {
                    prop_assert!(from != target, "a checkpoint is enough");
                    prop_assert!(!holds(&all, from, target, true), "base {from} would do for {target}: {all:?}");
                }
            }
        }
    }
}
