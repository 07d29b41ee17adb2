#![allow(clippy::disallowed_methods, reason = "tests")]
//! `torture` from the outside.

mod common;

use common::World;

#[test]
fn a_few_kills_break_nothing_and_are_told() {
    let world = World::new();
    let run = world.run("torture --kills 5 --cores 2 --seed 11 --keys 100 --json");
    let json = run.json();
    assert_eq!((&json["ok"], &json["kills"], &json["seed"]), (&true.into(), &5.into(), &11.into()), "{json}");
    assert!(json["recoveries"].as_u64().unwrap() >= 5);
    assert!(json["epochs_acknowledged"].as_u64().unwrap() > 0 && json["records"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json["violations"].as_array().unwrap().len(), 0);

    // Its own directory is taken again, and a person gets a table.
    let run = world.run("torture --kills 2");
    assert_eq!(run.code, Some(0), "{run:?}");
    for part in ["seed", "kills                    2", "durable", "rolled back records"] {
        assert!(run.out.contains(part), "no `{part}` in {}", run.out);
    }
}

#[test]
fn every_way_of_writing_keeps_its_promises_under_kills() {
    for way in ["uring", "blocking", "buffered"] {
        if way == "uring" && !common::has_ring() {
            println!("uring: skipped, the machine refuses it");
            continue;
        }
        let json = World::new().run(&format!("torture --kills 12 --cores 2 --io {way} --json")).json();
        assert_eq!((&json["ok"], &json["kills"]), (&true.into(), &12.into()), "{way}: {json}");
        assert!(json["epochs_acknowledged"].as_u64().unwrap() > 0, "{way}: {json}");
    }
}

#[test]
fn it_ends_when_its_time_is_over() {
    let began = std::time::Instant::now();
    let json = World::new().run("torture --kills 100000 --duration 300ms --json").json();
    assert!(json["kills"].as_u64().unwrap() < 1000, "{json}");
    assert!(began.elapsed().as_secs() < 30);
}

#[test]
fn it_touches_nothing_that_is_not_its_own() {
    let world = World::new();
    let input = world.file("in.ndjson", "{\"k\":1}\n");
    assert_eq!(world.run(&format!("ingest --key k {}", input.display())).code, Some(0));
    world.run("torture --kills 1").failed(2, &["was not made by `torture`", "another --dir"]);
    assert_eq!(world.state().len(), 1);

    let world = World::new();
    std::fs::create_dir(world.store()).unwrap();
    world.file("store/letter", "dear all");
    world.run("torture --kills 1").failed(2, &["is not empty"]);
    assert_eq!(std::fs::read_dir(world.store()).unwrap().count(), 1);
}

#[test]
fn a_child_that_cannot_open_says_why() {
    let world = World::new();
    drop(corewal::Options::new().cores(3).open(world.store()).unwrap());
    world.run("torture-child --cores 2 --seed 1 --keys 10").failed(2, &["3 core(s), 2 asked for"]);
}
