//! `corewal ingest`

use super::not_built_in;
use crate::args::{Common, Ingest};
use crate::exit::{Exit, Failure};

pub(super) fn run(_common: &Common, args: &Ingest) -> Result<Exit, Failure> {
    args.check()?;
    Err(not_built_in("ingest"))
}
