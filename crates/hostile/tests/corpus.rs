//! The kept inputs, by a plain test: what a fuzzer found once stays mended, and
//! no input goes stale. (`scripts/fuzz.sh` looks for new ones.)
#![allow(clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use corewal_hostile::{Outcome, TARGETS, Target};

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target.name)
}

#[test]
fn every_kept_input_gives_data_or_an_error() {
    for target in TARGETS {
        let dir = corpus(&target);
        let mut outcomes = BTreeSet::new();
        let mut count = 0;
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            outcomes.insert((target.check)(&fs::read(&path).expect("readable")));
            count += 1;
        }
        assert!(count >= (target.seeds)().len(), "{}: only {count} inputs are kept", target.name);
        // A target that lets nothing in, or everything, tries nothing.
        assert_eq!(outcomes, [Outcome::Refused, Outcome::Taken].into(), "{}", target.name);
    }
}

#[test]
fn inputs_made_of_today_s_stores_give_data_or_an_error() {
    for target in TARGETS {
        for (name, input) in (target.seeds)() {
            println!("{} {name}", target.name);
            let outcome = (target.check)(&input);
            assert!(!name.starts_with("as_it_is") || outcome == Outcome::Taken, "{} {name}", target.name);
        }
        (target.check)(&[]);
    }
}
