//! `torture`: a child process writes, is killed at a random moment, and
//! everything is compared with what must be there. Again and again.

mod child;
mod ground;
mod oracle;
mod tally;
mod victim;
mod workload;

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use corewal::{Keyed, Opened, Options};
use indicatif::ProgressBar;

use self::ground::Ground;
use self::oracle::{Oracle, Promise, Violation};
use self::tally::Tally;
use self::victim::{Remains, Victim};
use self::workload::{Workload, options};
use crate::args::{Common, Torture, TortureChild};
use crate::exit::{Exit, Failure};
use crate::medium::Io;

/// A log of so many bytes is long enough: the next store begins, so that time
/// goes into kills and not into reading.
const LONG: u64 = 64 << 20;

/// Does what `corewal torture-child` asks for.
pub(crate) fn child(common: &Common, args: &TortureChild) -> Result<Exit, Failure> {
    child::run(&common.dir, args.cores, args.io, Workload { seed: args.seed, keys: args.keys })?;
    Ok(Exit::Done)
}

/// Does what `corewal torture` asks for.
pub(crate) fn run(common: &Common, args: &Torture) -> Result<Exit, Failure> {
    let began = Instant::now();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut ground = Ground::take(&common.dir)?;
    eprintln!("torturing {} with --seed {seed}", common.dir.display());
    let bar = ProgressBar::new(u64::from(args.kills));
    let mut rack = Rack {
        dir: &common.dir,
        cores: args.cores,
        io: args.io,
        random: fastrand::Rng::with_seed(seed),
        tally: Tally { seed, cores: args.cores, ..Tally::default() },
    };
    while rack.tally.kills < u64::from(args.kills) && rack.tally.violations.is_empty() {
        let over = |rack: &Rack<'_>| {
            rack.tally.kills >= u64::from(args.kills) || args.duration.is_some_and(|most| began.elapsed() >= most)
        };
        if over(&rack) {
            break;
        }
        let workload = Workload { seed: rack.random.u64(..), keys: args.keys };
        ground.clear(args.cores, workload)?;
        rack.one_store(workload, |rack| {
            bar.set_position(rack.tally.kills);
            over(rack)
        })?;
    }
    bar.finish_and_clear();
    let mut tally = rack.tally;
    tally.time = began.elapsed();
    let text = if common.json { format!("{}\n", tally.json()) } else { tally.text() };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    if tally.violations.is_empty() {
        return Ok(Exit::Done);
    }
    ground.keep()?;
    for violation in &tally.violations {
        eprintln!("broken promise: {violation}");
    }
    eprintln!(
        "{} is kept as it is; try again with --seed {seed} (the moments of the kills will differ)",
        common.dir.display()
    );
    Ok(Exit::Findings)
}

/// What tortures.
struct Rack<'d> {
    dir: &'d Path,
    cores: u16,
    io: Io,
    random: fastrand::Rng,
    tally: Tally,
}

impl Rack<'_> {
    /// Tortures one store until it has grown long, a promise is broken, or
    /// `over` says so.
    fn one_store(&mut self, workload: Workload, over: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        self.tally.stores += 1;
        let before = self.tally.records;
        let mut oracle = Oracle::new(workload);
        loop {
            let remains = self.one_kill(workload)?;
            if !self.tally.violations.is_empty() {
                return Ok(());
            }
            let Some(bytes) = self.recover(&mut oracle, &remains) else { return Ok(()) };
            self.tally.records = before + oracle.offset();
            if bytes > LONG || over(self) || !self.tally.violations.is_empty() {
                return Ok(());
            }
        }
    }

    fn one_kill(&mut self, workload: Workload) -> Result<Remains, Failure> {
        let victim = Victim::start(self.dir, self.cores, self.io, workload)?;
        let mut remains = Remains::default();
        if self.random.u8(0..4) == 0 {
            // While it opens, most likely.
            thread::sleep(Duration::from_micros(self.random.u64(0..20_000)));
        } else if victim.wait_for_open(&mut remains) {
            thread::sleep(self.moment());
            if self.random.u8(0..6) == 0 {
                self.try_the_lock();
            }
        } else {
            self.broken(Promise::Opens, "the child ended or hung before it had opened the store".to_owned());
        }
        victim.kill(&mut remains)?;
        self.tally.kills += 1;
        self.tally.kills_while_opening += u64::from(!remains.had_opened);
        self.tally.epochs_acknowledged += remains.epochs;
        if let Some(said) = &remains.ended {
            self.broken(Promise::Opens, format!("the child ended by itself: {said}"));
        }
        Ok(remains)
    }

    /// A moment after the opening: as likely within 1 to 2 ms as within 100 to
    /// 200, because what goes wrong early is as wrong.
    fn moment(&mut self) -> Duration {
        let exponent = self.random.f64() * 9.0;
        Duration::from_secs_f64(exponent.exp2() / 1000.0).saturating_sub(Duration::from_millis(1))
    }

    fn try_the_lock(&mut self) {
        self.tally.checked(&[Promise::Lock]);
        match Options::new().create(false).open(self.dir) {
            Err(error) if error.is_locked() => {}
            Err(error) => {
                self.broken(Promise::Lock, format!("expected to be locked out of a store in use, got: {error}"))
            }
            Ok(_) => self.broken(Promise::Lock, "a store in use could be opened a second time".to_owned()),
        }
    }

    /// Opens and compares, now and then twice, with an orderly close between.
    /// Gives the bytes of the log, if it opens.
    fn recover(&mut self, oracle: &mut Oracle, remains: &Remains) -> Option<u64> {
        let mut opened = self.open()?;
        self.compare(oracle, &mut opened, remains);
        let bytes = opened.report.cores.iter().map(|core| core.bytes).sum();
        if self.random.u8(0..3) > 0 {
            return Some(bytes);
        }
        for shard in opened.shards {
            if let Err(error) = shard.close() {
                self.broken(Promise::Opens, format!("the store would not close: {error}"));
                return None;
            }
        }
        drop(opened.store);
        self.tally.clean += 1;
        if self.random.bool() {
            let mut opened = self.open()?;
            self.compare(oracle, &mut opened, &Remains::default());
        }
        Some(bytes)
    }

    fn open(&mut self) -> Option<Opened> {
        self.tally.checked(&[Promise::Opens]);
        match options(self.cores).open_on(self.io.storage(), self.dir, |_| Keyed::default()) {
            Ok(opened) => Some(opened),
            Err(error) => {
                self.broken(Promise::Opens, error.to_string());
                None
            }
        }
    }

    fn compare(&mut self, oracle: &mut Oracle, opened: &mut Opened, remains: &Remains) {
        let violations = oracle.check(opened, remains.last);
        self.tally.violations.extend(violations);
        self.tally.checked(&[Promise::Atomic, Promise::Consistent, Promise::Durable, Promise::Order, Promise::Epochs]);
        self.tally.recoveries += 1;
        let cuts: Vec<u64> = opened.report.cores.iter().filter_map(|core| Some(core.cut.as_ref()?.bytes)).collect();
        self.tally.torn_tails += u64::from(!cuts.is_empty());
        self.tally.torn_bytes += cuts.iter().sum::<u64>();
        let rolled = opened.report.cores.iter().filter_map(|core| Some(core.rolled_back.as_ref()?.records));
        self.tally.rolled_back += rolled.sum::<u64>();
    }

    fn broken(&mut self, promise: Promise, detail: String) {
        self.tally.violations.push(Violation { promise, detail });
    }
}
