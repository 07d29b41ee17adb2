#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests: threads and time of the campaign, small numbers"
)]
//! Every crash that the simulated disk can make is opened, and must give back
//! what was acknowledged. See `engine/mod.rs`.
//!
//! ```text
//! COREWAL_CRASH_STATES=100000 COREWAL_CRASH_FIRST=5000 cargo test -p corewal --test crash_loop
//! COREWAL_CRASH_SEEDS=100 COREWAL_CRASH_FIRST=20000 cargo test -p corewal --test crash_loop
//! COREWAL_CRASH_SEED=17 cargo test -p corewal --test crash_loop -- --nocapture
//! ```

mod engine;

use engine::{Campaign, Profile, run_seed, seed_from_environment, states_from_environment};

/// The first seed, so that a longer run goes on where nobody has been.
const FIRST_SEED: u64 = 0;

#[test]
fn every_crash_gives_back_what_was_acknowledged() {
    if let Some(seed) = seed_from_environment() {
        let profile = Profile { verbose: true, ..Profile::of(seed) };
        eprintln!("seed {seed}: {profile:?}");
        let (counts, outcome) = run_seed(&profile);
        eprintln!("seed {seed}: {counts:?}");
        assert!(outcome.is_ok(), "seed {seed}, after {} crash states: {}", counts.states, outcome.unwrap_err());
        return;
    }
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("COREWAL_CRASH_FIRST").unwrap_or(FIRST_SEED);
    // So many seeds, whatever they come to, or so many states.
    let seeds = number("COREWAL_CRASH_SEEDS");
    let states = states_from_environment(if seeds.is_some() { u64::MAX } else { 20_000 });
    let campaign = Campaign { first, states, seeds: seeds.unwrap_or(u64::MAX) };
    let report = campaign.run(Profile::of);
    println!("{report}; from seed {first} on");
    if let Some((seed, error)) = report.violation {
        panic!(
            "seed {seed}: {error}\nreplay it with\n  \
             COREWAL_CRASH_SEED={seed} cargo test -p corewal --test crash_loop -- --nocapture"
        );
    }
}

/// A seed that makes stores of copies: they were once opened on threads, so the
/// steps to crash at came in another order each time.
#[test]
fn a_seed_replays_the_same_states() {
    let run = || run_seed(&Profile::of(9002));
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(run);
        (run(), one.join().unwrap())
    });
    assert_eq!(one, other);
    assert!(one.1.is_ok() && one.0.restored > 0, "{one:?}");
}
