//! The same for bare writers: truncate, release and reset among appends and
//! syncs, crashed at each of their steps.

use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{Commit, Lsn, Recover, Writer};
use fastrand::Rng;

use super::check::{DIR, Session};
use super::probe::{Trace, payload};
use super::profile::pick;
use super::{Outcome, ensure};

const MAX_DEPTH: u32 = 2;

/// A record that counts.
#[derive(Clone, Copy, Debug)]
struct Item {
    lsn: u64,
    /// The payload's number; `None` for a commit.
    id: Option<u64>,
    /// Position behind it.
    end: u64,
}

/// A log as it counts: what `truncate_to` took back is not there, what was
/// released is below `start`.
#[derive(Clone, Debug, Default)]
struct Log {
    items: Vec<Item>,
    start: u64,
}

impl Log {
    /// The log up to its commits, the first `commits` of them.
    fn prefix(&self, commits: usize) -> Self {
        let ends = self.items.iter().enumerate().filter(|(_, item)| item.id.is_none()).map(|(at, _)| at + 1);
        let len = [0].into_iter().chain(ends).nth(commits).expect("there are that many commits");
        Self { items: self.items[..len].to_vec(), start: self.start }
    }

    fn commits(&self) -> usize {
        self.items.iter().filter(|item| item.id.is_none()).count()
    }

    fn payloads(&self) -> Vec<u64> {
        self.items.iter().filter(|item| item.lsn >= self.start).filter_map(|item| item.id).collect()
    }

    fn durable_commits(&self, durable: u64) -> usize {
        self.items.iter().filter(|item| item.id.is_none() && item.end <= durable).count()
    }
}

/// What may come back.
#[derive(Clone, Debug)]
struct Bounds {
    outcomes: Vec<Log>,
    durable: u64,
    sequence: u64,
}

struct Life<'s> {
    session: &'s Session<'s>,
    disk: SimStorage,
    writer: Option<Writer<SimStorage>>,
    log: Log,
    durable: u64,
    sequence: u64,
    /// Where frames begin.
    marks: Vec<u64>,
    next_id: u64,
    rng: Rng,
    depth: u32,
}

pub(crate) fn run(session: &Session<'_>) -> Outcome {
    let mut rng = Rng::with_seed(session.profile.seed);
    let disk = session.profile.new_disk();
    disk.record_snapshots(true);
    let bounds = Bounds { outcomes: vec![Log::default()], durable: 0, sequence: 0 };
    let life = Life::begin(session, disk, Log::default(), Rng::with_seed(rng.u64(..)), 0)?;
    for snapshot in life.disk.take_snapshots() {
        crash_at(session, &snapshot, &bounds, &mut rng, 0)?;
    }
    life.live()
}

fn open_writer(session: &Session<'_>, disk: &SimStorage) -> Outcome<Writer<SimStorage>> {
    let options = session.profile.options.clone().recover(Recover::Latest);
    let opened = options.open_writers(disk.clone(), DIR);
    Ok(opened.map_err(|error| format!("opening refuses: {error}"))?.0.remove(0))
}

/// Crashes, opens with a state, compares; then sometimes lives on.
fn crash_at(session: &Session<'_>, snapshot: &SimSnapshot, bounds: &Bounds, rng: &mut Rng, depth: u32) -> Outcome {
    let kind = if rng.bool() { CrashKind::Power } else { CrashKind::Process };
    let seed = rng.u64(..);
    let disk = snapshot.crash(kind, seed);
    session.profile.tell(|| format!("crash at step {}: {kind:?} {seed}", snapshot.step));
    let outcome = fork(session, disk, bounds, rng, depth);
    outcome.map_err(|error| format!("{error}\n  after {kind:?} {seed} at step {} (depth {depth})", snapshot.step))
}

