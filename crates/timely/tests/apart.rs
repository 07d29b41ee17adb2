//! Processes that share nothing but object storage, as on several machines: each
//! has a directory of its own, and the state finds its way between them.
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "a test: processes, files, the clock")]

#[allow(dead_code, reason = "other tests use more of it")]
mod cluster;

use cluster::{Cluster, Shape, Workload};

/// What the processes of the job run: this program again, told to by its
/// environment.
#[test]
fn process() {
    cluster::process_if_told();
}

fn workload(seed: u64) -> Workload {
    Workload { records: 150_000, partitions: 4, seed }
}

/// Starts the job, and kills all of it once it goes on.
fn some_epochs(cluster: &mut Cluster, shape: Shape) {
    let mut running = cluster.start(shape, false);
    running.wait_until_it_goes_on();
    running.kill_all();
}

#[test]
fn in_other_numbers_and_places_than_before_it_goes_on_with_all_of_its_state() {
    let mut cluster = Cluster::apart(workload(31));
    some_epochs(&mut cluster, Shape(2, 2));
    some_epochs(&mut cluster, Shape(2, 2));
    // Another number of workers; then a machine more, with nothing on it.
    some_epochs(&mut cluster, Shape(2, 1));
    some_epochs(&mut cluster, Shape(3, 1));
    // Each finds what was another's.
    cluster.swap(0, 2);
    some_epochs(&mut cluster, Shape(3, 1));
    // A machine less: another one has been given what was on it.
    cluster.bring(2, 1);
    some_epochs(&mut cluster, Shape(2, 1));
    cluster.start(Shape(2, 2), false).wait_until_it_ends();
    cluster.assert_as_the_oracle();
    cluster.assert_no_litter();
}

#[test]
fn with_a_part_of_the_state_out_of_reach_it_does_not_start_and_loses_nothing() {
    let mut cluster = Cluster::apart(workload(32));
    some_epochs(&mut cluster, Shape(2, 1));
    let said = cluster.start(Shape(1, 2), false).wait_for_failure();
    assert!(said[0].contains("process-0001 is not there: a part of the job's state is in it"), "{said:?}");
    cluster.start(Shape(2, 1), false).wait_until_it_ends();
    cluster.assert_as_the_oracle();
}
