//! The board of epochs, in every order; and weakened, so that it has to break.

use corewal_models::epochs::{
    a_core_releases, numbers_are_given_once, one_takes_part_again, told_by_another, two_cores_end,
};
use corewal_models::{Weak, breaks};

#[test]
fn who_is_told_that_an_epoch_is_complete_sees_what_the_cores_did_for_it() {
    loom::model(two_cores_end);
    loom::model(told_by_another);
}

#[test]
fn a_core_that_takes_part_again_makes_no_epoch_less_complete() {
    loom::model(one_takes_part_again);
}

#[test]
fn an_epoch_s_number_is_given_once() {
    loom::model(numbers_are_given_once);
}

#[test]
fn a_core_that_may_release_sees_the_checkpoint() {
    loom::model(a_core_releases);
}

#[test]
fn with_relaxed_reports_complete_is_not_seen() {
    assert!(breaks(Weak::Stores, two_cores_end));
    assert!(breaks(Weak::Loads, two_cores_end));
    assert!(breaks(Weak::Stores, a_core_releases));
    assert!(breaks(Weak::Loads, a_core_releases));
}

#[test]
fn with_relaxed_updates_being_told_by_another_is_not_seeing() {
    assert!(breaks(Weak::Updates, told_by_another));
}
