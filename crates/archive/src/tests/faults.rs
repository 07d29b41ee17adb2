//! Requests that go wrong in ways that can be told beforehand.

use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use corewal_format::Epoch;
use object_store::path::Path;

use super::common::{LOG, Machine};
use super::stepped::{Fault, Stepped};
use crate::bucket::Bucket;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::owner::Tenure;
use crate::types::{Lineage, Takeover, Term};
use crate::{Archive, Archiver, current, sweep, verify};

fn options() -> Options {
    Options { holder: "faults".to_owned(), keep_checkpoints: 1, ..Options::default() }
}

fn bucket(store: &Stepped) -> Bucket {
    Bucket::new(Arc::new(store.clone()), Path::default(), Duration::from_secs(60))
}

async fn own(store: &Stepped, takeover: Takeover) -> Result<Tenure> {
    Tenure::begin(bucket(store), options(), LOG, "faults", &takeover).await
}

/// Runs a test that awaits.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn machine(dir: &tempfile::TempDir) -> Machine {
    Machine::new(dir.path(), 1, 2, 64)
}

async fn assert_sound(store: &Stepped) {
    assert_eq!(verify::verify(&bucket(store), LOG, 4).await.unwrap().findings, []);
}

async fn newest(store: &Stepped) -> (Term, u64) {
    let found = current::newest(&bucket(store), LOG, 1).await.unwrap();
    (found.indexes[0].term, found.indexes[0].number)
}

#[test]
fn a_claim_that_was_put_twice_finds_itself() {
    run(async {
        let store = Stepped::new(0, 0);
        store.spoil("owners/", Fault::Twice);
        assert_eq!(own(&store, Takeover::First).await.unwrap().term(), Term(1));
        assert_eq!(own(&store, Takeover::Force).await.unwrap().term(), Term(2));
    });
}

#[test]
fn a_store_without_conditional_puts_is_refused() {
    run(async {
        let store = Stepped::new(0, 0);
        store.forget_conditions();
        assert!(matches!(own(&store, Takeover::First).await, Err(Error::Unconditional { .. })));
    });
}

#[test]
fn a_claim_whose_answer_was_lost_stays_unused() {
    run(async {
        let store = Stepped::new(0, 0);
        store.spoil("owners/", Fault::After);
        assert!(matches!(own(&store, Takeover::First).await, Err(Error::Object { .. })));
        assert_eq!(own(&store, Takeover::First).await.unwrap().term(), Term(2));
    });
}

#[test]
fn an_index_that_was_put_twice_finds_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    machine.advance();
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        store.spoil("index/", Fault::Twice);
        assert_eq!(owner.push(&machine.inventory()).await.unwrap().epoch, Epoch(1));
        assert_sound(&store).await;
    });
}

#[test]
fn an_index_that_comes_late_never_stands_above_one_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    machine.advance();
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        store.spoil("index/", Fault::Late);
        let pushed = owner.push(&machine.inventory()).await;
        assert!(matches!(pushed, Err(Error::Object { .. })), "{pushed:?}");
        machine.advance();
        let pushed = owner.push(&machine.inventory()).await.unwrap();
        assert_eq!((pushed.uploaded, pushed.kept), (2, 2), "what was uploaded is not uploaded twice");
        store.land_late(0);
        assert_eq!(newest(&store).await, (Term(1), 2));
        assert_sound(&store).await;
        // The next owner removes it.
        let mut next = own(&store, Takeover::Continue(owner.lineage())).await.unwrap();
        for _ in 0..2 {
            next.push(&machine.inventory()).await.unwrap();
        }
        assert_eq!(verify::verify(&bucket(&store), LOG, 4).await.unwrap().indexes, 2);
    });
}

