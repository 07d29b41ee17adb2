#![allow(clippy::disallowed_methods, reason = "tests")]
//! Wrong use of `ingest` gets a clear error and loses nothing.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use common::{World, is_store, map};

const TWO: &str = "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n";

/// A world whose store holds the counts of [`TWO`].
fn two() -> World {
    let world = World::new();
    world.file("in.ndjson", TWO);
    assert_eq!(world.run("ingest --cores 2 --key k --reduce count in.ndjson --json").json()["records"], 2);
    world
}

/// Runs `line`, which must fail and change nothing.
fn refused(world: &World, line: &str, code: i32, parts: &[&str]) {
    let before = world.state();
    world.run(line).failed(code, parts);
    assert_eq!(world.state(), before);
}

#[test]
fn unknown_flags_and_verbs() {
    let world = World::new();
    world.file("in.ndjson", TWO);
    world.run("ingest --frobnicate in.ndjson").failed(2, &["--frobnicate"]);
    world.run("ingest --reduce avg:n in.ndjson").failed(2, &["last, count, sum:FIELD"]);
    world.run("ingest").failed(2, &["SOURCE"]);
    world.run("ingest in.ndjson in.ndjson").failed(2, &["given twice"]);
    world.run("frobnicate").failed(2, &["frobnicate"]);
    assert!(!world.store().exists());
}

#[test]
fn a_missing_file_is_reported_before_anything_is_created() {
    let world = World::new();
    world.file("in.ndjson", TWO);
    world.run("ingest --key k in.ndjson none.ndjson").failed(3, &["can't read none.ndjson", "No such file"]);
    world.run("ingest --key k .").failed(3, &["directory"]);
    world.run("ingest --key k --rejects no/such/dir in.ndjson").failed(3, &["can't write no/such/dir"]);
    assert!(!world.store().exists());
}

#[test]
fn a_column_that_is_absent_is_reported_before_anything_is_created() {
    let world = World::new();
    world.file("in.csv", "k,n\na,1\n");
    world.run("ingest --key key in.csv").failed(2, &["in.csv has no column `key`", "k, n"]);
    world.run("ingest --key k --reduce sum:m in.csv").failed(2, &["no column `m`"]);
    assert!(!world.store().exists());
}

#[test]
fn a_header_on_standard_input_that_will_not_do_leaves_the_store_open_to_any_job() {
    let world = World::new();
    world.run_with("ingest --cores 1 --format csv --key key -", "k,n\na,1\n").failed(2, &["no column `key`"]);
    assert_eq!(world.run_with("ingest --format csv --key k --reduce count -", "k,n\na,1\n").code, Some(0));
    assert_eq!(world.state(), map([("a", "1")]));
}

#[test]
fn what_is_no_directory_is_no_store() {
    let world = World::new();
    world.file("in.ndjson", TWO);
    world.file("store", "a file");
    world.run("ingest --key k in.ndjson").failed(3, &["store"]);
    assert_eq!(std::fs::read_to_string(world.store()).unwrap(), "a file");
}

