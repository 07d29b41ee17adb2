//! `corewal ingest`

use crate::args::{Common, Ingest};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Ingest) -> Result<Exit, Failure> {
    crate::ingest::run(common, args)
}