#[test]
fn a_push_that_was_interrupted_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    (0..4).for_each(|_| machine.advance());
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        store.spoil("core-0001.00000000000000000001.wal", Fault::Before);
        assert!(owner.push(&machine.inventory()).await.is_err());
        let pushed = owner.push(&machine.inventory()).await.unwrap();
        assert!(pushed.kept >= 1 && pushed.uploaded + pushed.kept == 8, "{pushed:?}");
        assert_eq!(pushed.epoch, Epoch(4));
        assert_sound(&store).await;
    });
}

#[test]
fn what_could_not_be_removed_is_removed_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        for _ in 0..4 {
            machine.advance();
            machine.checkpoint();
            machine.release();
            owner.push(&machine.inventory()).await.unwrap();
        }
        machine.advance();
        machine.checkpoint();
        machine.release();
        for part in ["index/", "parts/", "parts/"] {
            // The first write of such a key is a put; the second is a removal.
            store.spoil(part, Fault::None);
            store.spoil(part, Fault::Before);
        }
        let mut unremoved = 0;
        while unremoved == 0 {
            match owner.push(&machine.inventory()).await {
                Ok(pushed) => unremoved = pushed.unremoved,
                Err(error) => assert!(matches!(error, Error::Object { doing: "put", .. }), "{error:?}"),
            }
        }
        for _ in 0..3 {
            assert_eq!(owner.push(&machine.inventory()).await.unwrap().unremoved, 0);
        }
        let verified = verify::verify(&bucket(&store), LOG, 4).await.unwrap();
        assert_eq!((verified.orphans, verified.indexes), (0, 2), "{verified:?}");
    });
}

#[test]
fn an_owner_that_was_replaced_is_told_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    machine.advance();
    run(async {
        let store = Stepped::new(0, 0);
        let mut first = own(&store, Takeover::First).await.unwrap();
        first.push(&machine.inventory()).await.unwrap();
        let mut second = own(&store, Takeover::Force).await.unwrap();
        assert_eq!(newest(&store).await, (Term(2), 1), "the new owner repeats what it found");
        machine.advance();
        for _ in 0..2 {
            assert!(matches!(first.push(&machine.inventory()).await, Err(Error::Fenced { by: Term(2) })));
        }
        assert_eq!(newest(&store).await, (Term(2), 1));
        let pushed = second.push(&machine.inventory()).await.unwrap();
        // Two were inherited and found to be the same.
        assert_eq!((pushed.uploaded, pushed.kept, pushed.epoch), (2, 2, Epoch(2)));
        second.push(&machine.inventory()).await.unwrap();
        let verified = verify::verify(&bucket(&store), LOG, 4).await.unwrap();
        assert_eq!((verified.findings.len(), verified.orphans), (0, 0), "what the first left is gone");
    });
}

#[test]
fn a_copy_that_was_left_behind_neither_takes_over_nor_fences() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut old = machine(&dirs[0]);
    old.advance();
    let mut new = Machine::new(dirs[1].path(), 2, 2, 64);
    new.advance();
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        let old_line = owner.lineage();
        owner.push(&old.inventory()).await.unwrap();
        assert!(matches!(own(&store, Takeover::First).await, Err(Error::Diverged { archived: Some(_) })));

        // A restart that claims and comes no further must not lock itself out.
        let restarted = own(&store, Takeover::Continue(old_line.clone())).await.unwrap().lineage();
        own(&store, Takeover::Continue(old_line.clone())).await.unwrap();
        let again = own(&store, Takeover::Continue(restarted.clone())).await.unwrap();
        drop(again);

        // Another machine restores, and is too late: the archive got more.
        let restored = |found: current::Newest| Takeover::Continue(Lineage::restored(&found.indexes[0].content));
        let early = restored(current::newest(&bucket(&store), LOG, 1).await.unwrap());
        let mut owner = own(&store, Takeover::Continue(old_line.clone())).await.unwrap();
        let old_line = owner.lineage();
        owner.push(&old.inventory()).await.unwrap();
        let late = restored(current::newest(&bucket(&store), LOG, 1).await.unwrap());
        owner.push(&old.inventory()).await.unwrap();
        for too_late in [early, late] {
            assert!(matches!(own(&store, too_late).await, Err(Error::Diverged { archived: Some(_) })));
        }
        owner.push(&old.inventory()).await.unwrap();

        // One that restores what is newest goes on from the archive.
        let newest = restored(current::newest(&bucket(&store), LOG, 1).await.unwrap());
        let mut other = own(&store, newest).await.unwrap();
        let line = other.lineage();
        let pushed = other.push(&new.inventory()).await.unwrap();
        assert_eq!((pushed.uploaded, pushed.kept), (2, 0), "the names and lengths are the same, the bytes are not");
        for left_behind in [old_line, restarted] {
            let refused = own(&store, Takeover::Continue(left_behind)).await;
            assert!(matches!(refused, Err(Error::Diverged { archived: Some(_) })), "{refused:?}");
        }
        new.advance();
        assert_eq!(other.push(&new.inventory()).await.unwrap().epoch, Epoch(2), "nobody fenced it");
        let read_back = Lineage::parse(&line.to_string()).unwrap();
        own(&store, Takeover::Continue(read_back)).await.unwrap();
    });
}

