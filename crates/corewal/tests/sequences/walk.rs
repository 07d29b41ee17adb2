//! Many sequences on all threads, and the report.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corewal::Recover;
use corewal::io::SimSnapshot;
use fastrand::Rng;

use crate::engine::{Life, Oracle, Outcome, Session, caught, open};
use crate::looker::{Kind, Looker, Plan, Tally};
use crate::operation::{Operation, sequences};
use crate::world::{Beginning, World};

/// A sequence and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    world: World,
    operations: Vec<Operation>,
    told: bool,
}

impl Case {
    /// All sequences of up to three operations, in all worlds.
    pub(crate) fn all() -> Vec<Self> {
        let operations: Vec<_> = (0..=3).flat_map(sequences).collect();
        let of = |world: World| operations.iter().map(move |operations| Self::of(world, operations.clone()));
        World::all().into_iter().flat_map(of).collect()
    }

    /// All sequences of up to two operations in half of the worlds, and each of
    /// three in one.
    pub(crate) fn some() -> Vec<Self> {
        let worlds = World::all().into_iter().filter(|world| world.direct == (world.recover == Recover::CompleteEpoch));
        let worlds: Vec<_> = worlds.collect();
        let short: Vec<_> = (0..=2).flat_map(sequences).collect();
        let of =
            |world: &World| short.iter().map(|operations| Self::of(*world, operations.clone())).collect::<Vec<_>>();
        let mut some: Vec<_> = worlds.iter().flat_map(of).collect();
        // Where something is there already, three do more.
        let worlds: Vec<_> = worlds.into_iter().filter(|world| world.beginning == Beginning::Worked).collect();
        let long = sequences(3).into_iter().enumerate();
        some.extend(long.map(|(number, operations)| Self::of(worlds[number % worlds.len()], operations)));
        some
    }

    fn of(world: World, operations: Vec<Operation>) -> Self {
        Self { world, operations, told: false }
    }

    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    pub(crate) fn on_a_lying_disk(self) -> Self {
        Self { world: World { sync_lies: true, ..self.world }, ..self }
    }

    /// A number that is another for most other cases.
    fn number(&self) -> usize {
        let text = self.to_string();
        text.bytes().fold(0, |number, byte| (number * 31 + usize::from(byte)) % 1009)
    }

    /// Runs it and looks at the steps of its last operation, and at its end.
    fn run(
        &self,
        (beginning, before): &(SimSnapshot, Oracle),
        looker: &Looker<'_>,
        session: &Session<'_>,
        looking: &Cell<bool>,
    ) -> Outcome {
        let disk = self.world.disk(beginning);
        let mut oracle = before.clone();
        let last = self.operations.len().checked_sub(1);
        disk.record_snapshots(last.is_none());
        let opened = open(session, &disk, &mut oracle, self.world.recover)?;
        if last.is_none() {
            let snapshots = disk.take_snapshots();
            looker.look(&snapshots, before, false).map_err(|error| format!("{error}\n  while it was opened"))?;
        }
        let (store, _) = opened.expect("the disk has no limit");
        let mut life = Life::resume(session, disk, store, oracle, Rng::with_seed(self.world.chance), 0);
        for (number, operation) in self.operations.iter().enumerate() {
            if Some(number) == last {
                life.record(true);
                looking.set(true);
            }
            operation.run(&mut life).map_err(|error| format!("{error}\n  in operation {number}, {operation}"))?;
        }
        let (end, oracle) = life.now();
        looker.look(&[end], &oracle, true).map_err(|error| format!("{error}\n  at the end"))?;
        life.record(false);
        Ok(())
    }

    fn look(&self, plan: &Plan, beginning: &(SimSnapshot, Oracle)) -> (Tally, Outcome) {
        let profile = self.world.profile(self.told);
        let looker = Looker::new(&profile, plan, self.number());
        let looking = Cell::new(false);
        let look =
            |snapshots: &[_], oracle: &_| if looking.get() { looker.look(snapshots, oracle, false) } else { Ok(()) };
        let session = Session { look: Some(&look), ..Session::by_chance(&profile) };
        let outcome = caught(|| self.run(beginning, &looker, &session, &looking));
        (looker.tally(), outcome)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.world)?;
        self.operations.iter().try_for_each(|operation| write!(f, " {operation}"))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (world, operations) = text.split_once(':').ok_or_else(|| format!("`{text}` has no colon"))?;
        let operations = operations.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self::of(world.parse()?, operations))
    }
}

/// What came of it.
pub(crate) struct Report {
    cases: usize,
    tally: Tally,
    took: Duration,
    /// The first case in order that broke a promise, and how.
    pub(crate) violation: Option<(Case, String)>,
}

/// Looks at cases until all are done or one breaks a promise.
pub(crate) fn walk(cases: &[Case], plan: &Plan) -> Report {
    let began = Instant::now();
    let mut worlds: Vec<(World, _)> = Vec::new();
    for case in cases {
        if !worlds.iter().any(|(world, _)| *world == case.world) {
            let beginning = case.world.begin().unwrap_or_else(|error| panic!("{}: {error}", case.world));
            worlds.push((case.world, beginning));
        }
    }
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = Mutex::new((Tally::default(), None::<(usize, String)>));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { break };
            let (_, beginning) = worlds.iter().find(|(world, _)| *world == case.world).expect("each has one");
            let (tally, outcome) = case.look(plan, beginning);
            let mut found = found.lock().expect("a panic is caught within the case");
            found.0.add(&tally);
            if let Err(error) = outcome {
                stop.store(true, Ordering::Relaxed);
                if found.1.as_ref().is_none_or(|(first, _)| number < *first) {
                    found.1 = Some((number, error));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (tally, violation) = found.into_inner().expect("the threads are done");
    let violation = violation.map(|(number, error)| (cases[number].clone(), error));
    let cases = next.into_inner().min(cases.len());
    Report { cases, tally, took: began.elapsed(), violation }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (states, seconds) = (self.tally.states(), self.took.as_secs_f64());
        let rate = states as f64 / seconds;
        write!(f, "{states} crash states of {} sequences in {seconds:.1} s ({rate:.0}/s)", self.cases)?;
        for ((_, name), (states, took)) in Kind::ALL.iter().zip(self.tally.0) {
            let rate = states as f64 / took.as_secs_f64().max(1e-9);
            write!(f, "; {states} {name} ({rate:.0}/s a thread)")?;
        }
        Ok(())
    }
}
