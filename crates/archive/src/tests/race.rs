//! Several processes that each believe they own the archive, at every object
//! call interleaved by a seed; writes that fail, that seem to fail, and that
//! take effect long after. What must hold:
//!
//! - no term has two owners;
//! - a push that was acknowledged is part of all that counts later;
//! - whatever the newest index refers to is there, at every moment;
//! - an owner that was replaced is told so.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{FutureExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::common::{LOG, Machine};
use super::stepped::Stepped;
use crate::bucket::Bucket;
use crate::error::Error;
use crate::index::Index;
use crate::inventory::Inventory;
use crate::key::Place;
use crate::options::Options;
use crate::owner::Tenure;
use crate::sweep;
use crate::types::{Takeover, Term};

/// Inventories of three machines that went different ways.
struct World {
    _dir: tempfile::TempDir,
    ways: Vec<Vec<Inventory>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ways = (0..3).map(|flavour| way(&dir.path().join(flavour.to_string()), flavour)).collect();
        Self { _dir: dir, ways }
    }
}

/// What a machine has at several moments. Its files all stay.
fn way(dir: &std::path::Path, flavour: u64) -> Vec<Inventory> {
    let mut machine = Machine::new(dir, flavour, 1, 32);
    let mut moments = Vec::new();
    for _ in 0..6 {
        machine.advance();
        machine.checkpoint();
        let mut moment = machine.inventory();
        // The newest checkpoint and what goes on from it.
        moment.checkpoints.drain(..moment.checkpoints.len() - 1);
        moment.segments.drain(..moment.segments.len() - 1);
        moments.push(moment);
    }
    moments
}

#[derive(Default)]
struct Seen {
    winners: BTreeMap<Term, usize>,
    acknowledged: Vec<(Term, u64)>,
    fenced: u64,
    collected: u64,
    fault: Option<String>,
}

type Process<'a> = Pin<Box<dyn Future<Output = Option<Tenure>> + 'a>>;

fn options() -> Options {
    Options { holder: "race".to_owned(), keep_checkpoints: 1, files_at_once: 2, ..Options::default() }
}

fn bucket(store: &Stepped) -> Bucket {
    Bucket::new(Arc::new(store.clone()), Path::default(), Duration::from_secs(3_600))
}

async fn owner<'a>(
    who: usize,
    store: &'a Stepped,
    way: &'a [Inventory],
    seen: &'a RefCell<Seen>,
    seed: u64,
    blind: bool,
) -> Option<Tenure> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut moments = way.iter();
    let mut kept = None;
    for _ in 0..random.usize(1..4) {
        let Ok(mut tenure) = Tenure::begin(bucket(store), options(), LOG, "race", &Takeover::Force).await else {
            continue;
        };
        tenure.blind = blind;
        if let Some(other) = seen.borrow_mut().winners.insert(tenure.term(), who) {
            seen.borrow_mut().fault = Some(format!("term {} has the owners {other} and {who}", tenure.term()));
        }
        for _ in 0..random.usize(1..4) {
            let Some(moment) = moments.next() else { break };
            match tenure.push(moment).await {
                Ok(_) => seen.borrow_mut().acknowledged.extend(tenure.index()),
                Err(Error::Fenced { by }) => {
                    assert!(by > tenure.term());
                    seen.borrow_mut().fenced += 1;
                    break;
                }
                Err(_) => {}
            }
        }
        kept = Some(tenure);
    }
    kept
}

async fn collector(store: &Stepped, seen: &RefCell<Seen>, rounds: usize) -> Option<Tenure> {
    for _ in 0..rounds {
        if let Ok(collected) = sweep::collect(&bucket(store), LOG, 1).await {
            seen.borrow_mut().collected += collected.removed;
        }
    }
    None
}

/// All indexes that are there, read behind the scenes.
fn indexes(store: &Stepped) -> (BTreeMap<(Term, u64), Index>, BTreeSet<String>) {
    let listed: Vec<_> = store.inner.list(None).try_collect().now_or_never().unwrap().unwrap();
    let mut indexes = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for object in listed {
        let key = object.location.to_string();
        if let Some(Place::Index(term, number)) = Place::parse(LOG, &key) {
            let object = store.inner.get(&object.location).now_or_never().unwrap().unwrap();
            let bytes = object.bytes().now_or_never().unwrap().unwrap();
            indexes.insert((term, number), Index::decode(&bytes, LOG, term, number).unwrap());
        }
        keys.insert(key);
    }
    (indexes, keys)
}

