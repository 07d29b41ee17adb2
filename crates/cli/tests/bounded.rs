//! `checkpoint`, `reshard`, `archive` and `restore`: what they say, what they
//! leave, and that killing them at any moment loses nothing.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod common;

use std::time::Duration;

use common::World;

/// Many lines over few keys: `{"k": …, "n": …}`.
fn lines(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("{{\"k\": \"key-{}\", \"n\": {n}}}\n", n % 700)).collect()
}

/// Input in, an epoch each 300 records.
fn ingest(world: &World, to: u64) {
    world.file("in.ndjson", lines(0, to));
    let run = world.run("ingest --key k --reduce sum:n --epoch-every 300 in.ndjson");
    assert_eq!(run.code, Some(0), "{run:?}");
}

fn scan(world: &World, dir: &str) -> String {
    let run = world.run(&format!("scan --json --dir {dir}"));
    assert_eq!(run.code, Some(0), "{run:?}");
    // The core that a key is on is nobody's state.
    let rows = run.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.map(|row| format!("{} {}\n", row["key"], row["value"])).collect()
}

fn world(records: u64) -> World {
    let world = World::new();
    world.file("in.ndjson", "");
    let run = world.run("ingest --key k --reduce sum:n --cores 2 in.ndjson");
    assert_eq!(run.code, Some(0), "{run:?}");
    ingest(&world, records);
    world
}

#[test]
fn checkpoint_and_reshard_say_what_they_did_and_change_no_value() {
    let world = world(5_000);
    let expected = scan(&world, "store");
    let made = world.run("checkpoint --json").json();
    assert_eq!((made["made"].as_bool(), made["runs"].as_u64()), (Some(true), Some(2)));
    assert!(world.run("checkpoint").out.contains("nothing to do"));
    let info = world.run("info --json").json();
    assert_eq!(info["checkpoints"][0]["epoch"], info["complete_epoch"]);
    assert_eq!(scan(&world, "store"), expected);
    world.run("ingest --key k --reduce sum:n --cores 3 in.ndjson").failed(2, &["reshard --cores 3"]);
    let done = world.run("reshard --cores 3 --json").json();
    assert_eq!((done["from"].as_u64(), done["to"].as_u64(), done["keys"].as_u64()), (Some(2), Some(3), Some(700)));
    assert_eq!(scan(&world, "store"), expected);
    // And ingesting goes on where it was.
    ingest(&world, 6_000);
    let other = self::world(6_000);
    assert_eq!(scan(&world, "store"), scan(&other, "store"));
    assert_eq!(world.run("verify").code, Some(0));
    world.run("checkpoint --dir nowhere").failed(3, &["nowhere"]);
    world.run("reshard --cores 2 --dir nowhere").failed(3, &["nowhere"]);
    assert!(!world.path("nowhere").exists());
}

#[test]
fn a_store_in_use_is_not_checkpointed_or_resharded_from_outside() {
    let world = world(100);
    let _open = world.open();
    world.run("checkpoint").failed(4, &["in use"]);
    world.run("reshard --cores 3").failed(4, &["in use"]);
    // What stands in segments that are being written can't go yet, and that is
    // said.
    let pushed = world.run("archive push --to copy");
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    assert!(pushed.out.contains("reaches epoch 0") && pushed.out.contains("the rest goes with"), "{pushed:?}");
}

