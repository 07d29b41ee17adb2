//! The grammar of names inside a store's directory.
//!
//! ```text
//! DIR/LOCK                              held while a process owns the store
//! DIR/MANIFEST                          the root (see docs/FORMAT.md)
//! DIR/MANIFEST.new                      the next root, before its rename
//! DIR/core-0003/                        the log of core 3
//! DIR/core-0003/00000000000000000012.wal  its segment 12
//! DIR/core-0003/00000000000000000013.spare  a file that is to become a segment
//! ```
//!
//! A name is ours if it is exactly what these functions print; any other name
//! is left alone.

use crate::limit::MAX_CORES;
use crate::{CoreId, SegmentId};

/// Name of the lock file.
pub const LOCK: &str = "LOCK";
/// Name of the manifest.
pub const MANIFEST: &str = "MANIFEST";
/// Name under which the next manifest is written before it replaces the old.
pub const MANIFEST_NEW: &str = "MANIFEST.new";

/// Name of a core's directory.
#[must_use]
pub fn core_dir(core: CoreId) -> String {
    format!("core-{:04}", core.0)
}

/// The core whose directory has this name.
#[must_use]
pub fn parse_core_dir(name: &str) -> Option<CoreId> {
    let core = CoreId(name.strip_prefix("core-")?.parse().ok()?);
    (core.0 < MAX_CORES && core_dir(core) == name).then_some(core)
}

/// Name of a segment's file.
#[must_use]
pub fn segment(segment: SegmentId) -> String {
    format!("{:020}.wal", segment.0)
}

/// The segment whose file has this name.
#[must_use]
pub fn parse_segment(name: &str) -> Option<SegmentId> {
    let id = SegmentId(name.strip_suffix(".wal")?.parse().ok()?);
    (segment(id) == name).then_some(id)
}

/// Name of a file that held a segment, or is to become one, and is none now.
/// The number only keeps such names apart.
#[must_use]
pub fn spare(number: SegmentId) -> String {
    format!("{:020}.spare", number.0)
}

/// The number of the spare file that has this name.
#[must_use]
pub fn parse_spare(name: &str) -> Option<SegmentId> {
    let number = SegmentId(name.strip_suffix(".spare")?.parse().ok()?);
    (spare(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_spelling_is_ours() {
        assert_eq!(parse_core_dir("core-0003"), Some(CoreId(3)));
        for other in ["core-3", "core-00003", "core-+003", "core-1024", "core-", "Core-0003", "core-0003/"] {
            assert_eq!(parse_core_dir(other), None, "{other}");
        }
        let name = segment(SegmentId(12));
        assert_eq!(name, "00000000000000000012.wal");
        assert_eq!(parse_segment(&name), Some(SegmentId(12)));
        assert_eq!(parse_segment(&segment(SegmentId(u64::MAX))), Some(SegmentId(u64::MAX)));
        for other in ["12.wal", "+0000000000000000012.wal", "00000000000000000012.wal~", "99999999999999999999.wal"] {
            assert_eq!(parse_segment(other), None, "{other}");
        }
        assert_eq!(parse_spare(&spare(SegmentId(7))), Some(SegmentId(7)));
        assert_eq!((parse_spare(&name), parse_segment(&spare(SegmentId(7)))), (None, None));
    }
}
