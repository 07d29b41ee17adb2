//! The reader: takes records from the sources, sends them to the cores, and
//! cuts the input into epochs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corewal::{Commit, Store};
use crossbeam_channel::{RecvTimeoutError, bounded};

use super::committed::{self, Committed};
use super::job::Job;
use super::lanes::{Barrier, Gone, Lanes};
use super::rejects::Rejects;
use super::show::Show;
use super::spec::Spec;
use crate::duration::EpochEvery;
use crate::exit::Failure;
use crate::source::{Resume, Source, Step};

/// So many records are read between two looks at the clock.
const GLANCE: u64 = 256;
/// A source gives way to the others after so many looks, when all are followed.
const TURN: u64 = 200;
/// How often a file that is followed is looked at.
const POLL: Duration = Duration::from_millis(100);
/// One commit carries the offsets of so many sources at most; its limit lies
/// above that.
const SOURCES_PER_EPOCH: usize = 1000;

/// Why reading stops before the end.
#[derive(Debug)]
pub(super) enum Stop {
    /// A core has failed; its thread knows why.
    Gone,
    /// A source cannot be read on; what was read of it is still good.
    Source(Failure),
    /// Something is wrong on this side.
    Failed(Failure),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How a source's turn ended.
enum Turn {
    /// There is no more of it.
    End,
    /// There is no more of it for now.
    Pending,
    /// There is more.
    More,
    /// The user wants to leave.
    Interrupted,
}

/// What was read in this run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Records taken.
    pub(super) records: u64,
    /// Records rejected.
    pub(super) rejected: u64,
    /// Epochs ended.
    pub(super) epochs: u64,
}

/// What the reader works with.
pub(super) struct Reader<'a> {
    /// The store, for the numbers of epochs.
    pub(super) store: Store,
    /// The way to the cores.
    pub(super) lanes: Lanes,
    /// The sources.
    pub(super) sources: &'a [Spec],
    /// How far earlier runs read.
    pub(super) committed: &'a Committed,
    /// The job, if no commit carries it yet.
    pub(super) job: Option<&'a Job>,
    /// The rejects file, if one is wanted.
    pub(super) rejects: Option<Rejects>,
    /// When an epoch ends.
    pub(super) every: EpochEvery,
    /// Whether files are followed.
    pub(super) follow: bool,
    /// Set when the user wants to leave.
    pub(super) interrupted: Arc<AtomicBool>,
    /// Set when a core has failed.
    pub(super) failed: Arc<AtomicBool>,
    /// What the user sees.
    pub(super) show: Show,
    /// What is open since the last barrier.
    pub(super) open: OpenEpoch,
    /// What was read.
    pub(super) counts: Counts,
}

/// The epoch that has not ended yet.
#[derive(Debug)]
pub(super) struct OpenEpoch {
    began: Instant,
    /// Records read, rejected ones too.
    records: u64,
    /// How far the sources were read, by index.
    marks: BTreeMap<usize, Resume>,
    rejected: bool,
    /// The epoch before had records. If none come for a while, an empty epoch
    /// follows it: whoever looks into the logs beside us takes a write for
    /// durable when a later one says so, and must not lag for good.
    after_records: bool,
}

impl OpenEpoch {
    /// An epoch that begins now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), records: 0, marks: BTreeMap::new(), rejected: false, after_records: false }
    }

    /// Whether it ends when its time is over.
    fn is_due_in_time(&self) -> bool {
        self.records > 0 || self.after_records
    }
}

