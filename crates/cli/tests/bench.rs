#![allow(clippy::disallowed_methods, reason = "tests")]
//! `bench` from the outside. Small cells only, but for one run of all of them.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Run, World, signal, wait_until};

/// `bench` with `--dir` at the end.
fn command(world: &World, line: &str, dir: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewal"));
    command.current_dir(world.path("")).arg("bench").args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !dir.is_empty() {
        command.args(["--dir", dir]);
    }
    command
}

fn bench(world: &World, line: &str, dir: &str) -> Run {
    command(world, line, dir).output().unwrap().into()
}

fn entries(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn wrong_use_is_told_and_makes_nothing() {
    let world = World::new();
    for (line, dir, part) in [
        ("--cells S1,Q9", ".", "no cell is called `Q9`"),
        ("--backend tape", ".", "tape"),
        ("--runs 0", ".", "--runs"),
        ("--quick", "nowhere", "nowhere is not a directory"),
    ] {
        bench(&world, line, dir).failed(2, &[part]);
    }
    bench(&world, "--quick --report no/such/place.html", ".").failed(3, &["can't write no/such/place.html"]);
    assert!(entries(&world.path("")).is_empty());
}

#[test]
fn a_store_is_not_touched() {
    let world = World::new();
    let input = world.file("in.ndjson", "{\"k\":1}\n");
    assert_eq!(world.run(&format!("ingest --key k {}", input.display())).code, Some(0));
    bench(&world, "--quick --cells S1", "store").failed(2, &["store is a store, which `bench` does not touch"]);
    assert_eq!(world.state().len(), 1);

    // Without --dir the default store is left alone, and the current directory is used.
    std::fs::rename(world.store(), world.path("corewal-data")).unwrap();
    let before = entries(&world.path("corewal-data"));
    assert_eq!(bench(&world, "--quick --cells S1 --backend buffered", "").code, Some(0));
    assert_eq!(entries(&world.path("corewal-data")), before);
    assert_eq!(entries(&world.path("")), ["corewal-data", "in.ndjson"].map(str::to_owned).into());
}

#[test]
fn a_quick_run_has_every_cell_on_every_backend() {
    let world = World::new();
    let json = bench(&world, "--quick --json --report report.html", ".").json();
    assert_eq!((&json["runs"], &json["interrupted"], &json["quick"]), (&1.into(), &false.into(), &true.into()));
    assert!(!json["machine"]["cpu"].as_str().unwrap().is_empty());

    let array = |name: &str| json[name].as_array().unwrap();
    let usable = array("backends").iter().filter(|backend| backend["refused"].is_null()).count();
    assert!(usable > 0 && array("backends").len() == 3, "{}", json["backends"]);
    let cells: BTreeSet<&str> = array("cells").iter().map(|cell| cell["cell"].as_str().unwrap()).collect();
    let expected =
        "encode append S1 P1 P2 P4 P8 P16 P32 P64 G32 H S4 S16 S32 S64 S256 S1024 S4096 T2 B1 B4 C R O1 O2 O1d O2d K";
    assert_eq!(cells, expected.split(' ').collect());
    assert_eq!(array("cells").len(), cells.len() * usable);
    for cell in array("cells") {
        assert!(cell["figure"]["median"].as_f64().unwrap() > 0.0, "{cell}");
    }
    for name in ["S1", "P32", "H"] {
        let cell = array("cells").iter().find(|cell| cell["cell"] == name).unwrap();
        let latency = |quantile: &str| cell["latency_ns"][quantile].as_f64().unwrap();
        assert!(latency("p50") > 0.0 && latency("p50") <= latency("p999"), "{cell}");
        assert!(cell["ratio"]["median"].as_f64().unwrap() > 0.0 && cell["met"].is_boolean(), "{cell}");
    }
    for name in ["copy 116 B + CRC-32C", "write 4 KiB, 1 in flight", "write 1 MiB, 1 in flight", "read + CRC-32C"] {
        assert!(array("limits").iter().any(|limit| limit["limit"] == name), "no `{name}`: {}", json["limits"]);
    }

    let report = std::fs::read_to_string(world.path("report.html")).unwrap();
    stands_alone(&report);
    assert_eq!(report.matches("<svg").count(), 5);
    assert_eq!(entries(&world.path("")), ["report.html".to_owned()].into(), "the stores are gone");
}

/// Nothing in the page is fetched from elsewhere. (A name space is a name.)
fn stands_alone(page: &str) {
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "href=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(outside), "`{outside}` in the report");
    }
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
}

#[test]
fn a_person_gets_a_table_of_the_chosen_cells() {
    let world = World::new();
    let run = bench(&world, "--quick --cells S1,B --backend buffered", ".");
    assert_eq!(run.code, Some(0), "{run:?}");
    for part in ["≤ 1.1x", "≥ 0.85x", "durable commit, one at a time", "write 4 KiB, 32 in flight", "not to be quoted"]
    {
        assert!(run.out.contains(part), "no `{part}` in {}", run.out);
    }
    assert!(!run.out.lines().any(|line| line.starts_with("P32")), "{}", run.out);
    assert!(run.err.is_empty(), "no bar without a terminal: {}", run.err);
}

#[test]
fn ctrl_c_leaves_nothing_behind_and_shows_what_there_is() {
    let world = World::new();
    let child = command(&world, "--runs 50 --cells S1 --backend buffered --json", ".").spawn().unwrap();
    wait_until("it has begun", || !entries(&world.path("")).is_empty());
    signal(&child, "INT");
    let run: Run = child.wait_with_output().unwrap().into();
    assert!(run.err.contains("interrupted: removing what was made"), "{run:?}");
    assert_eq!(run.json()["interrupted"], true);
    assert!(entries(&world.path("")).is_empty());
}
