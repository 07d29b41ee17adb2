//! What runs in the virtual machine, as its first and only process: mounts the
//! disk, opens the store, writes, and acknowledges until the power goes.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use corewal::{Epoch, Keyed, Lsn, Opened, PlantedBug, Shard, Store};
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

use crate::marker::{Marker, PLACE};
use crate::workload::{SOURCE, Way, Workload, options};

/// Where the archive that the machine starts with has the orders.
pub(crate) const ORDERS: &str = "orders.json";
/// Where it has the kernel's modules; their names are in the order of loading.
pub(crate) const MODULES: &str = "modules";
/// What each line on the console begins with.
pub(crate) const SAYS: &str = "guest: ";

/// What it says when a fault that was planted has stopped it.
pub(crate) const STOPPED: &str = "stopped";

const DISK: &str = "/dev/vda";
const MOUNTED: &str = "/disk";
/// Where the store is in the file system.
pub(crate) const STORE: &str = "store";

/// A core may be so many epochs ahead of the slowest.
const LEAD: u64 = 6;
const PAUSE: Duration = Duration::from_micros(100);

/// What the guest is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The file system.
    pub(crate) file_system: String,
    /// Bytes of it; acknowledgements go behind.
    pub(crate) file_system_bytes: u64,
    /// The workload.
    pub(crate) workload: Workload,
    /// Cores of the store.
    pub(crate) cores: u16,
    /// How it writes.
    pub(crate) way: Way,
    /// Which time it is.
    pub(crate) life: u64,
    /// Whether it acknowledges before a sync has completed.
    pub(crate) early: bool,
}

/// Works until it is stopped. What goes wrong is said on the console.
pub(crate) fn run() -> ! {
    match catch_unwind(work) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => println!("{SAYS}failed {error:#}"),
        Err(_) => println!("{SAYS}failed in a panic"),
    }
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn work() -> Result<()> {
    println!("{SAYS}up");
    for (kind, place) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, place, kind, MountFlags::empty(), None).with_context(|| format!("can't mount {place}"))?;
    }
    let orders: Orders = serde_json::from_slice(&fs::read(format!("/{ORDERS}"))?)?;
    load_modules()?;
    while !fs::exists(DISK)? {
        thread::sleep(Duration::from_millis(2));
    }
    mount(DISK, MOUNTED, orders.file_system.as_str(), MountFlags::empty(), None).context("can't mount the disk")?;
    write(&orders)
}

fn load_modules() -> Result<()> {
    let mut modules: Vec<_> = fs::read_dir(format!("/{MODULES}"))?.collect::<std::io::Result<_>>()?;
    modules.sort_by_key(fs::DirEntry::file_name);
    for module in modules {
        let loaded = rustix::system::finit_module(&File::open(module.path())?, c"", 0);
        // One that is for another processor is done without.
        if let Err(error) = loaded
            && error != rustix::io::Errno::NODEV
        {
            return Err(error).with_context(|| format!("can't load {}", module.path().display()));
        }
    }
    Ok(())
}

fn write(orders: &Orders) -> Result<()> {
    let board = Arc::new(Board::new(orders)?);
    let mut options = options(orders.cores);
    if orders.early {
        options = options.plant(PlantedBug::SyncAcknowledgedEarly);
    }
    let dir = format!("{MOUNTED}/{STORE}");
    let Opened { store, shards, report } = options.open_on(orders.way.storage(), dir, |_| Keyed::default())?;
    let done = shards[0].offset_u64(SOURCE).unwrap_or(0);
    let first = store.next_epoch();
    let epoch = report.complete_epoch.get();
    board.say(Marker { life: orders.life, core: None, epoch, operations: done, first: first.get() })?;
    println!("{SAYS}open {}", report.write_path);

    let cores: Vec<_> = shards
        .into_iter()
        .map(|shard| {
            let core = Core {
                workload: orders.workload,
                life: orders.life,
                store: store.clone(),
                board: Arc::clone(&board),
                pending: VecDeque::new(),
                said: (epoch, done),
                random: fastrand::Rng::new(),
                shard,
            };
            thread::spawn(move || core.work(first, done))
        })
        .collect();
    while !cores.iter().any(thread::JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(50));
        println!("{SAYS}said {}", board.said.load(Ordering::Relaxed));
    }
    for core in cores.into_iter().filter(thread::JoinHandle::is_finished) {
        match core.join() {
            Ok(ended) => ended?,
            // The engine asserts what the planted fault breaks.
            Err(_) if orders.early => println!("{SAYS}{STOPPED}"),
            Err(_) => bail!("a core panicked"),
        }
    }
    Ok(())
}