#[test]
fn an_archive_that_is_gone_is_not_begun_anew_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    machine.advance();
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        // It came to nothing: the same line may begin again.
        let owner_again = own(&store, Takeover::Continue(owner.lineage())).await;
        assert!(owner_again.is_ok());
        assert!(owner.push(&machine.inventory()).await.is_err());
        let mut owner = owner_again.unwrap();
        owner.push(&machine.inventory()).await.unwrap();
        let line = own(&store, Takeover::Continue(owner.lineage())).await.unwrap().lineage();
        let elsewhere = Stepped::new(0, 0);
        let refused = own(&elsewhere, Takeover::Continue(line)).await;
        assert!(matches!(refused, Err(Error::Diverged { archived: None })));
    });
}

#[test]
fn a_segment_that_vanishes_is_a_gap_and_never_a_step_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    (0..3).for_each(|_| machine.advance());
    run(async {
        let store = Stepped::new(0, 0);
        let mut owner = own(&store, Takeover::First).await.unwrap();
        fs::remove_file(&machine.segments[4].file.path).unwrap();
        let pushed = owner.push(&machine.inventory()).await.unwrap();
        assert_eq!((pushed.epoch, pushed.vanished.len()), (Epoch(2), 1));
        // A checkpoint whose file vanishes is not there at all; if the logs
        // behind it are gone too, the push does not count.
        machine.checkpoint();
        machine.release();
        fs::remove_file(&machine.checkpoints[0].runs[0].path).unwrap();
        let pushed = owner.push(&machine.inventory()).await;
        assert!(matches!(&pushed, Err(Error::Vanished { names }) if names.len() == 2), "{pushed:?}");
        assert_eq!(owner.covered(), Epoch(2));
        machine.checkpoint();
        machine.checkpoints.remove(0);
        assert_eq!(owner.push(&machine.inventory()).await.unwrap().epoch, Epoch(3));
        assert_sound(&store).await;
    });
}

/// Polls a future until it waits for something that is frozen.
fn until_frozen<T>(future: &mut Pin<Box<impl Future<Output = T>>>) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        assert!(future.as_mut().poll(&mut context).is_pending(), "nothing was frozen");
    }
}

fn to_the_end<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
}

