//! Cut after cut: the guest lives, its record is cut in many places, and it
//! begins again from one of the images.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cut::{Kept, Piece, Window, windows};
use crate::disk::Image;
use crate::guest::Orders;
use crate::initramfs::{self, Kernel};
use crate::judge::{Cut, Judge};
use crate::log::{SECTOR, WriteLog};
use crate::marker::{AREA, Acknowledged, Marker};
use crate::mounted::Kind;
use crate::oracle::{Found, History, Life, Violation, broken};
use crate::vm::{Accelerator, Files, Machine};
use crate::workload::{Way, Workload};

/// Images of one life, at most.
const A_LIFE: u64 = 320;
/// Images of one window, at most.
const A_WINDOW: usize = 4;
/// Lives of one store.
const LIVES: u64 = 5;
const CORES: u16 = 2;
/// A life ends with so many acknowledgements, or after so long.
const ENOUGH: u64 = 1500;
const LONG: Duration = Duration::from_secs(15);

/// Broken promises to stop at: a planted fault is found by the first.
fn enough_broken(fault: Option<Fault>) -> usize {
    if fault.is_some() { 1 } else { 10 }
}

/// A fault that must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// The store acknowledges before a sync has completed.
    Early,
    /// The disk forgets what the last three flushes had covered.
    Forgetful,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    /// On which file system.
    pub(crate) kind: Kind,
    /// How many images.
    pub(crate) images: u64,
    /// Chooses everything that the guest's timing does not.
    pub(crate) seed: u64,
    /// The guest's kernel.
    pub(crate) kernel: Kernel,
    /// What runs it.
    pub(crate) accelerator: Accelerator,
    /// A directory to work in.
    pub(crate) work: PathBuf,
    /// Where a life goes in which a promise was broken.
    pub(crate) keep: PathBuf,
    /// What is planted.
    pub(crate) fault: Option<Fault>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) lives: u64,
    pub(crate) stores: u64,
    pub(crate) images: u64,
    /// By how it was chosen what was kept.
    pub(crate) kept: BTreeMap<Kept, u64>,
    /// Images that came back at exactly what was acknowledged.
    pub(crate) exact: u64,
    /// Flushes recorded.
    pub(crate) flushes: u64,
    /// Writes recorded.
    pub(crate) writes: u64,
    pub(crate) acknowledgements: u64,
    pub(crate) ways: BTreeSet<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) time: Duration,
}

/// All that it takes to look at a cut of a life again, beside its record and
/// the image it began from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kit {
    pub(crate) kind: Kind,
    pub(crate) life: Life,
    pub(crate) fault: Option<Fault>,
}

/// Where the next life begins.
struct Start {
    epoch: u64,
    done: u64,
    before: History,
    workload: Workload,
    /// The lives of this store so far.
    lives: u64,
}

impl Campaign {
    /// Does it, until enough images have been looked at or too much is broken.
    pub(crate) fn run(&self) -> Result<Tally> {
        let began = Instant::now();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut tally = Tally::default();
        let mut next = None;
        while tally.images < self.images && tally.violations.len() < enough_broken(self.fault) {
            let start = match next.take() {
                Some(start) => {
                    fs::rename(self.work.join("next.img"), self.work.join("base.img"))?;
                    start
                }
                None => self.fresh(&mut random, &mut tally)?,
            };
            tally.lives += 1;
            let number = tally.lives;
            let life = match self.live(&start, number, &mut tally) {
                Ok(life) => life,
                // What a planted fault has left may not open, nor the engine go on with it.
                Err(_) if self.fault == Some(Fault::Early) && tally.lives < LIVES => continue,
                Err(error) => return Err(error),
            };
            let record = Record::read(self, life)?;
            tally.flushes += record.log.entries.iter().filter(|entry| entry.flushes()).count() as u64;
            tally.writes += record.log.entries.iter().filter(|entry| entry.sectors > 0).count() as u64;
            tally.acknowledgements += record.markers.len() as u64;
            let found = self.look(&record, &mut random, &mut tally)?;
            let (name, images, broken) = (self.kind.name(), tally.images, tally.violations.len());
            eprintln!("{name}: {images} images of {number} lives, {broken} violations");
            next = found.filter(|_| start.lives + 1 < LIVES).map(|found| Start {
                epoch: found.epoch,
                done: found.operations[0],
                before: record.kit.life.before.then(record.kit.life.done, number),
                workload: start.workload,
                lives: start.lives + 1,
            });
        }
        tally.time = began.elapsed();
        Ok(tally)
    }

    /// An empty file system.
    fn fresh(&self, random: &mut fastrand::Rng, tally: &mut Tally) -> Result<Start> {
        tally.stores += 1;
        self.kind.make(&self.work.join("base.img"))?;
        let workload = Workload { seed: random.u64(..) };
        Ok(Start { epoch: 0, done: 0, before: History::default(), workload, lives: 0 })
    }

