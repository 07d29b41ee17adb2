//! `corewal dump`

use super::not_built_in;
use crate::args::{Common, Dump};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, _args: &Dump) -> Result<Exit, Failure> {
    Err(not_built_in("dump"))
}
