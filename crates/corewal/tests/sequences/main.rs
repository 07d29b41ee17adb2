#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: threads and time of the walk, small numbers"
)]
//! All sequences of up to three operations on two cores, crashed at the steps
//! of their last operation: of each moment the images of the simulated disk are
//! gone through in order (`SimSnapshot::images`), opened, and held to the
//! promises by the crash loop's oracle.
//!
//! | module | what is in it |
//! |---|---|
//! | `operation` | the operations, and what a sequence is |
//! | `world` | where a sequence begins: the disk, the mode, what is there |
//! | `looker` | one moment: its images, opened and compared |
//! | `walk` | many sequences on all threads, and the report |
//!
//! ```text
//! COREWAL_SEQUENCES=full cargo test -p corewal --test sequences -- --nocapture    # or deep
//! COREWAL_SEQUENCES=full COREWAL_SEQUENCES_PART=0/16 cargo test -p corewal --test sequences -- --nocapture
//! COREWAL_SEQUENCE='worked direct latest 0: one0 epoch sync1' cargo test -p corewal --test sequences -- --nocapture
//! ```

#[path = "../crash_loop/engine/mod.rs"]
mod engine;
mod looker;
mod operation;
mod walk;
mod world;

use looker::Plan;
use walk::{Case, Report, walk};

/// One case, as a failure tells it, to be replayed alone.
const ONE: &str = "COREWAL_SEQUENCE";
/// The name of a plan. `outline` is taken for a sample of the cases, all others
/// for all of them.
const HOW_FAR: &str = "COREWAL_SEQUENCES";
/// As `3/16`: of the cases, those whose number is 3 modulo 16.
const PART: &str = "COREWAL_SEQUENCES_PART";

/// The cases of the part that is asked for.
fn part(cases: Vec<Case>) -> Vec<Case> {
    let Ok(text) = std::env::var(PART) else { return cases };
    let numbers = text.split_once('/').and_then(|(at, of)| Some((at.parse().ok()?, of.parse().ok()?)));
    let (at, of): (usize, usize) = numbers.unwrap_or_else(|| panic!("{PART} is not like `3/16`"));
    cases.into_iter().skip(at).step_by(of).collect()
}

#[test]
fn every_sequence_of_up_to_three_operations_keeps_the_promises() {
    let name = std::env::var(HOW_FAR).unwrap_or_else(|_| Plan::OUTLINE.name.into());
    let plan = Plan::named(&name).unwrap_or_else(|| panic!("{HOW_FAR}: there is no plan `{name}`"));
    let cases = match std::env::var(ONE) {
        Ok(case) => vec![case.parse::<Case>().unwrap_or_else(|error| panic!("{ONE}: {error}")).told()],
        Err(_) if plan.name == Plan::OUTLINE.name => part(Case::some()),
        Err(_) => part(Case::all()),
    };
    let report = walk(&cases, &plan);
    println!("{report}");
    if let Report { violation: Some((case, error)), .. } = report {
        panic!(
            "{case}: {error}\nreplay it with\n  \
             {HOW_FAR}={name} {ONE}='{case}' cargo test -p corewal --test sequences -- --nocapture"
        );
    }
}

/// A walk that finds nothing where there is something proves nothing where
/// there is nothing.
#[test]
fn a_disk_whose_syncs_lie_is_found_by_a_sequence() {
    let cases: Vec<_> = Case::some().into_iter().map(Case::on_a_lying_disk).collect();
    let report = walk(&cases, &Plan::OUTLINE);
    println!("a disk whose syncs lie: {report}");
    let (case, error) = report.violation.expect("the walk does not find a disk whose syncs lie");
    println!("  found by {case}: {error}");
}
