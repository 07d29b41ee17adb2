//! Processes of a job are killed, hang and come back, in other numbers than
//! before: at the end its state and its output are those of a run in which
//! nothing happened.
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "a test: processes, files, the clock")]

#[allow(dead_code, reason = "the kills with a broker use more of it")]
mod cluster;

use std::time::Duration;

use cluster::{Cluster, Shape, Workload};

/// More for the long form: COREWAL_TIMELY_KILLS=30.
fn kills() -> u32 {
    std::env::var("COREWAL_TIMELY_KILLS").map_or(6, |kills| kills.parse().expect("a number"))
}

/// What the processes of the job run: this program again, told to by its
/// environment.
#[test]
fn process() {
    cluster::process_if_told();
}

/// Records by the number of kills, so that the job is not at its end before.
fn workload() -> Workload {
    Workload { records: 34_000 * u64::from(kills().max(6)), partitions: 4, seed: 7 }
}

const SHAPES: [Shape; 4] = [Shape(2, 2), Shape(1, 4), Shape(2, 1), Shape(4, 1)];

#[test]
fn whatever_is_killed_the_state_and_the_output_are_those_of_the_oracle() {
    let mut cluster = Cluster::new(workload());
    let mut random = fastrand::Rng::with_seed(3);
    for kill in 0..kills() {
        let shape = if kill % 3 == 0 { SHAPES[random.usize(..SHAPES.len())] } else { Shape(2, 2) };
        let mut running = cluster.start(shape, false);
        running.wait_until_it_goes_on();
        std::thread::sleep(Duration::from_millis(random.u64(0..600)));
        match random.usize(..=usize::from(shape.0)) {
            all if all == usize::from(shape.0) => running.kill_all(),
            one => {
                running.kill(one);
                // Who has lost another ends by itself, and says so.
                let said = running.wait_for_the_others(one);
                assert!(said.iter().all(|said| said.starts_with("the connection to another process")), "{said:?}");
            }
        }
    }
    cluster.start(Shape(2, 2), false).wait_until_it_ends();
    cluster.assert_as_the_oracle();
    cluster.assert_no_litter();
}

#[test]
fn asked_to_stop_all_end_in_order_and_go_on_later() {
    let mut cluster = Cluster::new(Workload { records: 150_000, partitions: 4, seed: 15 });
    let mut rows = 0;
    for (asked, shape) in [(0, Shape(2, 2)), (1, Shape(2, 2)), (0, Shape(1, 4))] {
        let mut running = cluster.start(shape, false);
        running.wait_until_it_goes_on();
        cluster.stop(running, asked);
        // All that was complete is published, and nothing is staged.
        cluster.assert_no_litter();
        assert!(cluster.rows() >= rows);
        rows = cluster.rows();
    }
    assert!(!cluster.is_done(), "windows that are not over are not put out");
    cluster.start(Shape(2, 2), false).wait_until_it_ends();
    cluster.assert_as_the_oracle();
}

#[test]
fn who_hangs_while_others_take_over_is_fenced_and_says_so() {
    let mut cluster = Cluster::new(Workload { records: 150_000, partitions: 4, seed: 9 });
    for hangs in [0, 1] {
        let mut stale = cluster.start(Shape(2, 2), false);
        stale.wait_until_it_goes_on();
        stale.stop(hangs);
        stale.kill(1 - hangs);
        // It still has its store, so it takes a word to pass it by.
        let said = cluster.start(Shape(2, 2), false).wait_for_failure();
        assert!(said.iter().any(|said| said.contains("is in use")), "{said:?}");
        let mut heirs = cluster.start(Shape(2, 2), true);
        heirs.wait_until_it_goes_on();
        stale.go_on(hangs);
        let said = stale.wait_for(hangs);
        assert!(said.starts_with("fenced: this is start"), "{said}");
        heirs.kill_all();
    }
    cluster.start(Shape(1, 4), true).wait_until_it_ends();
    cluster.assert_as_the_oracle();
}

#[test]
fn who_is_cut_off_while_others_take_over_is_fenced_and_says_so() {
    let mut cluster = Cluster::new(Workload { records: 60_000, partitions: 4, seed: 21 });
    let (mut stale, network) = cluster.start_to_be_cut(2);
    stale.wait_until_it_goes_on();
    network.cut();
    // Both are there, and neither can do anything without the other.
    cluster.start(Shape(2, 2), true).wait_until_it_ends();
    cluster.assert_as_the_oracle();
    // The network stays as it is: the first looks whether it still has the job,
    // and the other sees its connection end, or waits for what never comes.
    let said = stale.wait_for(0);
    assert!(said.starts_with("fenced: this is start 1 of the job, and start 2 has taken over"), "{said}");
    drop(network);
    let said = stale.wait_for(1);
    assert!(said.starts_with("fenced: this is start 1"), "{said}");
    cluster.assert_as_the_oracle();
}
