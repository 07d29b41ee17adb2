//! `corewal info`

use super::not_built_in;
use crate::args::Common;
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common) -> Result<Exit, Failure> {
    Err(not_built_in("info"))
}
