//! `corewal torture-child`

use super::not_built_in;
use crate::args::{Common, TortureChild};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, _args: &TortureChild) -> Result<Exit, Failure> {
    Err(not_built_in("torture-child"))
}
