//! `corewal scan`

use super::not_built_in;
use crate::args::{Common, Scan};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, _args: &Scan) -> Result<Exit, Failure> {
    Err(not_built_in("scan"))
}
