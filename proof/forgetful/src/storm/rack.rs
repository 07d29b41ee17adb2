//! One file system, one store after the other on it, round after round.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use corewal::format::name::parse_core_dir;
use corewal::io::{FileStorage, OpenMode, Storage as _};
use corewal::{Keyed, Opened, Recover};
use fastrand::Rng;
use tempfile::TempDir;

use super::io::Io;
use super::oracle::Oracle;
use super::plan::{End, Plan};
use super::tally::Tally;
use super::victim::{Said, Victim};
use super::workload::{SOURCE, Workload};
use super::{options, workload};
use crate::Storm;
use crate::disk::{Disk, On, Pages, Struck, Survive};
use crate::mount::Mounted;

/// A store gets so many rounds at most: then the next begins, so that time
/// goes into what is done to it and not into reading.
const ROUNDS: u64 = 15;
/// Between two looks at whether a fault has struck.
const LOOK: Duration = Duration::from_millis(1);
/// A fault may take so long to strike, and those whom it struck so long to go on asking.
const STRIKE: Duration = Duration::from_millis(150);
const STUBBORN: Duration = Duration::from_millis(400);

/// Where the storm is.
pub(super) struct Rack<'a> {
    args: &'a Storm,
    place: TempDir,
    random: Rng,
    tally: Tally,
    ways: Vec<Io>,
    at: u64,
}

/// The store at hand.
struct Case {
    mounted: Mounted,
    workload: Workload,
    cores: u16,
    io: Io,
    oracle: Oracle,
    #[cfg(feature = "planted-bugs")]
    plant: Option<super::Plant>,
}

impl Case {
    fn dir(&self) -> PathBuf {
        self.mounted.path().join("store")
    }

    fn open(&self) -> corewal::Result<Opened> {
        let options = options(self.cores);
        #[cfg(feature = "planted-bugs")]
        let options = super::plant::planted(options, self.plant);
        options.open_on(self.io.storage(), self.dir(), |_| Keyed::default())
    }
}

