//! `corewal get`

use super::not_built_in;
use crate::args::{Common, Get};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, _args: &Get) -> Result<Exit, Failure> {
    Err(not_built_in("get"))
}
