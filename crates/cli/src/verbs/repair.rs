//! `corewal repair`

use super::not_built_in;
use crate::args::{Common, Repair};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, _args: &Repair) -> Result<Exit, Failure> {
    Err(not_built_in("repair"))
}
