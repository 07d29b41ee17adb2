//! Names that are not a store's: ignored, told of, and still there afterwards.

use std::fs;
use std::path::PathBuf;

use corewal::Reader;

use super::world::{World, options, write_epoch};

#[test]
fn names_that_are_not_the_stores_are_ignored_and_told_of_everywhere() {
    let world = World::new();
    let store = world.store();
    fs::create_dir(store.join("core-0007")).unwrap();
    let mut strangers: Vec<PathBuf> = [
        "core-0000/00000000000000000001.wal~",
        "core-0000/1.wal",
        "core-0000/99999999999999999999.wal",
        "core-0001/notes",
        "core-0007/00000000000000000000.wal",
        "damaged-1",
        "manifest",
        "MANIFEST.bak",
        "runs/1.run",
        "runs/00000000000000000001.run.tmp",
    ]
    .map(|name| store.join(name))
    .into();
    for path in &strangers {
        fs::write(path, "mine").unwrap();
    }
    let inside = strangers.iter().position(|path| path.parent().unwrap().ends_with("core-0007")).unwrap();
    let lone = strangers[inside].clone();
    strangers[inside] = store.join("core-0007");
    strangers.sort();
    let sorted = |mut found: Vec<PathBuf>| {
        found.sort();
        found
    };

    let info = Reader::open(&store).unwrap().info().unwrap();
    assert_eq!(sorted(info.strangers), strangers);
    let found = corewal::verify(&store).unwrap();
    assert_eq!(found.findings, []);
    for path in &strangers {
        let named = format!("{} is not part of the store", path.display());
        assert!(found.notes.contains(&named), "{named} in {:?}", found.notes);
    }

    let mut opened = options().open(&store).unwrap();
    assert_eq!(sorted(opened.report.strangers.clone()), strangers);
    // A person is shown a few of them, and how many more there are.
    let text = opened.report.to_string();
    assert_eq!(text.matches("is not part of the store").count(), 5, "{text}");
    assert!(text.contains("nor are 5 more names"), "{text}");
    (0..40).for_each(|n| write_epoch(&mut opened, n));
    opened.shards.into_iter().for_each(|shard| shard.close().unwrap());
    drop(opened.store);
    corewal::checkpoint(&store, corewal::Checkpoints::default()).unwrap().unwrap();
    drop(options().open(&store).unwrap());
    // The opening clears what is of no use, of its own names only; a log of a
    // core that there is not is none of them.
    for path in strangers.iter().filter(|path| path.is_file()).chain([&lone]) {
        assert_eq!(fs::read(path).unwrap(), b"mine", "{}", path.display());
    }
}