impl<'a> Rack<'a> {
    pub(super) fn new(args: &'a Storm, seed: u64, at: u64) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("forgetful.").tempdir()?;
        for name in ["mount", "bound"] {
            std::fs::create_dir(place.path().join(name))?;
        }
        let random = Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(at));
        let mut rack = Self { args, place, random, tally: Tally::default(), ways: Vec::new(), at };
        rack.ways = match args.io {
            Some(io) => vec![io],
            None => rack.possible_ways()?,
        };
        Ok(rack)
    }

    /// The ways of writing that FUSE, and the machine, let pass as they are.
    fn possible_ways(&self) -> Result<Vec<Io>> {
        let mounted = Mounted::new(&self.place.path().join("mount"), Disk::new(0))?;
        let passes = |io: &Io| {
            let path = mounted.path().join(io.name());
            let storage = io.storage();
            let Ok(file) = storage.open(&path, OpenMode::CreateNew) else { return false };
            let way = storage.write_path(&file);
            let direct = *io != Io::Buffered;
            way.direct == direct && (way.backend == "io_uring") == (*io == Io::Uring) && storage.io(0).is_ok()
        };
        Ok(Io::ALL.into_iter().filter(passes).collect())
    }

    /// Rounds, until there were enough, time is over, or a promise is broken.
    pub(super) fn run(mut self, rounds: u64, began: Instant) -> Result<Tally> {
        let over = |done| done >= rounds || self.args.duration.is_some_and(|most| began.elapsed() >= most);
        let mut done = 0;
        while !over(done) && self.tally.broken.is_empty() {
            let mut case = self.new_case()?;
            let mut of_this = 0;
            while !over(done) && self.tally.broken.is_empty() && of_this < ROUNDS {
                let plan = Plan::draw(&mut self.random, !self.args.no_faults, case.io);
                let broken = self.round(&mut case, plan)?;
                done += 1;
                of_this += 1;
                let name = case.io.name();
                if self.args.verbose {
                    println!("{}/{done} {name} {plan:?} {:?}", self.at, case.mounted.disk().counts);
                }
                let cores = case.cores;
                let told = broken.into_iter().map(|what| {
                    format!("{what} (round {done} of file system {}, {name}, {cores} cores, {plan:?})", self.at)
                });
                self.tally.broken.extend(told);
            }
        }
        Ok(self.tally)
    }

    fn new_case(&mut self) -> Result<Case> {
        self.tally.count("stores", 1);
        let mut disk = Disk::new(self.random.u64(..));
        if self.args.lie {
            disk.lie();
        }
        let workload = workload(self.random.u64(..), 200);
        let mounted = Mounted::new(&self.place.path().join("mount"), disk)?;
        std::fs::create_dir(mounted.path().join("store"))?;
        std::fs::File::open(mounted.path())?.sync_all()?;
        if self.args.lie {
            // Without the directory there would be nothing to lose.
            let root = mounted.disk().crashed(Survive::Everything, 0);
            *mounted.disk() = root;
        }
        Ok(Case {
            mounted,
            workload,
            cores: self.random.u16(1..=3),
            io: self.ways[self.random.usize(0..self.ways.len())],
            oracle: Oracle::new(workload),
            #[cfg(feature = "planted-bugs")]
            plant: self.args.plant,
        })
    }

    /// One round. Gives what is broken.
    fn round(&mut self, case: &mut Case, plan: Plan) -> Result<Vec<String>> {
        self.tally.count("rounds", 1);
        let row = match case.io {
            Io::Buffered => "rounds, buffered",
            Io::Blocking => "rounds, blocking",
            Io::Uring => "rounds, uring",
        };
        self.tally.count(row, 1);
        let (said, struck, short) = self.one_life(case, plan)?;
        self.tally.count("writes made short", short);
        self.tally.count("epochs acknowledged", said.epochs);
        self.tally.count("cores latched", said.latched);

        let mut broken = Vec::new();
        if let Some(strange) = &said.strange {
            broken.push(format!("the writing process said: {strange}"));
        }
        broken.extend(said.went_on.iter().map(|line| format!("a latched core went on: {line}")));
        // A short write is no failure, but less than a block is one for corewal.
        if let (Some(ended), None, 0) = (&said.ended, &struck, short) {
            broken.push(format!("the writing process ended by itself: {ended}"));
        }
        if let Some(struck) = &struck {
            self.count_fault(struck, plan);
            self.check_after_failure(case, struck, &said, &mut broken)?;
        }
        if plan.end == End::Power {
            case.mounted.cut(plan.survive, plan.seed)?;
        }
        let mut last = said.last;
        for turn in 0..=u64::from(plan.again) {
            if turn > 0 {
                // Whether or not it had done anything since: twice is as once.
                case.mounted.cut(plan.survive, plan.seed + turn)?;
            }
            match case.open() {
                Ok(mut opened) => {
                    self.tally.count("openings compared", 1);
                    broken.extend(case.oracle.check(&mut opened, last.take()).iter().map(ToString::to_string));
                }
                Err(error) => {
                    // If it is the cache that shows something else than the disk
                    // holds, that is worth knowing.
                    case.mounted.cut(Survive::Everything, 0)?;
                    let then = case.open().map_or_else(|error| error.to_string(), |_| "it does".into());
                    broken.push(format!("the store does not open: {error} (and with the cache dropped: {then})"));
                }
            }
            if !broken.is_empty() {
                break;
            }
        }
        Ok(broken)
    }

    /// Lets the process live and die as planned. Gives what it said, and what a
    /// fault struck, and how many writes were made short.
    fn one_life(&mut self, case: &Case, plan: Plan) -> Result<(Said, Option<Struck>, u64)> {
        if let Some(fault) = plan.fault {
            case.mounted.disk().arm(fault);
        }
        let before = case.mounted.disk().counts;
        let mut victim = Victim::start(&case.dir(), case.cores, case.io, case.workload, &self.more())?;
        if plan.while_opening || victim.wait_for_open() {
            thread::sleep(plan.life);
        }
        if plan.fault.is_some_and(|fault| !fault.short) && !plan.while_opening {
            // Time to strike, and then for the stubborn to be refused.
            self.wait(&mut victim, STRIKE, || case.mounted.disk().struck().is_some())?;
            if case.mounted.disk().struck().is_some() {
                self.wait(&mut victim, STUBBORN, || false)?;
            }
        }
        self.tally.count("of both, while opening", u64::from(!victim.said.opened && plan.while_opening));
        match plan.end {
            End::Power => {
                self.tally.count("power cuts", 1);
                // From this moment on nothing becomes durable. What the process
                // has said, or is still to say of what was, counts.
                case.mounted.disk().cut_power();
            }
            End::Process => self.tally.count("deaths of the process alone", 1),
        }
        let power = plan.end == End::Process;
        let mut said = victim.kill()?;
        if !power {
            said.ended = None;
        }
        let mut disk = case.mounted.disk();
        let struck = disk.struck().cloned();
        let short = disk.counts.short_writes - before.short_writes;
        disk.disarm();
        Ok((said, struck, short))
    }

    #[cfg(feature = "planted-bugs")]
    fn more(&self) -> Vec<String> {
        self.args.plant.map_or_else(Vec::new, |plant| vec!["--plant".to_owned(), plant.name().to_owned()])
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn more(&self) -> Vec<String> {
        Vec::new()
    }

    /// Waits for something, for the end of the process, or for so long.
    fn wait(&self, victim: &mut Victim, most: Duration, done: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + most;
        while !done() && !victim.has_ended()? && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn count_fault(&mut self, struck: &Struck, plan: Plan) {
        self.tally.count("faults that struck", 1);
        let is_log = struck.name.to_str().is_some_and(|name| name.ends_with(".wal"));
        let pages = plan.fault.expect("something struck").pages;
        let row = match (struck.on, is_log, pages) {
            (On::Sync, true, Pages::Kept) => "syncs of a log failed, pages kept",
            (On::Sync, true, Pages::Dropped) => "syncs of a log failed, pages dropped",
            (On::Sync, true, Pages::Half) => "syncs of a log failed, pages half",
            (On::Sync, false, _) => "other syncs failed",
            (On::SyncDir, ..) => "syncs of directories failed",
            (On::Write, ..) => "writes failed",
        };
        self.tally.count(row, 1);
    }

    /// After a log's failed sync or write nothing of it is acknowledged, and
    /// nothing is tried again.
    fn check_after_failure(
        &mut self,
        case: &Case,
        struck: &Struck,
        said: &Said,
        broken: &mut Vec<String>,
    ) -> Result<()> {
        let is_log = struck.name.to_str().is_some_and(|name| name.ends_with(".wal"));
        if !is_log {
            return Ok(());
        }
        // Past the cache each write has its own sync, and those of other frames
        // may be under way.
        let synced_again = if case.io == Io::Buffered { struck.synced_again } else { 0 };
        if synced_again + struck.written_again > 0 {
            broken.push(format!(
                "{}/{} was written again {} times and synced {} times after its {:?} had failed",
                struck.parent.display(),
                struck.name.display(),
                struck.written_again,
                synced_again,
                struck.on
            ));
        }
        // A ring has several writes under way: those handed over before the one
        // that failed may end after it, and count.
        if case.io == Io::Uring {
            return Ok(());
        }
        let Some(last) = said.last else { return Ok(()) };
        let bound = match self.durable_offset(case, struck)? {
            Ok(bound) => bound,
            Err(error) => {
                broken.push(format!("what was durable when a sync failed does not open: {error}"));
                return Ok(());
            }
        };
        if last.offset > bound {
            self.tally.count("acknowledged after a failed sync", 1);
            broken.push(format!(
                "epoch {} with offset {} was acknowledged, but when the {:?} of {}/{} failed its core was durable up to {bound}",
                last.epoch,
                last.offset,
                struck.on,
                struck.parent.display(),
                struck.name.display(),
            ));
        }
        Ok(())
    }

    /// How far the core whose log was struck was durable at that moment: what
    /// an opening finds on a disk that lost power just then.
    fn durable_offset(&self, case: &Case, struck: &Struck) -> Result<corewal::Result<u64>> {
        let core = struck.parent.to_str().and_then(parse_core_dir);
        let (core, _) = core.with_context(|| format!("{} is no core's", struck.parent.display()))?;
        let mounted = Mounted::new(&self.place.path().join("bound"), struck.durable.clone())?;
        let dir = mounted.path().join("store");
        let options = options(case.cores).recover(Recover::Latest);
        let opened = options.open_on(FileStorage::new(), dir, |_| Keyed::default());
        Ok(opened.map(|opened| opened.shards[core.index()].offset_u64(SOURCE).unwrap_or(0)))
    }
}
