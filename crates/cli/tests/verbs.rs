//! The verbs that look, on a whole store, on a damaged one, and on one whose
//! files hold anything.

#![allow(clippy::disallowed_methods, reason = "tests")]

mod common;

use common::World;
use serde_json::Value;

const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/flights.csv");

fn store() -> World {
    let world = World::new();
    let line = format!("ingest --cores 2 --key dest --reduce count --epoch-every 1000 --source-name flights {FLIGHTS}");
    assert_eq!(world.run(&line).code, Some(0));
    world
}

fn segment(world: &World, core: u16) -> std::path::PathBuf {
    world.store().join(format!("core-{core:04}/00000000000000000000.wal"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_has_the_names_of_the_contract() {
    let world = store();
    let info = world.run("--json info").json();
    assert_eq!((&info["cores"], &info["complete_epoch"]), (&2.into(), &10.into()));
    assert_eq!(info["durable_lsn"].as_array().unwrap().len(), 2);
    assert_eq!(info["offsets"], serde_json::json!({ "flights": std::fs::metadata(FLIGHTS).unwrap().len() }));
    assert!(info["write_path"]["backend"].is_string() && info["write_path"]["direct"].is_boolean());
    assert!(info["watermark"].is_null() && info["segments"].is_u64() && info["bytes"].is_u64());

    assert_eq!(world.run("get LAX").out, "426\n");
    let lax = world.run("--json get LAX").json();
    assert_eq!((&lax["key"], &lax["value"]), (&"LAX".into(), &426.into()));
    assert!(lax["core"].is_u64());
    world.run("get ZZZ").failed(1, &["no such key: ZZZ"]);

    let scanned = lines(&world.run("--json scan").out);
    assert_eq!(scanned.len(), 94);
    assert!(scanned.is_sorted_by_key(|entry| entry["key"].as_str().unwrap().to_owned()));
    assert_eq!(scanned.iter().map(|entry| entry["value"].as_u64().unwrap()).sum::<u64>(), 9762);
    assert_eq!(world.run("scan --prefix LA --limit 1").out, "LAS\t165\n");

    let dumped = lines(&world.run("--json dump").out);
    let order = |record: &Value| ["epoch", "core", "lsn"].map(|name| record[name].as_u64().unwrap());
    assert!(dumped.is_sorted_by_key(order));
    for record in &dumped {
        assert!(record["sequence"].is_u64() && record["timestamp_ns"].is_u64());
        match record["op"].as_str().unwrap() {
            "put" => assert!(record["key"].is_string() && record["value"].is_string()),
            "commit" => assert!(record["offsets"].is_object()),
            _ => {}
        }
    }
    assert_eq!(dumped.iter().filter(|record| record["op"] == "put").count(), 9762);
    let one = lines(&world.run("--json dump --core 1 --epoch 3").out);
    assert!(!one.is_empty() && one.iter().all(|record| record["core"] == 1 && record["epoch"] == 3));
    world.run("dump --core 7").failed(2, &["cores 0 to 1"]);

    // What a checkpoint holds is told in the same words.
    assert_eq!(world.run("dump --checkpoint").out, "");
    assert_eq!(world.run("checkpoint").code, Some(0));
    let runs = lines(&world.run("--json dump --checkpoint").out);
    let puts: Vec<_> = runs.iter().filter(|record| record["op"] == "put").collect();
    assert_eq!(puts.len(), 94);
    for record in puts {
        let entry = scanned.iter().find(|entry| entry["key"] == record["key"]).unwrap();
        assert_eq!(
            (&entry["core"], entry["value"].to_string()),
            (&record["core"], record["value"].as_str().unwrap().to_owned())
        );
        assert!(record["run"].is_u64() && record["level"] == 1);
    }
    let ends = |op: &str| runs.iter().filter(|record| record["op"] == op).count();
    assert_eq!((ends("commit"), ends("close")), (2, 2), "one a run");
    assert!(runs.iter().any(|record| record["offsets"].as_object().is_some_and(|offsets| !offsets.is_empty())));
    let text = world.run("dump --checkpoint --core 1").out;
    assert!(text.lines().all(|line| line.starts_with("run ") && line.contains(" core 1 ")), "{text}");
    world.run("dump --checkpoint --epoch 3").failed(2, &["cannot be used with"]);

    let verified = world.run("--json verify").json();
    assert_eq!((&verified["ok"], &verified["findings"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(world.run("repair").out, "nothing to repair\n");
}

#[test]
fn damage_is_named_by_every_verb_and_mended_by_repair_alone() {
    let world = store();
    let path = segment(&world, 1);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[20_480 + 100] ^= 4;
    std::fs::write(&path, &damaged).unwrap();
    for verb in ["get LAX", "scan", "info", "dump", &format!("ingest --key dest --reduce count {FLIGHTS}")] {
        world.run(verb).failed(3, &["core 1, segment 0, offset", "corrupt", "corewal repair"]);
    }
    let verified = world.run("--json verify");
    assert_eq!(verified.code, Some(1));
    let found: Value = serde_json::from_str(&verified.out).unwrap();
    let finding = &found["findings"][0];
    assert_eq!((&found["ok"], &finding["core"], &finding["segment"]), (&false.into(), &1.into(), &0.into()));
    assert!(finding["offset"].as_u64().unwrap() <= 20_580 && finding["kind"] == "corrupt");
    assert_eq!(world.run("repair").code, Some(1));
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was changed until now");

    let repaired = world.run("--json repair --apply").json();
    let kept = world.path(repaired["kept"].as_str().unwrap()).join("core-0001/00000000000000000000.wal");
    assert_eq!(std::fs::read(kept).unwrap(), damaged);
    assert_eq!(world.run("verify").code, Some(0));
    // The offsets went back with the state, so the input is counted once again.
    let line = format!("ingest --key dest --reduce count --source-name flights {FLIGHTS}");
    assert_eq!(world.run(&line).code, Some(0));
    assert_eq!(world.run("get LAX").out, "426\n");
}

#[test]
fn whatever_the_files_hold_no_verb_panics_or_hangs() {
    let world = store();
    let files = [segment(&world, 0), segment(&world, 1), world.store().join("MANIFEST")];
    let whole = files.each_ref().map(|path| std::fs::read(path).unwrap());
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..25 {
        for (path, whole) in files.iter().zip(&whole) {
            let mut bytes = whole.clone();
            match random.u8(0..5) {
                0 => bytes.truncate(random.usize(..bytes.len())),
                1 => {
                    let from = random.usize(..bytes.len());
                    bytes[from..].iter_mut().for_each(|byte| *byte = random.u8(..));
                }
                2 => bytes.iter_mut().for_each(|byte| *byte = random.u8(..)),
                3 => (0..random.usize(1..9)).for_each(|_| {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= 1 << random.u8(..8);
                }),
                _ => {}
            }
            std::fs::write(path, bytes).unwrap();
        }
        for verb in ["get LAX", "scan", "info", "--json dump", "verify", "repair", "repair --apply", "verify", "scan"] {
            let run = world.run(verb);
            assert!(matches!(run.code, Some(0..=3)), "{verb}: {run:?}");
            assert!(!run.err.contains("panicked"), "{verb}: {run:?}");
        }
        for dir in ["core-0000", "core-0001"] {
            std::fs::remove_dir_all(world.store().join(dir)).unwrap();
            std::fs::create_dir(world.store().join(dir)).unwrap();
        }
    }
}
