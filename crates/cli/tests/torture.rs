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
    for part in ["seed", "kills                    2", "durable", "rolled back records", "fault", "torn tails"] {
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
fn each_fault_is_made_and_breaks_nothing() {
    for fault in ["kill", "opening", "stop", "limit", "budget", "checkpoint", "reshard", "damage", "repair", "archive"]
    {
        // Those under which the writer may end by itself need not come to a kill.
        let line = format!("torture --kills 3 --duration 5s --cores 2 --keys 200 --faults {fault} --json");
        let json = World::new().run(&line).json();
        assert_eq!(json["ok"], true, "{fault}: {json}");
        let of = &json["faults"][fault];
        assert!(of["made"].as_u64().unwrap() > 0 && of["openings"].as_u64().unwrap() > 0, "{fault}: {json}");
        assert_eq!(json["faults"].as_object().unwrap().len(), 1, "{json}");
        let checked = |promise: &str| json["checks"][promise].as_u64().unwrap_or(0) > 0;
        match fault {
            "stop" => assert!(checked("readers") && checked("lock"), "{json}"),
            "damage" | "repair" | "archive" => assert!(checked(fault), "{json}"),
            "limit" => assert!(of["writer_ended"].as_u64().unwrap() > 0, "{json}"),
            _ => {}
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_faults_in_the_same_order() {
    let line = "torture --kills 6 --seed 77 --keys 100 --faults kill,stop,checkpoint,damage --json";
    let made = || {
        let json = World::new().run(line).json();
        ["kill", "stop", "checkpoint", "damage"].map(|fault| json["faults"][fault]["made"].as_u64().unwrap())
    };
    let first = made();
    assert_eq!(first.iter().sum::<u64>(), 6, "{first:?}");
    assert_eq!(first, made());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_with_the_report_so_far() {
    let world = World::new();
    let child = world.command("torture --kills 1000000 --keys 100 --faults kill --json").spawn().unwrap();
    common::wait_until("it works", || world.store().join("store/MANIFEST").exists());
    std::thread::sleep(std::time::Duration::from_millis(500));
    common::signal(&child, "INT");
    let run: common::Run = child.wait_with_output().unwrap().into();
    let json = run.json();
    assert_eq!((&json["ok"], &json["interrupted"]), (&true.into(), &true.into()), "{json}");
    assert!(json["faults"]["kill"]["made"].as_u64().unwrap() > 0, "{json}");
    // What is there is taken again.
    assert_eq!(world.run("torture --kills 1 --faults kill --json").json()["kills"], 1);
}

#[test]
fn it_tortures_by_the_options_that_it_is_given() {
    let line = "torture --kills 3 --cores 3 --faults kill --segment-bytes 1048576 --buffer-bytes 65536 \
                --checkpoint-bytes 2000000 --value-bytes 200000 --io buffered --json";
    let world = World::new();
    let json = world.run(line).json();
    assert_eq!((&json["ok"], &json["cores"]), (&true.into(), &3.into()), "{json}");
    let segments = std::fs::read_dir(world.store().join("store/core-0002")).unwrap();
    let longest = segments.map(|entry| entry.unwrap().metadata().unwrap().len()).max();
    assert!(longest.unwrap() >= 1 << 20, "{longest:?}");
    world.run("torture --segment-bytes 16384 --buffer-bytes 16384").failed(2, &["four times --buffer-bytes"]);
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
