//! Links, pipes, sockets and devices under the names of a store: none is
//! followed, read, waited for or written to, and the refusal names it.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use corewal::{Error, Reader};

use super::world::{World, options, write_epoch};

/// What takes the place of a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intruder {
    /// A link to the very thing that stood there.
    Link,
    /// A link to nothing.
    Dangling,
    Pipe,
    Socket,
    /// `/dev/zero`, which has no end. Only root can make one.
    Device,
    Directory,
}

use Intruder::{Dangling, Device, Directory, Link, Pipe, Socket};

impl Intruder {
    /// Moves what stands at `path` to `aside` and takes its place. False if this
    /// user can't.
    fn enter(self, path: &Path, aside: &Path) -> bool {
        fs::rename(path, aside).unwrap();
        match self {
            Link => symlink(aside, path).unwrap(),
            Dangling => symlink(aside.with_file_name("nowhere"), path).unwrap(),
            Pipe => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            Socket => drop(UnixListener::bind(path).unwrap()),
            Device => return Command::new("mknod").arg(path).args(["c", "1", "5"]).status().unwrap().success(),
            Directory => fs::create_dir(path).unwrap(),
        }
        true
    }

    fn leave(path: &Path, aside: &Path) {
        let found = fs::symlink_metadata(path).unwrap();
        if found.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        fs::rename(aside, path).unwrap();
    }
}

/// Runs `what` on a thread of its own: one that waits for the other end of a
/// pipe, or reads a device to its end, never comes back.
fn in_time<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(what()));
    result.recv_timeout(Duration::from_secs(60)).expect("it ends")
}

fn content(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    if !path.is_dir() {
        return vec![(path.to_owned(), fs::read(path).unwrap())];
    }
    let mut paths: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| content(path)).collect()
}

#[test]
fn what_is_not_what_its_name_says_is_refused_by_name_and_left_alone() {
    let original = World::new();
    let (mut refused, mut ends) = (0, std::collections::BTreeSet::new());
    for path in original.entries() {
        // What an opening does before it refuses (spares go, for one) is not to
        // be in the way of the next.
        let world = original.copy();
        let aside = world.path("aside");
        let path = world.store().join(path.strip_prefix(original.store()).unwrap());
        let is_dir = path.is_dir();
        for intruder in [Link, Dangling, Pipe, Socket, Device, Directory] {
            if is_dir && intruder == Directory {
                continue;
            }
            if !path.exists() {
                // A spare, and an opening has come so far.
                continue;
            }
            // A socket's path has a limit that a temporary directory can pass.
            if intruder == Socket && path.as_os_str().len() > 100 {
                continue;
            }
            if !intruder.enter(&path, &aside) {
                fs::rename(&aside, &path).unwrap();
                continue;
            }
            let before = content(&aside);
            let store = world.store();
            let error = in_time(move || options().create(false).open(store)).map(drop).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Io { .. }), "{intruder:?} at {}: {text}", path.display());
            assert!(text.contains(path.to_str().unwrap()), "{intruder:?} at {}: {text}", path.display());
            assert_eq!(content(&aside), before, "{intruder:?} at {}", path.display());

            let store = world.store();
            let found = in_time(move || corewal::verify(store));
            let told = match &found {
                Ok(found) => format!("{:?}", found.findings),
                Err(error) => error.to_string(),
            };
            assert!(told.contains(path.to_str().unwrap()), "{intruder:?} at {}: {told}", path.display());
            Intruder::leave(&path, &aside);
            refused += 1;
            ends.insert(path.extension().map(std::ffi::OsStr::to_owned));
        }
    }
    // Segments, runs, spares, the manifest before, and what has no ending: lock,
    // manifest, directories.
    assert!(refused > 50 && ends.len() == 5, "{refused} {ends:?}");
    let opened = options().open(original.store()).unwrap();
    assert_eq!(opened.report.strangers, [] as [PathBuf; 0]);
}

/// The names that are written before a rename are made anew: what a link there
/// leads to stays as it is.
#[test]
fn what_is_written_aside_goes_through_no_link() {
    let world = World::new();
    let precious = world.path("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, world.store().join("MANIFEST.new")).unwrap();
    let mut opened = options().open(world.store()).unwrap();
    write_epoch(&mut opened, 100);
    opened.shards.into_iter().for_each(|shard| shard.close().unwrap());
    drop(opened.store);
    corewal::checkpoint(world.store(), corewal::Checkpoints::default()).unwrap().unwrap();
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(!world.store().join("MANIFEST.new").exists());
}

/// The way to a store is its user's: a link there is followed, once.
#[test]
fn a_store_may_be_named_by_a_link_and_keeps_its_place_when_the_link_goes_elsewhere() {
    let world = World::new();
    let (link, other) = (world.path("link"), world.path("other"));
    fs::create_dir(&other).unwrap();
    symlink(world.store(), &link).unwrap();
    assert!(corewal::verify(&link).unwrap().findings.is_empty());
    assert!(Reader::open(&link).unwrap().info().unwrap().strangers.is_empty());

    let mut opened = options().open(&link).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    // Over several segments, so that names are given while the link is another.
    (0..60).for_each(|n| write_epoch(&mut opened, n));
    opened.shards.into_iter().for_each(|shard| shard.close().unwrap());
    drop(opened.store);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    assert!(corewal::verify(world.store()).unwrap().findings.is_empty());

    // A new store below a link is made where that leads.
    drop(options().open(link.join("new/store")).unwrap());
    assert!(other.join("new/store/MANIFEST").is_file());
    // One that leads nowhere leads nowhere.
    symlink(world.path("nowhere"), world.path("dangling")).unwrap();
    let error = options().open(world.path("dangling")).map(drop).unwrap_err();
    assert!(error.to_string().contains("dangling"), "{error}");
    assert!(!world.path("nowhere").exists());
}