/// What a collection does while two owners are between their claims and their
/// first indexes, and they have inherited from different ones.
fn collection_between_two_claims(looks: bool) -> (Result<Tenure>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let store = Stepped::new(0, 0);
    let mut moments = (0..3).map(|_| {
        machine.advance();
        machine.checkpoint();
        let mut moment = machine.inventory();
        moment.checkpoints.drain(..moment.checkpoints.len() - 1);
        moment.segments.clear();
        moment
    });
    let mut moment = || moments.next().unwrap();

    let mut first = to_the_end(&mut Box::pin(own(&store, Takeover::First))).unwrap();
    to_the_end(&mut Box::pin(first.push(&moment()))).unwrap();
    // The second claims, finds index 1, and dawdles.
    store.freeze("term-0000000002/index");
    let mut second = Box::pin(own(&store, Takeover::Force));
    until_frozen(&mut second);
    // The first puts index 2 and is not told that it is there.
    store.spoil("term-0000000001/index", Fault::After);
    assert!(to_the_end(&mut Box::pin(first.push(&moment()))).is_err());
    // The third claims, finds index 2, and dawdles too.
    store.freeze("term-0000000003/index");
    let mut third = Box::pin(own(&store, Takeover::Force));
    until_frozen(&mut third);
    // The first puts index 3 and learns that it is replaced.
    assert!(matches!(to_the_end(&mut Box::pin(first.push(&moment()))), Err(Error::Fenced { by: Term(3) })));
    // The second repeats index 1, which is now the newest, and learns it too.
    store.thaw("term-0000000002/index");
    assert!(matches!(to_the_end(&mut second), Err(Error::Fenced { by: Term(3) })));

    let collected = to_the_end(&mut Box::pin(sweep::collect_if(&bucket(&store), LOG, 1, looks))).unwrap();
    assert_eq!(collected.waits_for, looks.then_some(Term(3)));
    // The third repeats index 2.
    store.thaw("term-0000000003/index");
    let third = to_the_end(&mut third);
    let verified = to_the_end(&mut Box::pin(verify::verify(&bucket(&store), LOG, 1))).unwrap();
    (third, verified.findings.len())
}

#[test]
fn a_collection_waits_for_owners_without_an_index() {
    let (third, findings) = collection_between_two_claims(true);
    assert_eq!((third.unwrap().term(), findings), (Term(3), 0));
    // Without the look what the third has found would be gone.
    let (third, findings) = collection_between_two_claims(false);
    assert!(third.is_ok() && findings > 0);
}

#[test]
fn a_store_that_does_not_answer_is_given_up() {
    let store = Stepped::new(0, 0);
    store.freeze("owners/");
    let options = Options { request_timeout: Duration::from_millis(50), ..options() };
    let archive = Archive::with_store(Arc::new(store), "", options).unwrap();
    assert!(matches!(archive.own(LOG, Takeover::First), Err(Error::Timeout { doing: "put", .. })));
    assert_eq!(archive.stores().unwrap(), [], "the thread goes on");
}

#[test]
fn a_call_does_not_wait_for_a_push() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    machine.advance();
    let store = Stepped::new(0, 0);
    let archive = Archive::with_store(Arc::new(store.clone()), "", options()).unwrap();
    let mut owner = archive.own(LOG, Takeover::First).unwrap();
    owner.push(&machine.inventory()).unwrap();
    machine.advance();
    store.freeze("parts/");
    let pushing = std::thread::spawn(move || owner.push(&machine.inventory()).unwrap().epoch);
    assert_eq!(archive.list(LOG).unwrap().epoch, Epoch(1));
    store.thaw("parts/");
    assert_eq!(pushing.join().unwrap(), Epoch(2));
}

#[test]
fn an_archiver_that_is_dropped_gives_its_push_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(&dir);
    machine.advance();
    let store = Stepped::new(0, 0);
    store.freeze("parts/");
    let archive = Archive::with_store(Arc::new(store), "", options()).unwrap();
    let owner = archive.own(LOG, Takeover::First).unwrap();
    let inventory = machine.inventory();
    let archiver = Archiver::start(owner, Duration::from_secs(3_600), move || Ok(inventory.clone())).unwrap();
    let late = archiver.flush(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(*late, Error::Timeout { doing: "flush", .. }));
    let status = archiver.status();
    assert!(status.pushing && status.waiting_files == 2 && status.waiting_bytes == 128, "{status:?}");
    let begin = Instant::now();
    drop(archiver);
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(matches!(archive.list(LOG), Err(Error::NoArchive)));
}
