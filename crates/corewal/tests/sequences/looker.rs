//! One moment: its images, opened and compared.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use corewal::io::{CrashImage, CrashKind, ImageLimits, SimSnapshot};
use fastrand::Rng;

use crate::engine::{Life, Oracle, Outcome, Profile, Session, compare, open, other, verify};

/// How far moments are looked at. "Each nth" is of all images that one case
/// looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Which images a power cut leaves at the steps of the last operation, and
    /// at its end.
    steps: ImageLimits,
    end: ImageLimits,
    /// Of the steps each nth is looked at.
    each_step: usize,
    /// At most so many images of a step, and of the end: others in each case.
    at_most: [usize; 2],
    /// How many the death of the process leaves.
    deaths: usize,
    /// Each other image is opened in the mode that the case does not work in.
    by_turns: bool,
    /// Of each nth opening every step is crashed.
    within: u64,
    /// Each nth image is opened a second time.
    twice: u64,
    /// In each nth image work goes on, and the power is cut again.
    on: u64,
}

impl Plan {
    /// Some images of each moment.
    pub(crate) const OUTLINE: Self = Self {
        name: "outline",
        steps: ImageLimits::OUTLINE,
        end: ImageLimits::OUTLINE,
        each_step: 16,
        at_most: [3, 12],
        deaths: 1,
        by_turns: true,
        within: 199,
        twice: 16,
        on: 32,
    };

    /// All images of the end of each case, and many of the steps before.
    pub(crate) const FULL: Self = Self {
        name: "full",
        steps: ImageLimits {
            all_subsets: 5,
            random_subsets: 8,
            tear_words: 16,
            garbage: true,
            names: 16,
            combined: 256,
            ..ImageLimits::OUTLINE
        },
        end: ImageLimits::FULL,
        each_step: 1,
        at_most: [usize::MAX; 2],
        deaths: 12,
        by_turns: false,
        within: 64,
        twice: 16,
        on: 32,
    };

    /// All images of each step.
    pub(crate) const DEEP: Self =
        Self { name: "deep", steps: ImageLimits::FULL, deaths: usize::MAX, within: 32, ..Self::FULL };

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::OUTLINE, Self::FULL, Self::DEEP].into_iter().find(|plan| plan.name == name)
    }
}

/// What a look is at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Power,
    Process,
    PowerAfterProcess,
    Within,
    Twice,
    On,
}

impl Kind {
    pub(crate) const ALL: [(Self, &str); 6] = [
        (Self::Power, "power cuts"),
        (Self::Process, "deaths of the process"),
        (Self::PowerAfterProcess, "power cuts after a death"),
        (Self::Within, "crashes within an opening"),
        (Self::Twice, "second openings"),
        (Self::On, "power cuts after work went on"),
    ];
}

/// Crash states by kind, and the time they took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally(pub(crate) [(u64, Duration); Kind::ALL.len()]);

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, (states, took)) in self.0.iter_mut().zip(other.0) {
            *sum = (sum.0 + states, sum.1 + took);
        }
    }

    pub(crate) fn states(&self) -> u64 {
        self.0.iter().map(|(states, _)| states).sum()
    }
}

/// What of an oracle changes while an operation runs.
type Stamp = (Vec<(usize, u64, usize, usize)>, u64, u64);

fn stamp(oracle: &Oracle) -> Stamp {
    let cores = oracle.cores.iter().map(|core| (core.durable, core.durable_lsn, core.points.len(), core.ended.len()));
    (cores.collect(), oracle.complete, oracle.checkpoint)
}

/// Looks at the moments of one case.
pub(crate) struct Looker<'p> {
    session: Session<'p>,
    plan: &'p Plan,
    tally: Cell<Tally>,
    /// Images and steps so far; they begin with the number of the case.
    images: Cell<u64>,
    steps: Cell<usize>,
    /// What was looked at last, and how far. A moment of which a power cut leaves
    /// the same is not looked at again while the same may come back.
    last: RefCell<Option<(SimSnapshot, Stamp, ImageLimits)>>,
}

