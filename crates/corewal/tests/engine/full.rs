//! A full disk: what appending says, that nothing acknowledged is lost, and that
//! work goes on once there is space, without opening again. On the simulated
//! disk, and on a real small file system where one can be mounted.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corewal::io::{CrashKind, Fault, FaultKind, FileStorage, OperationKind, SimOptions, SimStorage, Storage};
use corewal::{Budget, Checkpoints, Commit, Error, Keyed, LogId, Opened, Options};
use tempfile::TempDir;

const DIR: &str = "/db";
const HARD: u64 = 2 << 20;

fn options() -> Options {
    let small = Options::new().cores(2).buffers(4).buffer_bytes(4096).segment_bytes(65_536);
    small.log_id(LogId([5; 16])).checkpoints(Checkpoints::manual()).single_threaded()
}

fn disk_of(bytes: u64) -> SimStorage {
    SimStorage::new(SimOptions { capacity_bytes: Some(bytes), ..SimOptions::default() })
}

fn open<S: Storage>(options: Options, disk: &S, dir: &Path) -> Opened<Keyed, S> {
    options.open_on(disk.clone(), dir, |_| Keyed::default()).unwrap()
}

type Data = BTreeMap<Vec<u8>, Vec<u8>>;

fn data<S: Storage>(store: &Opened<Keyed, S>) -> Data {
    let keys = store.shards.iter().flat_map(|shard| shard.state().iter());
    keys.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Puts over few keys, each with its commit, until there is no space. Gives the
/// number of puts and the error.
fn fill<S: Storage>(store: &mut Opened<Keyed, S>, from: u64, bytes: usize) -> (u64, Error) {
    for number in from.. {
        let name = format!("key-{}", number % 20);
        let core = store.store.route(name.as_bytes());
        let value = format!("{number} {}", "x".repeat(bytes));
        let shard = &mut store.shards[core.index()];
        match shard.put(name.as_bytes(), value.as_bytes()) {
            Ok(()) => drop(shard.commit(&Commit::new().offset_u64("in", number)).unwrap()),
            Err(error) => return (number - from, error),
        }
    }
    unreachable!("some disk is full")
}

fn end_epoch<S: Storage>(store: &mut Opened<Keyed, S>) {
    for shard in &mut store.shards {
        shard.commit(&Commit::new()).unwrap();
    }
    let epoch = store.store.announce_epoch();
    for _ in 0..2 {
        for shard in &mut store.shards {
            shard.sync().unwrap();
        }
    }
    assert_eq!(store.store.complete_epoch(), epoch);
}

fn bytes_of(disk: &SimStorage) -> u64 {
    let files = disk.files().into_iter().filter(|path| path.starts_with(DIR));
    files.map(|path| disk.read_file(&path).unwrap().len() as u64).sum()
}

#[test]
fn over_its_budget_a_store_says_so_and_a_checkpoint_makes_room() {
    // The disk holds the budget to its word.
    let disk = disk_of(HARD);
    let mut store = open(options().budget(Budget::bytes(HARD)), &disk, Path::new(DIR));
    let mut number = 0;
    for round in 0..8 {
        let (puts, error) = fill(&mut store, number, 900);
        assert!(matches!(error, Error::OutOfSpace { budget: Some(HARD), .. }), "{error}");
        assert!(puts > 100, "round {round}: {puts} puts");
        number += puts;
        assert_eq!(store.store.space_used(), bytes_of(&disk), "what is counted is there");
        assert!(fill(&mut store, number, 900).1.is_out_of_space(), "it says so again");
        let made = store.store.checkpoint_status().made;
        end_epoch(&mut store);
        assert!(store.store.checkpoint_status().made > made, "the soft mark asked for it");
        assert!(store.store.checkpoint_status().error.is_none());
    }
    end_epoch(&mut store);
    let expected = data(&store);
    drop(store);
    for kind in [CrashKind::Process, CrashKind::Power] {
        let crashed = disk.snapshot().crash(kind, 1);
        let mut store = open(options().budget(Budget::bytes(HARD)), &crashed, Path::new(DIR));
        assert_eq!(data(&store), expected);
        assert_eq!(store.store.space_used(), bytes_of(&crashed));
        assert!(fill(&mut store, number, 900).0 > 100);
    }
}

#[test]
fn a_store_that_ends_epochs_stays_below_its_soft_mark_and_is_never_refused() {
    let disk = disk_of(HARD);
    let mut store = open(options().budget(Budget::bytes(HARD).soft(HARD / 2)), &disk, Path::new(DIR));
    for number in 0..4_000_u64 {
        let name = format!("key-{}", number % 50);
        let core = store.store.route(name.as_bytes());
        store.shards[core.index()].put(name.as_bytes(), &[7; 500]).unwrap();
        if number % 25 == 0 {
            end_epoch(&mut store);
        }
    }
    let status = store.store.checkpoint_status();
    assert!((3..100).contains(&status.made), "{status:?}");
    assert_eq!(store.store.space_used(), bytes_of(&disk));
    assert!(store.store.space_used() < HARD * 2 / 3, "{}", store.store.space_used());
}

#[test]
fn a_budget_that_is_too_small_for_the_cores_is_refused() {
    let error = options().budget(Budget::bytes(1 << 17)).open_on(SimStorage::default(), DIR, |_| Keyed::default());
    assert!(matches!(error, Err(Error::BadOption { name: "budget", .. })));
}

#[test]
fn on_a_full_file_system_work_goes_on_once_others_free_space() {
    let disk = disk_of(1 << 20);
    disk.write_file(Path::new("/ballast"), vec![1; 400_000]);
    let mut store = open(options(), &disk, Path::new(DIR));
    let (first, error) = fill(&mut store, 0, 900);
    assert!(matches!(error, Error::OutOfSpace { budget: None, .. }) && first > 50, "{error} after {first}");
    for shard in &mut store.shards {
        shard.sync().unwrap();
    }
    let acknowledged = data(&store);
    assert_eq!(store.store.space_used(), bytes_of(&disk), "what was begun in vain is gone");
    assert!(fill(&mut store, first, 900).1.is_out_of_space());
    // Killed at this point nothing is lost, and opening needs no space.
    for kind in [CrashKind::Process, CrashKind::Power] {
        let crashed = disk.snapshot().crash(kind, 3);
        let options = options().recover(corewal::Recover::Latest);
        assert_eq!(data(&open(options, &crashed, Path::new(DIR))), acknowledged);
    }
    disk.remove_file_durably(Path::new("/ballast"));
    let (more, error) = fill(&mut store, first, 900);
    assert!(error.is_out_of_space() && more > 50, "{error} after {more}");
    end_epoch(&mut store);
    let expected = data(&store);
    drop(store);
    assert_eq!(data(&open(options(), &disk, Path::new(DIR))), expected);
}

#[test]
fn on_a_full_file_system_a_checkpoint_frees_what_it_covers() {
    // A little is left that no segment fits in.
    let disk = disk_of((1 << 20) + 110_000);
    let options = || options().cores(1).segment_bytes(131_072);
    let mut store = open(options(), &disk, Path::new(DIR));
    let mut number = 0;
    for round in 0..4 {
        let (puts, error) = fill(&mut store, number, 200);
        assert!(error.is_out_of_space() && puts > 50, "round {round}: {error} after {puts}");
        number += puts;
        end_epoch(&mut store);
        store.store.checkpoint().unwrap().expect("there is a new epoch");
    }
    end_epoch(&mut store);
    let expected = data(&store);
    drop(store);
    assert_eq!(data(&open(options(), &disk, Path::new(DIR))), expected);
}

#[test]
fn a_checkpoint_without_space_leaves_nothing_behind_and_is_made_later() {
    for on in [OperationKind::Create, OperationKind::Settle] {
        for skip in 0..8 {
            let disk = SimStorage::default();
            let mut store = open(options(), &disk, Path::new(DIR));
            for round in 0..4 {
                for key in 0..200 {
                    let name = format!("key-{key}");
                    let core = store.store.route(name.as_bytes());
                    store.shards[core.index()].put(name.as_bytes(), &[round; 300]).unwrap();
                }
                end_epoch(&mut store);
            }
            disk.inject(Fault { on, skip, kind: FaultKind::Error(28), sticky: true });
            let made = store.store.checkpoint();
            // But for a manifest, perhaps.
            let difference = store.store.space_used().abs_diff(bytes_of(&disk));
            assert!(difference < 4096, "{on:?} {skip}: {difference} bytes, {made:?}");
            disk.clear_faults();
            end_epoch(&mut store);
            store.store.checkpoint().unwrap().expect("there is a new epoch");
            end_epoch(&mut store);
            assert_eq!(store.store.space_used(), bytes_of(&disk), "{on:?} {skip}");
            let expected = data(&store);
            drop(store);
            assert_eq!(data(&open(options(), &disk, Path::new(DIR))), expected);
        }
    }
}

/// A small file system: the one that scripts/filesystems.sh has made, or a
/// tmpfs of 64 MiB where it can be mounted.
struct Small {
    path: PathBuf,
    own: Option<TempDir>,
}

impl Small {
    fn have() -> Option<Self> {
        if let Some(path) = std::env::var_os("COREWAL_SMALL_FS") {
            return Some(Self { path: path.into(), own: None });
        }
        let own = tempfile::tempdir().unwrap();
        let path = own.path().to_owned();
        if !call(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&path)) {
            println!("skipped: no tmpfs can be mounted here");
            return None;
        }
        Some(Self { path, own: Some(own) })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if self.own.is_some() {
            call(Command::new("umount").arg(&self.path));
        }
    }
}