    /// Lets the guest live, and takes the power away.
    fn live(&self, start: &Start, number: u64, tally: &mut Tally) -> Result<Life> {
        // Early acknowledgements are of syncs of their own, which the page cache needs.
        let way = match self.fault {
            Some(Fault::Early) => Way::UringBuffered,
            _ => Way::ALL[usize::try_from(number - 1)? % Way::ALL.len()],
        };
        let orders = Orders {
            file_system: self.kind.name().to_owned(),
            file_system_bytes: self.kind.bytes(),
            workload: start.workload,
            cores: CORES,
            way,
            life: number,
            early: self.fault == Some(Fault::Early),
        };
        let file = |name: &str| self.work.join(name);
        let (initramfs, disk, log, control) = (file("initramfs"), file("disk.img"), file("log"), file("control"));
        let files = Files { initramfs: &initramfs, disk: &disk, log: &log, control: &control };
        initramfs::write(&initramfs, &self.kernel, &orders)?;
        self.plug_in(&disk)?;
        let mut machine = Machine::boot(&self.kernel, self.accelerator, files)?;
        let how = machine.wait_for_open()?;
        tally.ways.insert(how);
        machine.wait_for_acknowledgements(ENOUGH, LONG)?;
        machine.cut()?;
        Ok(Life {
            number,
            workload: start.workload,
            cores: CORES,
            epoch: start.epoch,
            done: start.done,
            first: None,
            before: start.before.clone(),
        })
    }

    /// Makes the guest's disk: the image that its life begins with, and place
    /// for acknowledgements.
    fn plug_in(&self, disk: &Path) -> Result<()> {
        drop(Image::copy_of(&self.work.join("base.img"), disk, self.kind.bytes())?);
        Ok(fs::File::options().write(true).open(disk)?.set_len(self.kind.bytes() + AREA)?)
    }

    /// Looks at many cuts of a life. Gives what was found at the one whose image
    /// `next.img` is, for the next life to begin with.
    fn look(&self, record: &Record, random: &mut fastrand::Rng, tally: &mut Tally) -> Result<Option<Found>> {
        let limit = self.kind.bytes();
        let windows = windows(&record.log.entries);
        if let Err(violation) = record.check_opening() {
            self.broken(record, tally, violation, 0, 0)?;
        }
        let wanted = A_LIFE.min(self.images - tally.images);
        let chosen = choose_windows(record, &windows, limit, usize::try_from(wanted)?, random);
        let durable = Image::copy_of(&self.work.join("base.img"), &self.work.join("durable.img"), limit)?;
        let mut judge = Judge::new(self, record, durable)?;
        let mut different = HashSet::new();
        let (mut last, mut next) = (tally.images + wanted, None);
        for at in chosen {
            for _ in 0..A_WINDOW {
                if tally.images >= last {
                    break;
                }
                let seed = random.u64(..);
                let Some(cut) = Cut::draw(record, &windows, at, seed, limit) else { continue };
                if !different.insert((at, cut.pieces.clone())) {
                    continue;
                }
                // A late one, for the next life to begin with.
                let keep = next.is_none() && cut.window.end * 4 > record.log.entries.len() * 3 && cut.knows_opening;
                let verdict = judge.look(&cut, keep)?;
                tally.images += 1;
                *tally.kept.entry(cut.kept).or_default() += 1;
                match verdict {
                    Ok(seen) => {
                        tally.exact += u64::from(seen.exact);
                        next = next.or(seen.next);
                    }
                    Err(violation) => {
                        self.broken(record, tally, violation, at, seed)?;
                        last = if tally.violations.len() < enough_broken(self.fault) { last } else { 0 };
                    }
                }
            }
        }
        Ok(next)
    }

    /// Keeps what shows a broken promise.
    fn broken(&self, record: &Record, tally: &mut Tally, violation: Violation, window: usize, seed: u64) -> Result<()> {
        // A planted fault is found by what it loses, and by nothing else.
        if self.fault.is_some() && violation.promise != "durable" {
            return Ok(());
        }
        let dir = self.keep.join(format!("{}-{}-{}", self.kind.name(), self.seed, record.kit.life.number));
        if self.fault.is_none() && !dir.exists() {
            fs::create_dir_all(&dir)?;
            for name in ["base.img", "log"] {
                fs::copy(self.work.join(name), dir.join(name))?;
            }
            fs::write(dir.join("kit.json"), serde_json::to_vec(&record.kit)?)?;
        }
        tally.violations.push(format!("{violation} (again {} {window} {seed})", dir.display()));
        Ok(())
    }
}

