//! The room of randomness: the only place that draws random bytes, once in the
//! life of a store.

use corewal_format::LogId;

/// A fresh identity for a new store.
#[expect(clippy::disallowed_methods, reason = "this is the room of randomness")]
pub(crate) fn fresh_log_id() -> std::io::Result<LogId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(std::io::Error::other)?;
    Ok(LogId(id))
}