#[test]
fn a_store_of_a_newer_version() {
    let world = two();
    let path = world.path("store/MANIFEST");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let (body, _) = manifest.rsplit_once("crc32c ").unwrap();
    let body = body.replace("corewal manifest 1\n", "corewal manifest 2\n");
    assert!(body.starts_with("corewal manifest 2"));
    let newer =
        format!("{body}crc32c {:08x}\n", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body.as_bytes()));
    std::fs::write(&path, &newer).unwrap();
    world.run("ingest --key k --reduce count in.ndjson").failed(3, &["unsupported version 2", "newer corewal"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    std::fs::write(&path, manifest).unwrap();
    assert_eq!(world.state(), map([("a", "1"), ("b", "1")]));
}

#[test]
fn a_store_whose_manifest_is_gone_is_not_made_anew() {
    let world = two();
    std::fs::rename(world.path("store/MANIFEST"), world.path("kept")).unwrap();
    world.run("ingest --key k --reduce count in.ndjson").failed(3, &["the manifest is absent"]);
    std::fs::rename(world.path("kept"), world.path("store/MANIFEST")).unwrap();
    assert_eq!(world.state().len(), 2);
}

#[test]
fn a_store_in_use() {
    let world = two();
    let opened = world.open();
    world.run("ingest --key k --reduce count in.ndjson").failed(4, &["in use by another process"]);
    drop(opened);
    assert_eq!(world.run("ingest --key k --reduce count in.ndjson --json").json()["records"], 0);
}

#[test]
fn another_number_of_cores() {
    let world = two();
    for cores in [1, 3] {
        let line = format!("ingest --cores {cores} --key k --reduce count in.ndjson");
        refused(&world, &line, 2, &["2 core(s)", "open it with 2", "reshard --cores"]);
    }
}

#[test]
fn another_key_or_reduction() {
    let world = two();
    for (options, asked) in [
        ("--key k --reduce last", "--key k --reduce last"),
        ("--key k --reduce sum:n", "--key k --reduce sum:n"),
        ("--key n --reduce count", "--key n --reduce count"),
        ("--reduce count", "--reduce count and no --key"),
    ] {
        let said = format!("was made with --key k --reduce count, not with {asked}");
        refused(&world, &format!("ingest {options} in.ndjson"), 2, &[&said, "another --dir"]);
    }
}

#[test]
fn another_format_for_a_source_that_was_begun() {
    let world = two();
    refused(&world, "ingest --key k --reduce count --format csv in.ndjson", 2, &["in.ndjson"]);
    let world = World::new();
    world.file("in", TWO);
    world.run("ingest --cores 1 --key k --reduce count --source-name s in --json").json();
    world.file("in", "k,n\na,1\n");
    refused(&world, "ingest --key k --reduce count --source-name s --format csv in", 2, &["was read as ndjson"]);
}

#[test]
fn a_store_of_another_program() {
    let world = World::new();
    world.file("in.ndjson", TWO);
    let mut opened = corewal::Options::new().cores(1).open(world.store()).unwrap();
    opened.shards[0].put(b"theirs", b"1").unwrap();
    opened.shards[0].commit(&corewal::Commit::new()).unwrap();
    opened.shards[0].end_epoch(opened.store.next_epoch()).unwrap();
    opened.shards[0].sync().unwrap();
    drop(opened);
    refused(&world, "ingest --key k in.ndjson", 2, &["keys that `ingest` did not put there"]);
}

#[test]
fn a_source_that_is_shorter_than_its_offset_or_begins_otherwise() {
    let world = two();
    let line = "ingest --key k --reduce count in.ndjson";
    world.file("in.ndjson", &TWO[..16]);
    refused(
        &world,
        line,
        3,
        &["in.ndjson is shorter (16 bytes) than the offset already committed (32)", "--source-name"],
    );
    world.file("in.ndjson", TWO.replace("\"a\"", "\"x\""));
    refused(&world, line, 3, &["does not begin with the same 32 bytes"]);
    // Among others it is found before any of them is read.
    world.file("more.ndjson", TWO);
    refused(&world, "ingest --key k --reduce count more.ndjson in.ndjson", 3, &["does not begin"]);

    world.file("in.ndjson", format!("{TWO}{TWO}"));
    assert_eq!(world.run(&format!("{line} --json")).json()["records"], 2);
    assert_eq!(world.state(), map([("a", "2"), ("b", "2")]));
}

#[test]
fn bad_lines_are_counted_told_and_kept() {
    let world = World::new();
    world.file("in.ndjson", "{\"k\":\"a\"}\nnonsense\n{\"n\":1}\n{\"k\":null}\n{\"k\":\"a\"}\n{\"k\":");
    let run = world.run("ingest --cores 2 --key k --reduce count --rejects bad in.ndjson --json");
    let json = run.json();
    assert_eq!((&json["records"], &json["rejected"]), (&2.into(), &4.into()));
    for part in ["record 2 at byte 10: not a JSON object", "key field `k` is absent", "key field `k` is null"] {
        assert!(run.err.contains(part), "no `{part}` in {}", run.err);
    }
    assert_eq!(std::fs::read_to_string(world.path("bad")).unwrap(), "nonsense\n{\"n\":1}\n{\"k\":null}\n{\"k\":\n");
    assert_eq!(world.state(), map([("a", "2")]));

    // The next run's lines come behind.
    world.file("more.ndjson", "worse\n");
    let json = world.run("ingest --key k --reduce count --rejects bad more.ndjson --json").json();
    assert_eq!((&json["rejected"], &json["rejected_ever"]), (&1.into(), &5.into()));
    assert!(std::fs::read_to_string(world.path("bad")).unwrap().ends_with("{\"k\":\nworse\n"));
}

#[test]
fn rejects_do_not_overwrite_a_source_or_what_was_in_the_file() {
    let world = World::new();
    world.file("in.ndjson", "bad\n");
    world.run("ingest --key k --rejects ./in.ndjson in.ndjson").failed(2, &["is a source"]);
    world.file("notes", "mine\n");
    assert_eq!(world.run("ingest --cores 1 --key k --rejects notes in.ndjson").code, Some(0));
    assert_eq!(std::fs::read_to_string(world.path("notes")).unwrap(), "mine\nbad\n");
    assert_eq!(std::fs::read_to_string(world.path("in.ndjson")).unwrap(), "bad\n");
}

/// A small disk, if the system lets us make one.
struct SmallDisk<'w>(&'w Path);