/// The part of the disk that acknowledgements go to.
struct Board {
    disk: File,
    from: u64,
    pages: Vec<Mutex<Box<Page>>>,
    said: AtomicU64,
}

/// Writes past the page cache come from aligned memory.
#[repr(align(4096))]
struct Page([u8; PLACE]);

impl Board {
    fn new(orders: &Orders) -> Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let disk = OpenOptions::new().write(true).custom_flags(direct).open(DISK)?;
        let pages = (0..=orders.cores).map(|_| Mutex::new(Box::new(Page([0; PLACE])))).collect();
        Ok(Self { disk, from: orders.file_system_bytes, pages, said: AtomicU64::new(0) })
    }

    /// Returns when the disk has it.
    fn say(&self, marker: Marker) -> Result<()> {
        let page = &self.pages[marker.core.map_or(0, |core| usize::from(core) + 1)];
        let mut page = page.lock().expect("nobody panics with it");
        marker.encode(&mut page.0);
        self.disk.write_all_at(&page.0, self.from + marker.place()).context("can't acknowledge")?;
        self.said.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// One core and its part of the workload.
struct Core {
    shard: Shard,
    store: Store,
    workload: Workload,
    life: u64,
    board: Arc<Board>,
    /// Commits that are not known to be durable: their ends, and operations.
    pending: VecDeque<(Lsn, u64)>,
    /// The newest epoch and operations that were acknowledged.
    said: (u64, u64),
    /// How a core syncs may differ each time; what it writes may not.
    random: fastrand::Rng,
}

impl Core {
    fn work(mut self, first: Epoch, done: u64) -> Result<()> {
        let mut epoch = first;
        for n in done.. {
            let operation = self.workload.operation(n, self.life);
            if self.store.route(&operation.key) == self.shard.core() {
                match &operation.value {
                    Some(value) => self.shard.put(&operation.key, value)?,
                    None => self.shard.delete(&operation.key)?,
                }
            }
            if !self.workload.commits(n + 1) {
                continue;
            }
            let end = self.shard.commit(&self.workload.commit(n + 1))?;
            self.pending.push_back((end, n + 1));
            if self.workload.ends_epoch(n + 1) {
                self.shard.end_epoch(epoch)?;
                epoch = epoch.next();
            }
            match self.random.u8(0..8) {
                0..=2 => self.shard.sync().map(drop),
                3 => self.shard.request_sync(),
                // Written first, and synced later by a call of its own.
                4 => self.shard.submit(),
                _ => self.shard.poll().map(drop),
            }?;
            self.acknowledge()?;
            while epoch.get() > self.store.complete_epoch().get() + LEAD {
                self.shard.sync()?;
                self.acknowledge()?;
                thread::sleep(PAUSE);
            }
        }
        unreachable!("nobody does so many operations")
    }

    fn acknowledge(&mut self) -> Result<()> {
        let durable = self.shard.log().durable_lsn();
        let (mut epoch, mut operations) = self.said;
        while let Some((_, done)) = self.pending.pop_front_if(|(end, _)| *end <= durable) {
            operations = done;
        }
        epoch = epoch.max(self.store.complete_epoch().get());
        if (epoch, operations) == self.said {
            return Ok(());
        }
        self.said = (epoch, operations);
        let core = Some(self.shard.core().0);
        self.board.say(Marker { life: self.life, core, epoch, operations, first: 0 })
    }
}
