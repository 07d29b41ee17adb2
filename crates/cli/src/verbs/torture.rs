//! `corewal torture`

use crate::args::{Common, Torture};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Torture) -> Result<Exit, Failure> {
    crate::torture::run(common, args)
}