fn fork(session: &Session<'_>, disk: SimStorage, bounds: &Bounds, rng: &mut Rng, depth: u32) -> Outcome {
    let within = rng.u8(0..5) == 0;
    disk.record_snapshots(within);
    let found = compare(session, &disk, bounds)?;
    disk.record_snapshots(false);
    let snapshots = disk.take_snapshots();
    if within && !snapshots.is_empty() {
        let again = pick(rng, &snapshots).crash(CrashKind::Power, rng.u64(..));
        compare(session, &again, bounds).map_err(|error| format!("{error}\n  after a crash within an open"))?;
    }
    if depth < MAX_DEPTH && rng.u8(0..6) == 0 {
        disk.record_snapshots(true);
        let life = Life::begin(session, disk, found, Rng::with_seed(rng.u64(..)), depth + 1)?;
        drop(life.disk.take_snapshots());
        return life.live();
    }
    Ok(())
}

/// Opens with a state, and gives the one outcome that it is.
fn compare(session: &Session<'_>, disk: &SimStorage, bounds: &Bounds) -> Outcome<Log> {
    session.count(|counts| counts.states += 1);
    let options = session.profile.options.clone().recover(Recover::Latest);
    let opened = options.open_on(disk.clone(), DIR, |_| Trace::default());
    let opened = opened.map_err(|error| format!("opening refuses: {error}"))?;
    let shard = &opened.shards[0];
    let (payloads, start) = (&shard.state().0, shard.log().start_lsn().get());
    let (durable, sequence) = (shard.log().durable_lsn().get(), shard.log().sequence().get());
    ensure!(durable > bounds.durable, "LSN {} was durable, the log goes on from {durable}", bounds.durable);
    ensure!(sequence > bounds.sequence, "sequence {} was durable, the log goes on from {sequence}", bounds.sequence);
    let outcome = bounds.outcomes.iter().rev().find(|log| log.start == start && log.payloads() == *payloads);
    outcome.cloned().ok_or_else(|| {
        let allowed: Vec<_> = bounds.outcomes.iter().map(|log| (log.start, log.payloads())).collect();
        format!("from {start} on {payloads:?} came back, allowed are {allowed:?}")
    })
}

impl<'s> Life<'s> {
    fn begin(session: &'s Session<'s>, disk: SimStorage, log: Log, rng: Rng, depth: u32) -> Outcome<Self> {
        let writer = open_writer(session, &disk)?;
        let next_id = u64::from(depth) << 32;
        let (durable, sequence) = (writer.durable_lsn().get(), writer.sequence().get());
        let marks = vec![writer.appended_lsn().get()];
        Ok(Self { session, disk, writer: Some(writer), log, durable, sequence, marks, next_id, rng, depth })
    }

    fn live(mut self) -> Outcome {
        let operations = if self.depth == 0 { self.session.profile.operations } else { self.rng.usize(2..10) };
        for number in 0..operations {
            let outcome = self.operate();
            outcome.map_err(|error| format!("{error}\n  in operation {number} (depth {})", self.depth))?;
        }
        Ok(())
    }

    fn operate(&mut self) -> Outcome {
        match self.rng.u8(0..100) {
            0..40 => self.append(),
            40..60 => self.commit(),
            60..70 => self.act("poll", |writer, _| writer.submit().and_then(|()| writer.poll()).map(|_| None)),
            70..82 => self.act("sync", |writer, _| writer.sync().map(|_| None)),
            82..87 => self.truncate(),
            87..92 => self.release(),
            92..94 => self.act("reset", |writer, log| {
                writer.reset()?;
                Ok(Some(Log { items: Vec::new(), start: writer.start_lsn().get().max(log.start) }))
            }),
            94..97 => self.reopen(),
            _ => Ok(()),
        }
    }

