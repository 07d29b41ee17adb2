#![allow(clippy::disallowed_methods, reason = "tests")]
//! `ingest` from the outside: sources, streams, leaving and going on.

mod common;

use std::io::Write as _;
use std::process::Child;

use common::{Run, World, map, signal, wait_until};
use serde_json::{Value, json};

/// Lines of 100 keys, `from` to `to`.
fn lines(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("{{\"k\":\"k{}\",\"n\":{n}}}\n", n % 100)).collect()
}

fn feed(child: &mut Child, text: &str) {
    let input = child.stdin.as_mut().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    input.flush().unwrap();
}

fn end(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

#[test]
fn the_sample_is_reduced_as_an_oracle_does_it() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/flights.csv");
    let text = std::fs::read_to_string(sample).unwrap();
    let column = |name| text.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    let (key, number) = (column("origin"), column("distance"));
    let mut sums = std::collections::BTreeMap::<String, i64>::new();
    for line in text.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        *sums.entry(fields[key].to_owned()).or_default() += fields[number].parse::<i64>().unwrap();
    }
    let sums: std::collections::BTreeMap<_, _> = sums.into_iter().map(|(key, sum)| (key, sum.to_string())).collect();

    let world = World::new();
    let line = format!("ingest --cores 4 --key origin --reduce sum:distance {sample}");
    let json = world.run(&format!("{line} --json")).json();
    assert_eq!(json["records"], text.lines().count() - 1);
    assert_eq!(json["keys"], sums.len());
    assert_eq!(json["resumed_from"], Value::Null);
    for number in ["rejected", "epochs", "commit_us_p50", "commit_us_p99"] {
        assert!(json[number].is_u64(), "{number}: {json}");
    }
    assert!(json["seconds"].is_f64() && json["records_per_second"].is_f64(), "{json}");
    assert_eq!(world.state(), sums);

    let again = world.run(&format!("{line} --json")).json();
    assert_eq!((&again["records"], &again["epochs"], &again["commit_us_p50"]), (&0.into(), &0.into(), &Value::Null));
    assert_eq!(again["resumed_from"], json!({ sample: text.len() }));
    let people = world.run(&line);
    assert!(people.out.contains("rate") && people.out.contains("records/s"), "{people:?}");
}

#[test]
fn every_reduction_over_several_sources() {
    for (reduce, expected) in [
        ("count", ["2", "2"]),
        ("sum:n", ["8", "6.5"]),
        ("min:n", ["3", "2.5"]),
        ("max:n", ["5", "4"]),
        ("last", ["{\"k\":\"a\",\"n\":5}", "{\"k\":\"b\",\"n\":\"4\"}"]),
    ] {
        let world = World::new();
        world.file("one.ndjson", "{\"k\":\"a\",\"n\":3}\n{\"k\":\"b\",\"n\":2.5}\n");
        world.file("two.csv", "k,n\na,5\nb,4\n");
        world.file("two.ndjson", "{\"k\":\"a\",\"n\":5}\n{\"k\":\"b\",\"n\":\"4\"}\n");
        let two = if reduce == "last" { "two.ndjson" } else { "two.csv" };
        let run =
            world.run(&format!("ingest --cores 2 --epoch-every 1 --key k --reduce {reduce} one.ndjson {two} --json"));
        assert_eq!((&run.json()["records"], &run.json()["epochs"]), (&4.into(), &4.into()));
        assert_eq!(world.state(), map([("a", expected[0]), ("b", expected[1])]), "{reduce}");
    }
}

#[test]
fn standard_input_without_a_name_is_new_each_time() {
    let world = World::new();
    for count in ["1", "2"] {
        assert_eq!(world.run_with("ingest --cores 1 --key k --reduce count -", "{\"k\":\"a\"}\n").code, Some(0));
        assert_eq!(world.state(), map([("a", count)]));
    }
    assert!(world.open().shards[0].offsets().keys().all(|name| name.contains('\0')));
}

#[test]
fn named_standard_input_goes_on_behind_what_is_committed() {
    let world = World::new();
    let line = "ingest --cores 2 --key k --reduce count --source-name feed --json -";
    assert_eq!(world.run_with(line, lines(0, 1000)).json()["records"], 1000);
    let json = world.run_with(line, lines(0, 1500)).json();
    assert_eq!((&json["records"], &json["resumed_from"]["feed"]), (&500.into(), &lines(0, 1000).len().into()));
    let before = world.state();
    world.run_with(line, lines(0, 10)).failed(3, &["standard input is shorter"]);
    world.run_with(line, lines(1, 2000)).failed(3, &["does not begin with the same"]);
    assert_eq!(world.state(), before);
    assert!(before.values().all(|count| count == "15"));
}

#[test]
fn a_silent_stream_does_not_keep_its_records_from_becoming_durable() {
    let world = World::new();
    let mut child = world.spawn("ingest --cores 2 --key k --reduce count --epoch-every 20ms --source-name feed -");
    feed(&mut child, &lines(0, 10));
    // A reader that looks in beside it: the offsets show when it is durable.
    let committed = || {
        let info: Run = world.command("info --json").output().unwrap().into();
        serde_json::from_str::<Value>(&info.out).is_ok_and(|info| info["offsets"]["feed"] == lines(0, 10).len())
    };
    wait_until("the epoch", committed);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.state().len(), 10);
}

