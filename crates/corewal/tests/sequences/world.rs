//! Where a sequence begins: the disk, the mode, and what is there.

use std::fmt;
use std::str::FromStr;

use corewal::Recover;
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use fastrand::Rng;

use crate::engine::{Life, Oracle, Outcome, Profile, Session, open};
use crate::operation::{CORES, SEGMENT_BYTES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// There is no store yet.
    Fresh,
    /// There are checkpoints, released and recycled segments, and a complete
    /// epoch behind the newest checkpoint.
    Worked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) beginning: Beginning,
    /// Whether each write carries its own sync.
    pub(crate) direct: bool,
    pub(crate) recover: Recover,
    /// Decides the order of completions.
    pub(crate) chance: u64,
    pub(crate) sync_lies: bool,
}

impl World {
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for beginning in [Beginning::Fresh, Beginning::Worked] {
            for direct in [false, true] {
                for recover in [Recover::CompleteEpoch, Recover::Latest] {
                    all.push(Self { beginning, direct, recover, chance: 0, sync_lies: false });
                }
            }
        }
        all
    }

    pub(crate) fn profile(&self, verbose: bool) -> Profile {
        let profile = Profile::directed(self.direct, self.recover, self.chance);
        let disk = corewal::io::SimOptions { sync_lies: self.sync_lies, ..profile.disk };
        Profile { disk, verbose, ..profile }
    }

    /// The disk that a sequence begins on, and what may come back of it.
    pub(crate) fn begin(&self) -> Outcome<(SimSnapshot, Oracle)> {
        let profile = self.profile(false);
        let (disk, mut oracle) = (profile.new_disk(), Oracle::new(profile.cores));
        if self.beginning == Beginning::Fresh {
            return Ok((disk.snapshot(), oracle));
        }
        let session = Session { look: Some(&|_, _| Ok(())), ..Session::by_chance(&profile) };
        let (store, _) = open(&session, &disk, &mut oracle, self.recover)?.expect("the disk has no limit");
        let mut life = Life::resume(&session, disk, store, oracle, Rng::with_seed(self.chance), 0);
        for round in 0..3 {
            for core in 0..CORES {
                life.append(core, 300)?;
                life.rotate(core, SEGMENT_BYTES)?;
            }
            life.close_epoch()?;
            (0..CORES).try_for_each(|core| life.sync(core))?;
            if round < 2 {
                life.make_checkpoint()?;
                (0..CORES).try_for_each(|core| life.release(core))?;
            }
        }
        let (snapshot, oracle) = life.now();
        let killed = snapshot.crash(CrashKind::Process, self.chance);
        Ok((killed.snapshot(), oracle))
    }

    /// A new disk of it.
    pub(crate) fn disk(&self, beginning: &SimSnapshot) -> SimStorage {
        beginning.crash(CrashKind::Process, self.chance)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beginning = match self.beginning {
            Beginning::Fresh => "fresh",
            Beginning::Worked => "worked",
        };
        let path = if self.direct { "direct" } else { "buffered" };
        let recover = match self.recover {
            Recover::CompleteEpoch => "complete",
            Recover::Latest => "latest",
        };
        write!(f, "{beginning} {path} {recover} {}", self.chance)?;
        if self.sync_lies { write!(f, " lying") } else { Ok(()) }
    }
}

impl FromStr for World {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not like `worked direct latest 0`");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [beginning, path, recover, chance, rest @ ..] = &words[..] else {
            return Err(wrong());
        };
        let chance = chance.parse().map_err(|_| wrong())?;
        let named = |world: &Self| world.to_string() == format!("{beginning} {path} {recover} 0");
        let world = Self::all().into_iter().find(named).ok_or_else(wrong)?;
        Ok(Self { chance, sync_lies: *rest == ["lying"], ..world })
    }
}