    /// Does something that appends no user record; it may give the log as it
    /// counts from then on, which a crash within may show or not.
    fn act(
        &mut self,
        what: &str,
        operation: impl FnOnce(&mut Writer<SimStorage>, &Log) -> corewal::Result<Option<Log>>,
    ) -> Outcome {
        let commits = self.log.durable_commits(self.durable);
        let mut outcomes: Vec<_> = (commits..=self.log.commits()).map(|commits| self.log.prefix(commits)).collect();
        let bounds = |outcomes, life: &Self| Bounds { outcomes, durable: life.durable, sequence: life.sequence };
        let writer = self.writer.as_mut().expect("open");
        let changed = match operation(writer, &self.log) {
            Err(error) if error.is_full() => None,
            result => result.map_err(|error| format!("{what}: {error}"))?,
        };
        self.session
            .profile
            .tell(|| format!("{what}: {:?}, start {:?}", self.writer, changed.as_ref().map(|l| l.start)));
        if let Some(log) = changed {
            outcomes.push(log.prefix(log.commits()));
            self.log = log;
        }
        let bounds = bounds(outcomes, self);
        let every = if self.depth == 0 { 1 } else { 5 };
        for snapshot in self.disk.take_snapshots() {
            if self.rng.usize(0..every) == 0 {
                crash_at(self.session, &snapshot, &bounds, &mut self.rng, self.depth)
                    .map_err(|error| format!("{error}\n  during {what}"))?;
            }
        }
        let writer = self.writer.as_ref().expect("open");
        self.durable = writer.durable_lsn().get();
        if self.durable >= writer.written_lsn().get() && writer.records_since_sync() == 0 {
            self.sequence = writer.sequence().get();
            self.marks.push(writer.appended_lsn().get());
        }
        ensure!(writer.start_lsn().get() == self.log.start, "the log starts at {}", writer.start_lsn());
        Ok(())
    }

    fn append(&mut self) -> Outcome {
        self.next_id += 1;
        let id = self.next_id;
        let len = if self.rng.u8(0..10) == 0 { self.rng.usize(4000..9000) } else { self.rng.usize(8..3000) };
        let bytes = payload(id, len);
        let mut placed = None;
        self.act("payload", |writer, _| {
            let lsn = writer.payload(&bytes)?;
            placed = Some(Item { lsn: lsn.get(), id: Some(id), end: writer.appended_lsn().get() });
            Ok(None)
        })?;
        self.log.items.extend(placed);
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        self.act("commit", |writer, log| {
            let end = writer.commit(&Commit::new())?.get();
            // It may have started its own sync.
            let mut log = log.clone();
            log.items.push(Item { lsn: end, id: None, end });
            Ok(Some(log))
        })
    }

    fn truncate(&mut self) -> Outcome {
        let start = self.log.start;
        let marks: Vec<u64> = self.marks.iter().copied().filter(|&mark| mark >= start).collect();
        if marks.is_empty() {
            return Ok(());
        }
        let mark = *pick(&mut self.rng, &marks);
        self.act("truncate_to", |writer, log| {
            let to = writer.truncate_to(Lsn(mark))?;
            let kept = log.items.iter().rposition(|item| item.id.is_none() && item.end <= mark).map_or(0, |at| at + 1);
            assert!(to.get() <= mark, "{to} is behind {mark}");
            Ok(Some(Log { items: log.items[..kept].to_vec(), start: log.start }))
        })
    }

    fn release(&mut self) -> Outcome {
        let below = self.rng.u64(0..=self.durable);
        self.act("release_below", |writer, log| {
            let start = writer.release_below(Lsn(below))?;
            assert!(start.get() <= below.max(log.start), "{start} is behind {below}");
            Ok(Some(Log { items: log.items.clone(), start: start.get() }))
        })
    }

    /// The process dies and starts again on the same disk.
    fn reopen(&mut self) -> Outcome {
        self.writer = None;
        let commits = self.log.durable_commits(self.durable);
        let outcomes = (commits..=self.log.commits()).map(|commits| self.log.prefix(commits)).collect();
        let bounds = Bounds { outcomes, durable: self.durable, sequence: self.sequence };
        self.log = compare(self.session, &self.disk, &bounds).map_err(|error| format!("{error}\n  after a restart"))?;
        for snapshot in self.disk.take_snapshots() {
            crash_at(self.session, &snapshot, &bounds, &mut self.rng, self.depth)
                .map_err(|error| format!("{error}\n  during a restart"))?;
        }
        self.writer = Some(open_writer(self.session, &self.disk)?);
        drop(self.disk.take_snapshots());
        self.act("opening again", |_, _| Ok(None))
    }
}
