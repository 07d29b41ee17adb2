//! The hand-off of the durable position, in every order; and weakened, so that it
//! has to break.

use corewal_models::durable::{one_gives_up, one_waits, the_owner_goes, two_wait};
use corewal_models::{Weak, breaks};

#[test]
fn nobody_sleeps_through_the_moment_he_waits_for() {
    loom::model(one_waits);
    loom::model(two_wait);
}

#[test]
fn an_owner_that_goes_wakes_everybody_and_is_believed_only_after_what_it_said_last() {
    loom::model(|| the_owner_goes(true));
    loom::model(|| the_owner_goes(false));
}

#[test]
fn a_waiter_that_gives_up_takes_nobody_with_it() {
    loom::model(one_gives_up);
}

#[test]
fn without_sequential_consistency_a_waiter_sleeps_for_ever() {
    assert!(breaks(Weak::Sequential, one_waits));
    assert!(breaks(Weak::Sequential, two_wait));
}
