//! `corewal-power`: power cuts under a real kernel.
//!
//! A virtual machine writes a store to a disk whose every write and flush QEMU
//! records, together with what the store acknowledges. The record is then cut
//! wherever the power could have gone: what a completed flush covers is on the
//! disk, and of the rest any part. Each such image is mounted, its store opened,
//! compared with what was acknowledged, written to and opened again.

mod campaign;
mod cut;
mod disk;
mod guest;
mod initramfs;
mod judge;
mod log;
mod marker;
mod mounted;
mod oracle;
mod vm;
mod workload;

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::campaign::{Campaign, Fault, Kit, Record, Tally};
use crate::cut::windows;
use crate::disk::Image;
use crate::initramfs::Kernel;
use crate::judge::{Cut, Judge};
use crate::mounted::Kind;
use crate::vm::Accelerator;

/// Power cuts under a real kernel
#[derive(Debug, Parser)]
enum Args {
    /// Records lives of a guest and looks at images of cuts
    Run {
        /// The file systems, at the same time
        #[arg(long, value_delimiter = ',', default_value = "ext4,xfs,btrfs")]
        file_systems: Vec<Kind>,
        /// How many images of each
        #[arg(long, default_value_t = 4000)]
        images: u64,
        /// What is random but for the guest's timing
        #[arg(long)]
        seed: Option<u64>,
        /// Where a kernel's package was unpacked
        #[arg(long)]
        kernel: PathBuf,
        /// What runs the guest; found out unless told
        #[arg(long)]
        accelerator: Option<Accelerator>,
        /// A directory to work in; in memory, best
        #[arg(long)]
        work: PathBuf,
        /// Where a life goes in which a promise was broken
        #[arg(long, default_value = "power-cuts-kept")]
        keep: PathBuf,
        /// Plants a fault, which must be found
        #[arg(long)]
        fault: Option<Fault>,
    },
    /// Looks again at a cut that broke a promise
    Again {
        /// What was kept of the life
        kept: PathBuf,
        /// The window
        window: usize,
        /// The seed
        seed: u64,
        /// A directory to work in
        #[arg(long)]
        work: PathBuf,
    },
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::run();
    }
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    match args {
        Args::Run { file_systems, images, seed, kernel, accelerator, work, keep, fault } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            let kernel = Kernel::find(&kernel)?;
            std::fs::create_dir_all(&work)?;
            let accelerator = accelerator.map_or_else(|| campaign::accelerator(&kernel, &work), Ok)?;
            let campaigns = file_systems.iter().map(|kind| {
                let (kernel, work, keep) = (kernel.clone(), work.join(kind.name()), keep.clone());
                Campaign { kind: *kind, images, seed, kernel, accelerator, work, keep, fault }
            });
            side_by_side(&campaigns.collect::<Vec<_>>())
        }
        Args::Again { kept, window, seed, work } => again(&kept, window, seed, work),
    }
}

/// Runs campaigns at the same time: most of it is waiting.
fn side_by_side(campaigns: &[Campaign]) -> Result<ExitCode> {
    let ended: Vec<Result<bool>> = thread::scope(|scope| {
        let run = |campaign: &Campaign| {
            std::fs::create_dir_all(&campaign.work)?;
            let tally = campaign.run().with_context(|| format!("{}, seed {}", campaign.kind.name(), campaign.seed));
            // Now: others may go on for long.
            let tally = tally.inspect_err(|error| eprintln!("error: {error:#}"))?;
            print(campaign, &tally);
            Ok(tally.violations.is_empty() == campaign.fault.is_none())
        };
        let threads: Vec<_> = campaigns.iter().map(|campaign| scope.spawn(move || run(campaign))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let as_it_should: Vec<bool> = ended.into_iter().collect::<Result<_>>()?;
    Ok(ExitCode::from(u8::from(as_it_should.contains(&false))))
}

fn print(campaign: &Campaign, tally: &Tally) {
    let Tally { lives, stores, images, exact, flushes, writes, acknowledgements, .. } = tally;
    let kept: Vec<_> = tally.kept.iter().map(|(kept, count)| format!("{kept:?} {count}")).collect();
    let ways: Vec<_> = tally.ways.iter().cloned().collect();
    let mut text = format!(
        "{}{}: {images} images of {lives} lives of {stores} stores, {} violations, {:.0} s\n",
        campaign.kind.name(),
        campaign.fault.map_or(String::new(), |fault| format!(" with a fault planted ({fault:?})")),
        tally.violations.len(),
        tally.time.as_secs_f64(),
    );
    text += &format!("  recorded: {writes} writes, {flushes} flushes, {acknowledgements} acknowledgements\n");
    text += &format!("  kept of what was not flushed: {}\n", kept.join(", "));
    text += &format!("  {exact} images came back at exactly what was acknowledged\n");
    text += &format!("  writes: {}\n", ways.join("; "));
    text += &format!("  seed {}, kernel {} by {:?}\n", campaign.seed, campaign.kernel.version, campaign.accelerator);
    for violation in &tally.violations {
        text += &format!("  broken: {violation}\n");
    }
    // At once: others print as well.
    print!("{text}");
}

fn again(kept: &Path, window: usize, seed: u64, work: PathBuf) -> Result<ExitCode> {
    let kit: Kit = serde_json::from_slice(&std::fs::read(kept.join("kit.json")).context("nothing was kept there")?)?;
    let limit = kit.kind.bytes();
    let record = Record::open(&kept.join("log"), kit)?;
    let windows = windows(&record.log.entries);
    ensure!(window < windows.len(), "it has {} windows", windows.len());
    let cut = Cut::draw(&record, &windows, window, seed, limit).context("this seed makes no cut there")?;
    println!("{cut:#?}");
    std::fs::create_dir_all(&work)?;
    let durable = Image::copy_of(&kept.join("base.img"), &work.join("durable.img"), limit)?;
    match Judge::at(work, &record, durable)?.look(&cut, false)? {
        Ok(seen) => println!("no promise is broken: {seen:?}"),
        Err(violation) => {
            println!("broken: {violation}");
            return Ok(ExitCode::from(1));
        }
    }
    Ok(ExitCode::SUCCESS)
}
