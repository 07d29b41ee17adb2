//! Ctrl-C: the first asks for an orderly end, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::Failure;

/// The shell's code for a program ended by an interrupt.
const INTERRUPTED: i32 = 130;

/// From now on Ctrl-C (or a termination signal) sets the flag, and says what
/// is still being done. A second one ends the process after `before_leaving`.
pub(crate) fn watch(
    still: &'static str,
    before_leaving: impl Fn() + Send + 'static,
) -> Result<Arc<AtomicBool>, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::AcqRel) {
            before_leaving();
            std::process::exit(INTERRUPTED);
        }
        eprintln!("interrupted: {still} (once more to leave at once)");
    })?;
    Ok(asked)
}