#[test]
fn an_archive_gives_back_each_epoch_it_has_and_fences_the_copy_that_is_behind() {
    let world = world(900);
    let mut known = Vec::new();
    for records in [1_500, 2_700, 4_200] {
        ingest(&world, records);
        let pushed = world.run("archive push --to copy --json").json();
        assert_eq!(pushed["epoch"], world.run("info --json").json()["complete_epoch"]);
        known.push((pushed["epoch"].as_u64().unwrap(), scan(&world, "store")));
    }
    assert_eq!(world.run("info --json").json()["archives"][0]["epochs_behind"].as_u64(), Some(0));
    assert_eq!(world.run("archive verify --to copy").code, Some(0));
    assert!(world.run("archive ls --to copy").out.contains("reaches     epoch"));
    // The newest two checkpoints are kept by default.
    for (epoch, expected) in &known[1..] {
        let dir = format!("again-{epoch}");
        let done = world.run(&format!("restore --from copy --to-epoch {epoch} --dir {dir} --json")).json();
        assert_eq!(done["epoch"].as_u64(), Some(*epoch));
        assert_eq!(&scan(&world, &dir), expected);
        assert_eq!(world.run(&format!("verify --dir {dir}")).code, Some(0));
    }
    let (newest, expected) = &known[2];
    world.run(&format!("restore --from copy --dir again-{newest}")).failed(2, &["is not empty"]);
    world.run(&format!("restore --from copy --to-epoch {} --dir more", newest + 1)).failed(2, &["epoch"]);
    world.run("restore --from nowhere --dir more").failed(3, &["no archive at nowhere"]);
    world.run("archive ls --to nowhere").failed(3, &["no archive at nowhere"]);
    assert!(!world.path("nowhere").exists() && !world.path("more").exists());
    // The restored store goes on with the archive; the original is behind now.
    assert_eq!(world.run(&format!("archive push --to copy --dir again-{newest}")).code, Some(0));
    world.run("archive push --to copy").failed(4, &["another copy went on", "--force"]);
    assert_eq!(&scan(&world, "store"), expected, "and is as it was");
    assert_eq!(world.run("archive push --to copy --force").code, Some(0));
    assert_eq!(world.run("archive gc --to copy").code, Some(0));
    assert_eq!(world.run("archive verify --to copy").code, Some(0));
}

#[test]
fn killed_at_any_moment_they_lose_nothing_and_leave_nothing_behind() {
    let world = world(20_000);
    let mut random = fastrand::Rng::with_seed(7);
    let (mut records, mut killed, mut done) = (20_000, 0, 0);
    for round in 0..20_u64 {
        records += 400;
        ingest(&world, records);
        let expected = scan(&world, "store");
        let cores = 1 + round % 4;
        let restored = format!("restored-{round}");
        let lines = [
            "checkpoint".to_owned(),
            format!("reshard --cores {cores}"),
            "archive push --to copy".to_owned(),
            format!("restore --from copy --dir {restored}"),
        ];
        for line in &lines {
            let mut child = world.spawn(line);
            std::thread::sleep(Duration::from_micros(random.u64(0..40_000)));
            let _ = child.kill();
            match child.wait().unwrap().code() {
                None => killed += 1,
                Some(_) => done += 1,
            }
            assert_eq!(scan(&world, "store"), expected, "round {round}: {line}");
        }
        // Each of them again, to its end. (What was restored whole may be of
        // before the last push.)
        if world.path(&restored).exists() {
            std::fs::remove_dir_all(world.path(&restored)).unwrap();
        }
        for line in &lines[1..] {
            let run = world.run(line);
            assert_eq!(run.code, Some(0), "round {round}: {line}: {run:?}");
        }
        assert_eq!(scan(&world, &restored), expected, "round {round}");
        std::fs::remove_dir_all(world.path(&restored)).unwrap();
    }
    assert!(killed > 20, "{killed} killed, {done} done before");
    assert_eq!(world.run("archive gc --to copy").code, Some(0));
    let found = world.run("archive verify --to copy --json").json();
    assert_eq!((found["ok"].as_bool(), found["orphans"].as_u64()), (Some(true), Some(0)));
    drop(world.open());
    let info = world.run("info --json").json();
    assert_eq!(info["space"]["other_runs"].as_u64(), Some(0));
    let found = world.run("verify --json").json();
    assert_eq!((found["ok"].as_bool(), found["notes"].as_array().map(Vec::len)), (Some(true), Some(0)), "{found}");
}