impl<'p> Looker<'p> {
    pub(crate) fn new(profile: &'p Profile, plan: &'p Plan, case: usize) -> Self {
        let session = Session { look: Some(&|_, _| Ok(())), ..Session::by_chance(profile) };
        Self {
            session,
            plan,
            tally: Cell::default(),
            images: Cell::new(case as u64),
            steps: Cell::new(case),
            last: RefCell::default(),
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// Looks at the steps of an operation, or at the end of a case.
    pub(crate) fn look(&self, snapshots: &[SimSnapshot], oracle: &Oracle, end: bool) -> Outcome {
        let limits = if end { self.plan.end } else { self.plan.steps };
        let stamp = stamp(oracle);
        for snapshot in snapshots {
            let step = self.steps.get();
            self.steps.set(step + 1);
            if !end && !step.is_multiple_of(self.plan.each_step) {
                continue;
            }
            let at = |image: &CrashImage, error| format!("{error}\n  after {image} at step {}", snapshot.step);
            let seen = self.last.borrow().as_ref().is_some_and(|(last, then, far)| {
                *then == stamp && *far == limits && !snapshot.differs_after_power(last)
            });
            if !seen {
                let images = snapshot.images(CrashKind::Power, &limits);
                let apart = images.len().div_ceil(self.plan.at_most[usize::from(end)]);
                for image in images.skip(step % apart).step_by(apart) {
                    self.image(&image, Kind::Power, oracle).map_err(|error| at(&image, error))?;
                }
                *self.last.borrow_mut() = Some((snapshot.clone(), stamp.clone(), limits));
            }
            for image in snapshot.images(CrashKind::Process, &limits).take(self.plan.deaths) {
                self.image(&image, Kind::Process, oracle).map_err(|error| at(&image, error))?;
                self.power_after(&image, oracle).map_err(|error| at(&image, error))?;
            }
        }
        Ok(())
    }

    /// Counts the states that `look` looks at, and its time.
    fn count(&self, kind: Kind, look: impl FnOnce() -> Outcome) -> Outcome {
        let (before, began) = (self.session.counts.get().states, Instant::now());
        let outcome = look();
        let mut tally = self.tally.get();
        let (states, took) = &mut tally.0[kind as usize];
        *states += self.session.counts.get().states - before;
        *took += began.elapsed();
        self.tally.set(tally);
        outcome
    }

    /// Opens an image, and does what is due.
    fn image(&self, image: &CrashImage, kind: Kind, oracle: &Oracle) -> Outcome {
        let number = self.images.get();
        self.images.set(number + 1);
        let turn = |each: u64, of: u64| number % each == of % each;
        let recover = self.session.profile.recover;
        let recover = if self.plan.by_turns && turn(2, 1) { other(recover) } else { recover };
        let disk = image.disk();
        let within = turn(self.plan.within, 0);
        disk.record_snapshots(within);
        let (mut after, mut opened) = (oracle.clone(), None);
        self.count(kind, || {
            opened = open(&self.session, &disk, &mut after, recover)?;
            Ok(())
        })?;
        disk.record_snapshots(false);
        let (store, found) = opened.expect("the disk has no limit");
        if within {
            // What the medium has is so whatever the opening did to it.
            let expected = matches!(kind, Kind::Power).then_some(&found);
            self.count(Kind::Within, || {
                let mut last: Option<SimSnapshot> = None;
                for snapshot in disk.take_snapshots() {
                    let seen = last.as_ref().is_some_and(|last| !snapshot.differs_after_power(last));
                    let images = |kind| snapshot.images(kind, &ImageLimits::OUTLINE);
                    let power = images(CrashKind::Power).take(if seen { 0 } else { 3 });
                    for again in power.chain(images(CrashKind::Process).take(1)) {
                        let outcome = compare(&self.session, &again.disk(), oracle, recover, expected);
                        outcome.map_err(|error| {
                            format!("{error}\n  after {again} at step {} of an open", snapshot.step)
                        })?;
                    }
                    last = Some(snapshot);
                }
                Ok(())
            })?;
        }
        if turn(self.plan.twice, 1) {
            drop(store);
            return self.count(Kind::Twice, || {
                verify(&disk, true)?;
                let again = compare(&self.session, &disk, &after, recover, Some(&found));
                again.map_err(|error| format!("{error}\n  at the second of two opens"))
            });
        }
        if turn(self.plan.on, 2) {
            return self.count(Kind::On, || {
                let rng = Rng::with_seed(number);
                self.go_on(Life::resume(&self.session, disk, store, after, rng, 1), number)
                    .map_err(|error| format!("{error}\n  after work went on"))
            });
        }
        Ok(())
    }

    /// The page cache survived the death of the process and does not survive
    /// what comes then.
    fn power_after(&self, killed: &CrashImage, oracle: &Oracle) -> Outcome {
        self.count(Kind::PowerAfterProcess, || {
            let images = killed.disk().snapshot().images(CrashKind::Power, &ImageLimits::OUTLINE);
            let count = images.len();
            // Nothing of what was not synced is there; and one of the others.
            for image in images.enumerate().filter(|(at, _)| *at == 0 || *at == killed.number() % count) {
                let recover = self.session.profile.recover;
                compare(&self.session, &image.1.disk(), oracle, recover, None)
                    .map_err(|error| format!("{error}\n  and then {}", image.1))?;
            }
            Ok(())
        })
    }

    /// Commits on each core, durably on one, and cuts the power again.
    fn go_on(&self, mut life: Life<'_>, number: u64) -> Outcome {
        let cores = life.cores();
        let synced = number as usize % cores;
        for core in 0..cores {
            life.append(core, 40)?;
        }
        life.sync(synced)?;
        let (now, oracle) = life.now();
        for image in now.images(CrashKind::Power, &ImageLimits::OUTLINE).take(4) {
            let recover = self.session.profile.recover;
            compare(&self.session, &image.disk(), &oracle, recover, None)
                .map_err(|error| format!("{error}\n  and {image}"))?;
        }
        Ok(())
    }
}
