//! `corewal bench`

use crate::args::{Bench, Common};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Bench) -> Result<Exit, Failure> {
    crate::bench::run(common, args)
}
