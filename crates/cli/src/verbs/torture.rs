//! `corewal torture`

use super::not_built_in;
use crate::args::{Common, Torture};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, _args: &Torture) -> Result<Exit, Failure> {
    Err(not_built_in("torture"))
}
