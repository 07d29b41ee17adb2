//! Every byte of every object of a small archive, changed; every object cut
//! short, made longer, and taken away.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::common::{LOG, Machine, assert_holds};
use crate::inventory::Inventory;
use crate::key::Place;
use crate::options::Options;
use crate::plan::Target;
use crate::types::{Takeover, Term};
use crate::{Archive, Error, Wrong};
use futures_util::{FutureExt as _, TryStreamExt as _};

struct Small {
    store: Arc<InMemory>,
    archive: Archive,
    objects: BTreeMap<String, Vec<u8>>,
    /// What each of the two kept indexes holds.
    inventories: [Inventory; 2],
    dir: tempfile::TempDir,
}

impl Small {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine::new(&dir.path().join("machine"), 1, 2, 40);
        let store = Arc::new(InMemory::new());
        let options = Options { holder: "small".to_owned(), ..Options::default() };
        let archive = Archive::with_store(store.clone(), "", options).unwrap();
        let mut owner = archive.own(LOG, Takeover::First).unwrap();
        machine.advance();
        machine.checkpoint();
        let first = machine.inventory();
        owner.push(&first).unwrap();
        machine.advance();
        let second = machine.inventory();
        owner.push(&second).unwrap();
        let listed: Vec<object_store::ObjectMeta> = store.list(None).try_collect().now_or_never().unwrap().unwrap();
        let bytes = |path: &Path| {
            let object = store.get(path).now_or_never().unwrap().unwrap();
            object.bytes().now_or_never().unwrap().unwrap().to_vec()
        };
        let objects = listed.iter().map(|object| (object.location.to_string(), bytes(&object.location))).collect();
        Self { store, archive, objects, inventories: [first, second], dir }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        self.store.put(&Path::from(key), bytes.to_vec().into()).now_or_never().unwrap().unwrap();
    }

    fn remove(&self, key: &str) {
        self.store.delete(&Path::from(key)).now_or_never().unwrap().unwrap();
    }

    /// The object is found to be wrong, and it alone.
    fn assert_found(&self, key: &str, what: &str) {
        let wrong = match Place::parse(LOG, key).unwrap() {
            Place::Claim(_) => [Wrong::Claim; 2],
            Place::Index(..) => [Wrong::Index; 2],
            Place::Part(..) => [Wrong::Part, Wrong::Missing],
        };
        let findings = self.archive.verify(LOG).unwrap().findings;
        assert!(
            findings.len() == 1 && findings[0].key == key && wrong.contains(&findings[0].wrong),
            "{what} {findings:?}"
        );
    }

    /// A restore gives what was archived, or an error.
    fn assert_not_served(&self, key: &str, what: &str) {
        let to = self.dir.path().join("restored");
        match (self.archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())), Place::parse(LOG, key).unwrap()) {
            (Ok(restored), place) => {
                let newest = Place::Index(Term(1), 2);
                assert_eq!(restored.passed_over.is_empty(), place != newest, "{what}");
                let served = &self.inventories[usize::from(place != newest)];
                for name in restored.runs.iter().chain(restored.segments.iter().map(|(_, name)| name)) {
                    let parts = served.checkpoints.iter().flat_map(|checkpoint| &checkpoint.runs);
                    let mut parts = parts.chain(served.segments.iter().map(|segment| &segment.file));
                    let part = parts.find(|part| part.name == *name).unwrap();
                    assert_eq!(fs::read(to.join(name)).unwrap(), fs::read(&part.path).unwrap(), "{what}");
                }
                fs::remove_dir_all(&to).unwrap();
            }
            (Err(Error::Damaged { key: at, .. } | Error::Missing { key: at }), Place::Part(..)) => {
                assert_eq!(at, key, "{what}");
                assert!(!to.exists());
            }
            (Err(error), _) => panic!("{what}: {error:?}"),
        }
    }
}

#[test]
fn no_byte_changes_unseen() {
    let small = Small::new();
    assert_eq!(small.archive.verify(LOG).unwrap().findings, []);
    let mut changed: usize = 0;
    for (key, bytes) in &small.objects {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            small.put(key, &damaged);
            let what = format!("byte {at} of {key}");
            small.assert_found(key, &what);
            changed += 1;
            // Restoring syncs files, which takes its time.
            if changed.is_multiple_of(67) {
                small.assert_not_served(key, &what);
            }
        }
        small.put(key, bytes);
    }
    assert!(changed > 3_000, "{changed}");
    let to = small.dir.path().join("restored");
    small.archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())).unwrap();
}

#[test]
fn no_object_is_cut_lengthened_or_removed_unseen() {
    let small = Small::new();
    for (key, bytes) in &small.objects {
        for (what, wrong) in
            [("cut", &bytes[..bytes.len() - 1]), ("emptied", &[][..]), ("longer", &[bytes, &b"\n"[..]].concat())]
        {
            small.put(key, wrong);
            small.assert_found(key, &format!("{key} {what}"));
            small.assert_not_served(key, &format!("{key} {what}"));
        }
        if matches!(Place::parse(LOG, key), Some(Place::Part(..))) {
            small.remove(key);
            small.assert_found(key, &format!("{key} removed"));
            small.assert_not_served(key, &format!("{key} removed"));
        }
        small.put(key, bytes);
    }
}

#[test]
fn two_parts_that_changed_places_are_found() {
    let small = Small::new();
    let parts: Vec<_> =
        small.objects.iter().filter(|(key, _)| matches!(Place::parse(LOG, key), Some(Place::Part(..)))).collect();
    let (one, other) = parts
        .iter()
        .flat_map(|one| parts.iter().map(move |other| (one, other)))
        .find(|(one, other)| one.0 < other.0 && one.1.len() == other.1.len())
        .unwrap();
    small.put(one.0, other.1);
    small.put(other.0, one.1);
    assert_eq!(small.archive.verify(LOG).unwrap().findings.len(), 2);
    small.assert_not_served(&small.archive.verify(LOG).unwrap().findings[0].key, "changed places");
}

#[test]
fn a_damaged_newest_index_stops_what_would_remove() {
    let small = Small::new();
    let (key, bytes) = small.objects.iter().find(|(key, _)| key.ends_with("index/0000000002.json")).unwrap();
    small.put(key, &bytes[1..]);
    assert!(matches!(small.archive.gc(LOG), Err(Error::Damaged { .. })));
    let line = small.archive.list(LOG).unwrap();
    assert_eq!((line.index, line.passed_over.len()), ((Term(1), 1), 1));
    assert!(matches!(small.archive.own(LOG, Takeover::Continue(line.lineage)), Err(Error::Damaged { .. })));
    // Whoever insists goes on from the one before.
    let mut owner = small.archive.own(LOG, Takeover::Force).unwrap();
    owner.push(&small.inventories[1]).unwrap();
    let to = small.dir.path().join("again");
    small.archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())).unwrap();
    for _ in 0..2 {
        owner.push(&small.inventories[1]).unwrap();
    }
    assert_eq!(small.archive.verify(LOG).unwrap().findings, [], "the damaged one was removed");
    let to = small.dir.path().join("whole");
    let restored = small.archive.restore(LOG, Target::Epoch(corewal_format::Epoch(2)), &to, |_, _| Ok(())).unwrap();
    let mut needed = small.inventories[1].clone();
    needed.segments.retain(|s| restored.segments.iter().any(|(facts, _)| *facts == s.facts));
    assert_holds(&to, &needed);
}