#[test]
fn an_interrupt_finishes_the_epoch_and_the_next_run_goes_on() {
    let world = World::new();
    let line = "ingest --cores 2 --key k --reduce count --epoch-every 1h --source-name feed --json -";
    let mut child = world.spawn(line);
    feed(&mut child, &lines(0, 1000));
    // It has read everything when it waits, which cannot be seen from here.
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&child, "INT");
    // The stream is still open: it must leave without waiting for its end.
    let input = child.stdin.take();
    let run = end(child);
    drop(input);
    assert!(run.err.contains("interrupted: finishing the epoch"), "{run:?}");
    let json = run.json();
    assert_eq!((&json["interrupted"], &json["records"], &json["epochs"]), (&true.into(), &1000.into(), &1.into()));
    assert!(world.state().values().all(|count| count == "10"));

    let json = world.run_with(line, lines(0, 1200)).json();
    assert_eq!((&json["records"], &json["interrupted"]), (&200.into(), &false.into()));
    assert!(world.state().values().all(|count| count == "12"));
}

#[test]
fn an_interrupt_in_the_middle_of_a_file_loses_and_repeats_nothing() {
    let world = World::new();
    let count = 1_000_000;
    world.file("in.ndjson", lines(0, count));
    let line = "ingest --cores 2 --key k --reduce count --json in.ndjson";
    let (mut records, mut interrupted) = (0, 0);
    for wait in [40, 60, 100, 150] {
        let child = world.command(line).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        signal(&child, "TERM");
        let run = end(child);
        // Before it listens to signals it is killed by them.
        if run.code.is_some() {
            records += run.json()["records"].as_u64().unwrap();
            interrupted += u64::from(run.json()["interrupted"] == true);
        }
    }
    records += world.run(line).json()["records"].as_u64().unwrap();
    assert_eq!(records, count);
    assert!(interrupted > 0);
    assert!(world.state().values().all(|each| *each == (count / 100).to_string()));
}

#[test]
fn files_are_followed_until_an_interrupt() {
    let world = World::new();
    let (one, two) = (world.file("one.ndjson", lines(0, 100)), world.file("two.ndjson", ""));
    let child = world
        .command("ingest --cores 2 --key k --reduce count --epoch-every 20ms --follow --json one.ndjson two.ndjson")
        .spawn()
        .unwrap();
    let offset = |name: &str| {
        let info: Run = world.command("info --json").output().unwrap().into();
        serde_json::from_str::<Value>(&info.out).map_or(Value::Null, |info| info["offsets"][name].clone())
    };
    wait_until("the first file", || offset("one.ndjson") == lines(0, 100).len());
    let append = |path, text: &str| {
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append(&two, &lines(0, 50));
    append(&one, &lines(0, 50)[..5]);
    wait_until("the second file", || offset("two.ndjson") == lines(0, 50).len());
    append(&one, &lines(0, 50)[5..]);
    wait_until("the rest of the first", || offset("one.ndjson") == lines(0, 100).len() + lines(0, 50).len());
    signal(&child, "INT");
    let json = end(child).json();
    assert_eq!((&json["records"], &json["rejected"]), (&200.into(), &0.into()));
    assert_eq!(world.state()["k7"], "3");
}

#[test]
fn a_pipe_by_its_path_is_a_stream() {
    let world = World::new();
    assert!(std::process::Command::new("mkfifo").arg(world.path("pipe")).status().unwrap().success());
    let child = world.command("ingest --cores 1 --key k --reduce count --json pipe").spawn().unwrap();
    std::fs::write(world.path("pipe"), lines(0, 300)).unwrap();
    assert_eq!(end(child).json()["records"], 300);
    assert_eq!(world.state()["k0"], "3");
}

#[test]
fn a_thousand_small_files_are_each_read_once() {
    let world = World::new();
    let names: Vec<_> = (0..1500).map(|n| format!("f{n}.ndjson")).collect();
    for name in &names {
        world.file(name, "{\"k\":\"a\"}\n");
    }
    let line = format!("ingest --cores 2 --key k --reduce count --epoch-every 1h --json {}", names.join(" "));
    let json = world.run(&line).json();
    assert_eq!((&json["records"], &json["epochs"]), (&1500.into(), &2.into()));
    let again = world.run(&line).json();
    assert_eq!((&again["records"], again["resumed_from"].as_object().unwrap().len()), (&0.into(), 1500));
    assert_eq!(world.state(), map([("a", "1500")]));
}

#[test]
fn a_second_interrupt_leaves_at_once_and_loses_only_what_was_not_durable() {
    let world = World::new();
    let mut child = world.spawn("ingest --cores 1 --key k --reduce count --epoch-every 10 --source-name feed -");
    feed(&mut child, &lines(0, 100));
    std::thread::sleep(std::time::Duration::from_millis(500));
    for _ in 0..2 {
        signal(&child, "INT");
    }
    let run = end(child);
    // Between the two it may have left in order.
    assert!(matches!(run.code, Some(0 | 130)), "{run:?}");
    assert_eq!(world.state().len(), 100);
}