impl Reader<'_> {
    /// Reads all sources to their ends, or until the user wants to leave.
    pub(super) fn read(&mut self) -> Result<(), Stop> {
        if self.follow {
            // None of them ends, so all have their turns.
            self.read_in_turn(0..self.sources.len())?;
            return Ok(());
        }
        for index in 0..self.sources.len() {
            if let Turn::Interrupted = self.read_in_turn(index..index + 1)? {
                break;
            }
        }
        Ok(())
    }

    /// Ends the last epoch and lets the cores close.
    pub(super) fn finish(mut self) -> Result<Counts, Stop> {
        if self.open.records > 0 {
            self.cut()?;
        }
        self.show.done();
        self.lanes.close()?;
        Ok(self.counts)
    }

    fn read_in_turn(&mut self, indices: std::ops::Range<usize>) -> Result<Turn, Stop> {
        let mut open = Vec::new();
        for index in indices {
            open.push((index, self.open_source(index)?));
        }
        while !open.is_empty() {
            let mut idle = true;
            let mut at = 0;
            while let Some((index, source)) = open.get_mut(at) {
                match self.turn(*index, source)? {
                    Turn::Interrupted => return Ok(Turn::Interrupted),
                    Turn::End => {
                        open.remove(at);
                        continue;
                    }
                    // A stream has waited by itself.
                    Turn::Pending => idle &= !self.sources[*index].is_stream(),
                    Turn::More => idle = false,
                }
                at += 1;
            }
            if idle && !open.is_empty() {
                thread::sleep(self.patience());
            }
        }
        Ok(Turn::End)
    }

    fn open_source(&mut self, index: usize) -> Result<Source, Stop> {
        if self.open.marks.len() >= SOURCES_PER_EPOCH {
            self.cut()?;
        }
        let spec = &self.sources[index];
        let resume = match spec.name() {
            Some(name) => self.committed.resume(name, spec.format())?,
            None => None,
        };
        spec.open(resume.as_ref()).map_err(Stop::Source)
    }

    /// How long to wait before the files are looked at again.
    fn patience(&self) -> Duration {
        match self.every {
            EpochEvery::Time(time) if self.open.is_due_in_time() => {
                time.saturating_sub(self.open.began.elapsed()).min(POLL)
            }
            _ => POLL,
        }
    }

    /// Reads a source until it has no more for now or its turn is over.
    fn turn(&mut self, index: usize, source: &mut Source) -> Result<Turn, Stop> {
        // The end of the last record read, which is where a commit may stand.
        let mut end = None;
        let turn = self.take(index, source, &mut end);
        self.mark(index, source, end);
        turn
    }

    fn take(&mut self, index: usize, source: &mut Source, end: &mut Option<u64>) -> Result<Turn, Stop> {
        let limit = match self.every {
            EpochEvery::Records(records) => records.get(),
            EpochEvery::Time(_) => u64::MAX,
        };
        let most = if self.follow { TURN } else { u64::MAX };
        for _ in 0..most {
            if self.glance(index, source, *end)? {
                return Ok(Turn::Interrupted);
            }
            for _ in 0..GLANCE {
                match source.next().map_err(Stop::Source)? {
                    Step::Record(record) => {
                        self.lanes.push(record.key, record.value)?;
                        *end = Some(record.place.end);
                        self.counts.records += 1;
                    }
                    Step::Rejected(rejected) => {
                        let (place, truncated) = (rejected.place, rejected.truncated);
                        let (reason, raw) = (rejected.reason, rejected.raw.to_vec());
                        self.show.rejected(source.name(), place, &reason, truncated);
                        self.mark(index, source, *end);
                        self.reject(&raw)?;
                        *end = Some(place.end);
                    }
                    Step::Pending => return Ok(Turn::Pending),
                    Step::End => return Ok(Turn::End),
                }
                self.open.records += 1;
                if self.open.records >= limit {
                    self.mark(index, source, *end);
                    self.cut()?;
                }
            }
        }
        Ok(Turn::More)
    }

    /// A look at everything but the records: whether a core has failed, whether
    /// the epoch's time is over, and whether the user wants to leave.
    fn glance(&mut self, index: usize, source: &Source, end: Option<u64>) -> Result<bool, Stop> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Stop::Gone);
        }
        self.show.moved(index, source.position(), self.counts.records);
        if let EpochEvery::Time(time) = self.every
            && self.open.is_due_in_time()
            && self.open.began.elapsed() >= time
        {
            self.mark(index, source, end);
            self.cut()?;
        }
        Ok(self.interrupted.load(Ordering::Acquire))
    }

    /// Notes that a source was read up to `end`.
    fn mark(&mut self, index: usize, source: &Source, end: Option<u64>) {
        if let Some(position) = end {
            self.open.marks.insert(index, Resume { position, fingerprint: source.fingerprint(position) });
        }
    }

    fn reject(&mut self, raw: &[u8]) -> Result<(), Stop> {
        if self.rejects.as_ref().is_some_and(|rejects| !rejects.is_known()) {
            self.make_rejects_known()?;
        }
        if let Some(rejects) = &mut self.rejects {
            rejects.add(raw)?;
        }
        self.counts.rejected += 1;
        self.open.rejected = true;
        Ok(())
    }

    /// Ends an epoch whose commit has the rejects file's length before this run
    /// wrote to it, and waits until that is durable.
    fn make_rejects_known(&mut self) -> Result<(), Stop> {
        let cores = usize::from(self.store.cores());
        let (durable, all_durable) = bounded(cores);
        self.cut_and_tell(Some(durable))?;
        for _ in 0..cores {
            loop {
                match all_durable.recv_timeout(POLL) {
                    Ok(()) => break,
                    Err(RecvTimeoutError::Timeout) if !self.failed.load(Ordering::Acquire) => {}
                    Err(_) => return Err(Stop::Gone),
                }
            }
        }
        if let Some(rejects) = &mut self.rejects {
            rejects.now_durable();
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Stop> {
        self.cut_and_tell(None)
    }

    /// Ends the epoch: all cores commit what they have got so far together
    /// with how far the sources were read for it.
    fn cut_and_tell(&mut self, durable: Option<crossbeam_channel::Sender<()>>) -> Result<(), Stop> {
        let mut commit = Commit::new();
        // First what can fail: then nothing is forgotten yet.
        if let Some(rejects) = &mut self.rejects
            && let Some((name, length)) = rejects.settle()?
        {
            commit = commit.offset_u64(name, length);
        }
        let open = std::mem::replace(&mut self.open, OpenEpoch::new());
        self.open.after_records = open.records > 0;
        for (index, mark) in &open.marks {
            let spec = &self.sources[*index];
            if let Some(name) = spec.name() {
                commit = committed::with_source(commit, name, spec.format(), mark);
            }
        }
        if let Some(job) = self.job.take() {
            commit = committed::with_job(commit, job);
        }
        if open.rejected {
            commit = committed::with_rejected(commit, self.committed.rejected()? + self.counts.rejected);
        }
        let barrier = Barrier { epoch: self.store.next_epoch(), commit: Arc::new(commit), durable };
        self.lanes.cut(&barrier)?;
        self.counts.epochs += 1;
        Ok(())
    }
}