/// What is wrong with what is there now.
fn judge(store: &Stepped, seen: &Seen, ever: &mut BTreeMap<Term, Option<(Term, u64)>>) -> Option<String> {
    if seen.fault.is_some() {
        return seen.fault.clone();
    }
    let (indexes, keys) = indexes(store);
    ever.extend(indexes.values().map(|index| (index.term, index.inherited)));
    let Some((&newest, index)) = indexes.last_key_value() else {
        return seen.acknowledged.first().map(|lost| format!("{lost:?} was acknowledged and no index is there"));
    };
    if let Some(missing) = index.keys().into_iter().find(|key| !keys.contains(*key)) {
        return Some(format!("index {newest:?} refers to {missing}, which is gone"));
    }
    // The line of indexes that the newest goes back to.
    let mut line = BTreeMap::from([newest]);
    let mut at = newest;
    while let Some(before) = ever.get(&at.0).copied().flatten() {
        line.insert(before.0, before.1);
        at = before;
    }
    let in_line = |(term, number): &(Term, u64)| line.get(term).is_some_and(|last| number <= last);
    let lost = seen.acknowledged.iter().find(|acknowledged| !in_line(acknowledged));
    lost.map(|lost| format!("{lost:?} was acknowledged, but {newest:?} goes back to {line:?}"))
}

/// Runs one interleaving; gives what went wrong, and counts.
fn run(world: &World, seed: u64, blind: bool, faults: u32) -> (Option<String>, Seen) {
    let mut random = fastrand::Rng::with_seed(seed);
    let store = Stepped::new(random.u64(..), faults);
    let seen = RefCell::new(Seen::default());
    store.hold();
    let owners = random.usize(2..4);
    let mut processes: Vec<Process<'_>> = Vec::new();
    for who in 0..owners {
        processes.push(Box::pin(owner(who, &store, &world.ways[who], &seen, random.u64(..), blind)));
    }
    processes.push(Box::pin(collector(&store, &seen, random.usize(0..4))));

    let mut waiting: Vec<usize> = (0..processes.len()).collect();
    let mut tenures = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    let (mut ever, mut fault, mut writes) = (BTreeMap::new(), None, 0);
    // Long runs of one process are as worth seeing as quick changes.
    let mut who = 0;
    while fault.is_none() && !waiting.is_empty() {
        if random.u32(..3) == 0 {
            who = random.usize(..waiting.len());
        }
        if random.u32(..20) == 0 {
            store.land_late(random.usize(..));
        }
        who %= waiting.len();
        store.grant();
        if let Poll::Ready(tenure) = processes[waiting[who]].as_mut().poll(&mut context) {
            tenures.extend(tenure);
            waiting.swap_remove(who);
        }
        if store.writes() != writes {
            writes = store.writes();
            fault = judge(&store, &seen.borrow(), &mut ever);
        }
    }
    drop(processes);
    store.let_go();
    while fault.is_none() && store.late() > 0 {
        store.land_late(random.usize(..));
        fault = judge(&store, &seen.borrow(), &mut ever);
    }
    // All but the last owner are told.
    let last = seen.borrow().winners.keys().next_back().copied();
    for mut tenure in tenures {
        if fault.is_none() && !blind && Some(tenure.term()) < last {
            let pushed = to_the_end(tenure.push(&world.ways[0][0]));
            if !matches!(pushed, Err(Error::Fenced { .. })) {
                fault = Some(format!("term {} is not told of term {last:?}: {pushed:?}", tenure.term()));
            }
        }
    }
    let fault = fault.or_else(|| judge(&store, &seen.borrow(), &mut ever));
    (fault, seen.into_inner())
}

/// Nothing is held back any more: polling is all it takes.
fn to_the_end<T>(future: impl Future<Output = T>) -> T {
    let (mut future, mut context) = (std::pin::pin!(future), Context::from_waker(Waker::noop()));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_thousand_interleavings_lose_nothing() {
    let (world, runtime) = (World::new(), runtime());
    let _inside = runtime.enter();
    let (mut acknowledged, mut fenced, mut collected) = (0, 0, 0);
    for seed in 0..1_000 {
        // Half of them without faults, so that none hides behind those.
        let (fault, seen) = run(&world, seed, false, if seed % 2 == 0 { 0 } else { 8 });
        assert_eq!(fault, None, "seed {seed}");
        acknowledged += seen.acknowledged.len();
        fenced += seen.fenced;
        collected += seen.collected;
    }
    // The runs must have been about something.
    assert!(acknowledged > 1_000 && fenced > 200 && collected > 50, "{acknowledged} {fenced} {collected}");
}

#[test]
fn a_push_that_does_not_look_for_claims_is_found() {
    let (world, runtime) = (World::new(), runtime());
    let _inside = runtime.enter();
    assert!((0..1_000).any(|seed| run(&world, seed, true, 0).0.is_some()));
}
