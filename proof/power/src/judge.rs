//! One cut: its image is made, mounted, and its store opened and compared.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use corewal::{Keyed, Opened, Recover};

use crate::campaign::{Campaign, Fault, Record, whole};
use crate::cut::{Kept, Piece, Window, choose};
use crate::disk::Image;
use crate::guest::STORE;
use crate::marker::Acknowledged;
use crate::mounted::Mounted;
use crate::oracle::{Checked, Found, broken};
use crate::workload::{Way, options};

/// The life that goes on with an image; greater than that of any guest.
const AFTERWARDS: u64 = 1 << 32;

/// A cut.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// When.
    pub(crate) window: Window,
    /// How it was chosen what is on the disk besides.
    pub(crate) kept: Kept,
    /// What that is.
    pub(crate) pieces: Vec<Piece>,
    /// Whether the guest had said that the store is open.
    pub(crate) knows_opening: bool,
    known: Acknowledged,
    recover: Recover,
    way: Way,
}

impl Cut {
    /// The cut that a seed makes in a window; `None` if another window has it.
    pub(crate) fn draw(record: &Record, windows: &[Window], at: usize, seed: u64, limit: u64) -> Option<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let window = windows[at];
        let entries = &record.log.entries;
        let recover = if random.u8(0..3) == 0 { Recover::Latest } else { Recover::CompleteEpoch };
        let way = Way::ALL[random.usize(0..Way::ALL.len())];
        let known = record.acknowledged(window.end);
        let knows_opening = known.opened;
        if record.kit.fault == Some(Fault::Forgetful) {
            let window = Window { durable: windows[at.saturating_sub(3)].durable, ..window };
            return Some(Self { window, kept: Kept::Nothing, pieces: Vec::new(), knows_opening, known, recover, way });
        }
        let (kept, mut pieces) = choose(entries, &window.pending(entries, limit), &mut random)?;
        pieces.extend(window.forced(entries, limit).map(|at| whole(entries, at)));
        pieces.sort_by_key(|piece| (piece.entry, piece.sectors.start));
        Some(Self { window, kept, pieces, knows_opening, known, recover, way })
    }
}

/// What was seen of a cut that broke nothing.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Whether it came back at exactly what was acknowledged.
    pub(crate) exact: bool,
    /// What was found, if its image was kept for the next life.
    pub(crate) next: Option<Found>,
}

/// Looks at the cuts of a life, in the order of their windows.
#[derive(Debug)]
pub(crate) struct Judge<'r> {
    record: &'r Record,
    work: PathBuf,
    place: PathBuf,
    /// What is durable before the entry `reached`.
    durable: Image,
    reached: usize,
    limit: u64,
}

impl<'r> Judge<'r> {
    /// Begins with the image that the life began with.
    pub(crate) fn new(campaign: &Campaign, record: &'r Record, durable: Image) -> Result<Self> {
        Self::at(campaign.work.clone(), record, durable)
    }

    /// The same, in a directory.
    pub(crate) fn at(work: PathBuf, record: &'r Record, durable: Image) -> Result<Self> {
        let place = work.join("mounted");
        fs::create_dir_all(&place)?;
        Ok(Self { record, work, place, durable, reached: 0, limit: record.kit.kind.bytes() })
    }

    /// Looks at one. The image stays in `next.img` if it is wanted and good.
    pub(crate) fn look(&mut self, cut: &Cut, keep: bool) -> Result<Checked<Seen>> {
        self.reach(cut.window.durable)?;
        let path = self.work.join("cut.img");
        let image = self.durable.copy(&path)?;
        for piece in &cut.pieces {
            image.apply(&self.record.log, piece)?;
        }
        let keep = keep && cut.recover == Recover::CompleteEpoch;
        let kept = self.work.join("next.img");
        if keep {
            drop(image.copy(&kept)?);
        }
        drop(image);
        let mounted = match Mounted::new(&path, &self.place) {
            Ok(mounted) => mounted,
            Err(error) => return Ok(broken("mounts", format!("{error:#}"))),
        };
        let found = self.open_and_go_on(cut);
        mounted.unmount()?;
        Ok(found.map(|found| {
            let known = &cut.known;
            let exact = match cut.recover {
                Recover::CompleteEpoch => found.epoch == known.epoch,
                Recover::Latest => found.operations == known.operations,
            };
            Seen { exact, next: keep.then_some(found) }
        }))
    }

    /// Brings what is durable up to an entry.
    fn reach(&mut self, entry: usize) -> Result<()> {
        assert!(entry >= self.reached, "cuts come in order");
        for at in self.reached..entry {
            if self.record.log.entries[at].offset() < self.limit {
                self.durable.apply_whole(&self.record.log, at)?;
            }
        }
        self.reached = entry;
        Ok(())
    }

    fn open_and_go_on(&self, cut: &Cut) -> Checked<Found> {
        let life = &self.record.kit.life;
        let open = |recover: Recover| -> Checked<Opened> {
            let options = options(life.cores).recover(recover);
            let opened = options.open_on(cut.way.storage(), self.place.join(STORE), |_| Keyed::default());
            opened.or_else(|error| broken("opens", format!("{recover:?}: {error}")))
        };
        let mut opened = open(cut.recover)?;
        let found = life.check(&mut opened, cut.recover, &cut.known)?;
        let further = life.go_on(opened, &found, AFTERWARDS);
        let further = further.or_else(|error| broken("goes on", error))?;
        life.check_again(&mut open(Recover::CompleteEpoch)?, &further)?;
        Ok(found)
    }
}