impl<'w> SmallDisk<'w> {
    fn mount(path: &'w Path, size: &str) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        Self::call("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], path).then_some(Self(path))
    }

    fn grow(&self, size: &str) {
        assert!(Self::call("mount", &["-o", &format!("remount,size={size}")], self.0));
    }

    fn call(program: &str, args: &[&str], path: &Path) -> bool {
        let output = Command::new(program).args(args).arg(path).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        Self::call("umount", &[], self.0);
    }
}

#[test]
fn a_full_disk_stops_it_and_loses_nothing() {
    let world = World::new();
    let path = world.store();
    let Some(disk) = SmallDisk::mount(&path, "6m") else {
        println!("skipped: no tmpfs can be mounted here");
        return;
    };
    let lines: String = (0..60_000).map(|n| format!("{{\"k\":\"key-{n}\",\"pad\":\"{:0200}\"}}\n", n)).collect();
    world.file("in.ndjson", &lines);
    let line = "ingest --cores 2 --key k --epoch-every 1000 in.ndjson";
    world.run(line).failed(3, &["the file system is full", "is the disk full?", "run the same command again"]);
    assert!(is_store(&path));
    // As long as it is full, nothing changes for the worse.
    world.run(line).failed(3, &["the file system is full"]);

    disk.grow("200m");
    let json = world.run(&format!("{line} --json")).json();
    assert!(json["resumed_from"]["in.ndjson"].as_u64().unwrap() > 1_000_000, "{json}");
    let state = world.state();
    assert_eq!(state.len(), 60_000);
    assert!(lines.lines().enumerate().all(|(n, line)| state[&format!("key-{n}")] == line));
}

#[test]
fn a_core_that_fails_ends_a_reader_who_waits_for_input() {
    let world = World::new();
    let path = world.store();
    let Some(_disk) = SmallDisk::mount(&path, "4m") else {
        println!("skipped: no tmpfs can be mounted here");
        return;
    };
    let mut child = world.spawn("ingest --cores 2 --key k -");
    let mut input = child.stdin.take().unwrap();
    let lines = (0..40_000).map(|n| format!("{{\"k\":\"key-{n}\",\"pad\":\"{n:0200}\"}}\n"));
    // It may be gone before it has taken everything.
    let _ = lines.map(|line| input.write_all(line.as_bytes())).find(Result::is_err);
    // The stream stays open and silent.
    common::wait_until("the end", || child.try_wait().unwrap().is_some());
    common::Run::from(child.wait_with_output().unwrap()).failed(3, &["the file system is full"]);
    drop(input);
}
