//! `corewal torture-child`

use crate::args::{Common, TortureChild};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &TortureChild) -> Result<Exit, Failure> {
    crate::torture::child(common, args)
}