fn call(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn real() -> Options {
    Options::new().cores(2).segment_bytes(4 << 20).checkpoints(Checkpoints::manual())
}

#[test]
fn small_file_system_is_filled_with_a_budget_and_without() {
    let Some(small) = Small::have() else { return };
    let dir = small.path.join("budget");
    let budget = 40 << 20;
    let mut store = open(real().budget(Budget::bytes(budget)), &FileStorage::new(), &dir);
    let mut number = 0;
    for round in 0..6 {
        let (puts, error) = fill(&mut store, number, 20_000);
        assert!(matches!(error, Error::OutOfSpace { budget: Some(_), .. }), "round {round}: {error}");
        assert!(puts > 50, "round {round}: {puts} puts");
        assert!(store.store.space_used() <= budget, "{}", store.store.space_used());
        number += puts;
        end_epoch(&mut store);
        // The next put waits for the checkpoint that is being made.
    }
    end_epoch(&mut store);
    let expected = data(&store);
    drop(store);
    assert_eq!(data(&open(real(), &FileStorage::new(), &dir)), expected);
    std::fs::remove_dir_all(dir).unwrap();

    let (dir, ballast) = (small.path.join("none"), small.path.join("ballast"));
    std::fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let mut store = open(real(), &FileStorage::new(), &dir);
    let (first, error) = fill(&mut store, 0, 20_000);
    assert!(matches!(error, Error::OutOfSpace { budget: None, .. }), "{error}");
    std::fs::remove_file(ballast).unwrap();
    let (more, error) = fill(&mut store, first, 20_000);
    assert!(error.is_out_of_space() && more > 50, "{error} after {more}");
    end_epoch(&mut store);
    let expected = data(&store);
    drop(store);
    assert_eq!(data(&open(real(), &FileStorage::new(), &dir)), expected);
    std::fs::remove_dir_all(dir).unwrap();
}

/// The child of the next test: says what is durable, and goes on when full.
#[test]
fn small_file_system_child() {
    let Some(dir) = std::env::var_os("COREWAL_FULL_CHILD") else { return };
    let mut store = open(real(), &FileStorage::new(), Path::new(&dir));
    let mut number = 0;
    loop {
        let (puts, error) = fill(&mut store, number, 20_000);
        assert!(error.is_out_of_space(), "{error}");
        number += puts;
        for shard in &mut store.shards {
            shard.sync().unwrap();
        }
        println!("full {number}");
    }
}

#[test]
fn small_file_system_killed_when_full() {
    let Some(small) = Small::have() else { return };
    let dir = small.path.join("killed");
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "full::small_file_system_child", "--nocapture"]).env("COREWAL_FULL_CHILD", &dir);
        child.stdout(Stdio::piped()).spawn().unwrap()
    };
    for lines in [1, 3] {
        let mut child = child();
        let output = BufReader::new(child.stdout.take().unwrap());
        let full = output.lines().map(Result::unwrap).filter(|line| line.contains("full "));
        let last = full.take(lines).last().expect("it gets full");
        child.kill().unwrap();
        child.wait().unwrap();
        let number: u64 = last.rsplit(' ').next().unwrap().parse().unwrap();
        let mut store = open(real().recover(corewal::Recover::Latest), &FileStorage::new(), &dir);
        let found = data(&store);
        let newest = number - 1;
        for number in newest.saturating_sub(19)..=newest {
            let value = &found[format!("key-{}", number % 20).as_bytes()];
            let (kept, _) = std::str::from_utf8(value).unwrap().split_once(' ').unwrap();
            assert!(kept.parse::<u64>().unwrap() >= number, "{kept} instead of {number}");
        }
        assert!(fill(&mut store, 0, 20_000).1.is_out_of_space());
        drop(store);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