/// Windows to cut in, in order: from all over the record, and a fourth of them
/// from its beginning, where the file system and the store are opened.
fn choose_windows(
    record: &Record,
    windows: &[Window],
    limit: u64,
    images: usize,
    random: &mut fastrand::Rng,
) -> BTreeSet<usize> {
    let candidates: Vec<_> =
        (0..windows.len()).filter(|at| !windows[*at].pending(&record.log.entries, limit).is_empty()).collect();
    let opening = record.markers.first().map_or(0, |(at, _)| *at);
    let early = candidates.partition_point(|at| windows[*at].durable <= opening) + 30;
    // Windows with one write have less than others to choose from.
    let wanted = (images * 2 / 3).clamp(4, candidates.len());
    let mut chosen = BTreeSet::new();
    for n in 0..wanted {
        let among = if n % 4 == 0 { early.min(candidates.len()) } else { candidates.len() };
        chosen.insert(candidates[random.usize(0..among)]);
    }
    chosen
}

/// A life and its record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kit: Kit,
    pub(crate) log: WriteLog,
    /// Acknowledgements, with where they stand.
    pub(crate) markers: Vec<(usize, Marker)>,
}

impl Record {
    fn read(campaign: &Campaign, life: Life) -> Result<Self> {
        let kit = Kit { kind: campaign.kind, life, fault: campaign.fault };
        let record = Self::open(&campaign.work.join("log"), kit)?;
        // What the record says must be what the disk became.
        let limit = campaign.kind.bytes();
        let whole = campaign.work.join("whole.img");
        let image = Image::copy_of(&campaign.work.join("base.img"), &whole, limit)?;
        for (at, entry) in record.log.entries.iter().enumerate() {
            if entry.offset() < limit {
                image.apply_whole(&record.log, at)?;
            }
        }
        ensure!(image.equals(&campaign.work.join("disk.img"))?, "the record does not lead to the disk it is of");
        fs::remove_file(whole)?;
        Ok(record)
    }

    /// Reads one.
    pub(crate) fn open(log: &Path, mut kit: Kit) -> Result<Self> {
        let limit = kit.kind.bytes();
        let log = WriteLog::open(log, limit + AREA)?;
        let mut markers = Vec::new();
        for (at, entry) in log.entries.iter().enumerate() {
            if entry.sectors > 0 && entry.offset() >= limit {
                ensure!(entry.offset() / SECTOR == entry.sector, "acknowledgements are whole");
                let marker = Marker::decode(&log.read(entry, 0, 1)?).context("an acknowledgement that is none")?;
                ensure!(marker.life == kit.life.number, "an acknowledgement of another life: {marker:?}");
                markers.push((at, marker));
            }
        }
        let (_, opening) = markers.first().context("the guest acknowledged nothing")?;
        ensure!(opening.core.is_none(), "the first acknowledgement is of the opening: {opening:?}");
        kit.life.first = Some(opening.first);
        Ok(Self { kit, log, markers })
    }

    /// The guest must have found what the host had found in the same image.
    fn check_opening(&self) -> Result<(), Violation> {
        let (Life { epoch, done, .. }, (_, opening)) = (&self.kit.life, &self.markers[0]);
        if (opening.epoch, opening.operations) != (*epoch, *done) {
            let found = format!("epoch {} at {}", opening.epoch, opening.operations);
            return broken("opens twice alike", format!("the host found epoch {epoch} at {done}, the guest {found}"));
        }
        Ok(())
    }

    /// What was acknowledged before an entry.
    pub(crate) fn acknowledged(&self, before: usize) -> Acknowledged {
        let life = &self.kit.life;
        let mut known = Acknowledged::before(life.epoch, life.done, life.cores);
        self.markers.iter().take_while(|(at, _)| *at < before).for_each(|(_, marker)| known.hear(marker));
        known
    }
}

/// What runs guests here.
pub(crate) fn accelerator(kernel: &Kernel, work: &Path) -> Result<Accelerator> {
    let file = |name: &str| work.join(name);
    let (initramfs, disk, log, control) = (file("initramfs"), file("disk.img"), file("log"), file("control"));
    // It gets no further than saying that it is there.
    let orders = Orders {
        file_system: Kind::Ext4.name().to_owned(),
        file_system_bytes: 0,
        workload: Workload { seed: 0 },
        cores: CORES,
        way: Way::Uring,
        life: 0,
        early: false,
    };
    initramfs::write(&initramfs, kernel, &orders)?;
    fs::File::create(&disk)?.set_len(AREA)?;
    Accelerator::find(kernel, Files { initramfs: &initramfs, disk: &disk, log: &log, control: &control })
}

/// The pieces of a cut, for what is applied.
pub(crate) fn whole(entries: &[crate::log::Entry], at: usize) -> Piece {
    Piece { entry: at, sectors: 0..entries[at].sectors }
}
