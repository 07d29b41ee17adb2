#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests")]
//! What the program makes is its user's alone, whatever the umask lets through.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use common::{Run, World};

/// Runs the program with a umask that takes nothing away.
fn run(world: &World, line: &str) -> Run {
    let plain = world.command(line);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(plain.get_current_dir().unwrap());
    command.output().unwrap().into()
}

fn done(world: &World, line: &str) {
    let run = run(world, line);
    assert_eq!(run.code, Some(0), "{line}: {run:?}");
}

/// The kinds of files below a directory, all of them and all directories found
/// private.
fn kinds(dir: &Path, found: &mut BTreeSet<String>) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.insert(name.split('-').next().unwrap().to_owned());
            kinds(&path, found);
        } else {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            let end = path.extension().filter(|end| *end != "old").and_then(|end| end.to_str());
            found.insert(end.unwrap_or(name).to_owned());
        }
    }
}

fn kinds_of(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    kinds(dir, &mut found);
    found
}

fn holds(found: &BTreeSet<String>, wanted: &[&str]) {
    for kind in wanted {
        assert!(found.contains(*kind), "no {kind} among {found:?}");
    }
}

#[test]
fn every_kind_of_file_and_directory_is_private_under_a_umask_that_lets_everything_through() {
    let world = World::new();
    let lines: String = (0..20_000).map(|n| format!("{{\"k\":{},\"text\":\"{n:0200}\"}}\n", n % 500)).collect();
    let input = world.file("in.ndjson", lines);
    done(&world, &format!("ingest --key k --cores 2 --epoch-every 1000 {} --dir far/away/store", input.display()));
    let store = world.path("far/away/store");
    for dir in ["far", "far/away"] {
        assert_eq!(fs::metadata(world.path(dir)).unwrap().permissions().mode() & 0o777, 0o700, "{dir}");
    }
    done(&world, "checkpoint --dir far/away/store");
    done(&world, "archive push --to archive --dir far/away/store");
    done(&world, "reshard --cores 3 --dir far/away/store");
    done(&world, &format!("ingest --key k --cores 3 {} --dir far/away/store", input.display()));
    holds(&kinds_of(&store), &["LOCK", "MANIFEST", "wal", "run", "runs", "core", "ARCHIVE"]);

    // Of an archive in a directory the directory is private.
    let mode = fs::metadata(world.path("archive")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    done(&world, "restore --from archive --dir again/restored");
    holds(&kinds_of(&world.path("again")), &["restored", "MANIFEST", "wal", "run", "ARCHIVE"]);

    // What a repair sets aside.
    let core = world.path("again/restored");
    let log = fs::read_dir(&core).unwrap().map(|entry| entry.unwrap().path());
    let mut log = log.filter(|path| path.is_dir() && fs::read_dir(path).unwrap().count() > 0);
    let log = log.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("core-0000")).unwrap();
    let segment = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[5000] ^= 1;
    bytes[100] ^= 1;
    bytes[9] ^= 1;
    fs::write(&segment, bytes).unwrap();
    done(&world, "repair --apply --dir again/restored");
    holds(&kinds_of(&core), &["damaged", "wal"]);

    // Small segments that are released and used again, and whatever kills leave
    // of that: spare files among it, as it happens.
    done(&world, "torture --kills 4 --faults kill --seed 5 --dir tortured");
    holds(&kinds_of(&world.path("tortured")), &["TORTURE", "store", "wal", "run", "runs"]);
}

/// A directory that its user has made, with the rights that he wants, stays as
/// it is; what is made in it is private all the same.
#[test]
fn the_rights_of_a_directory_that_was_there_are_its_users() {
    let world = World::new();
    fs::create_dir(world.store()).unwrap();
    fs::set_permissions(world.store(), fs::Permissions::from_mode(0o755)).unwrap();
    let input = world.file("in.ndjson", "{\"k\":1}\n");
    done(&world, &format!("ingest --key k --cores 1 {}", input.display()));
    assert_eq!(fs::metadata(world.store()).unwrap().permissions().mode() & 0o777, 0o755);
    for entry in fs::read_dir(world.store()).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

/// The list of archives is read and written by others than the engine.
#[test]
fn the_list_of_archives_goes_through_no_link_and_waits_for_no_pipe() {
    let world = World::new();
    let input = world.file("in.ndjson", "{\"k\":1}\n");
    done(&world, &format!("ingest --key k --cores 1 {}", input.display()));
    let precious = world.file("precious", "[]");
    let list = world.store().join("ARCHIVE");
    std::os::unix::fs::symlink(&precious, &list).unwrap();
    world.run("info").failed(3, &["ARCHIVE", "links are not followed"]);
    world.run("archive push --to archive").failed(3, &["ARCHIVE", "links are not followed"]);
    assert_eq!(fs::read(&precious).unwrap(), b"[]");
    fs::remove_file(&list).unwrap();
    assert!(Command::new("mkfifo").arg(&list).status().unwrap().success());
    world.run("info").failed(3, &["ARCHIVE", "not a regular file"]);
    fs::remove_file(&list).unwrap();
    // The name that is written before the rename.
    std::os::unix::fs::symlink(&precious, world.store().join("ARCHIVE.new")).unwrap();
    done(&world, "archive push --to archive");
    assert_eq!(fs::read(&precious).unwrap(), b"[]");
    assert!(fs::symlink_metadata(&list).unwrap().is_file());
}
