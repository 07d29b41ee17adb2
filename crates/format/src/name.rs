//! The grammar of names inside a store's directory.
//!
//! ```text
//! DIR/LOCK                              held while a process owns the store
//! DIR/MANIFEST                          the root (see docs/FORMAT.md)
//! DIR/MANIFEST.old                      the root before it
//! DIR/MANIFEST.new                      the next root, before its rename
//! DIR/ARCHIVE                           which archives the store has, if any
//! DIR/ARCHIVE.new                       the next such list, before its rename
//! DIR/core-0003/                        the log of core 3
//! DIR/core-0003-g2/                     the log of core 3, of generation 2
//! DIR/core-0003/00000000000000000012.wal  its segment 12
//! DIR/core-0003/00000000000000000013.spare  a file that is to become a segment
//! DIR/runs/00000000000000000004.run     run 4, a sorted file of a checkpoint
//! DIR/damaged-0001/                     what the first repair kept aside
//! ```
//!
//! A name is ours if it is exactly what these functions print; any other name
//! is left alone.

use crate::limit::MAX_CORES;
use crate::{CoreId, RunId, SegmentId};

/// Name of the lock file.
pub const LOCK: &str = "LOCK";
/// Name of the manifest.
pub const MANIFEST: &str = "MANIFEST";
/// Name under which the next manifest is written before it replaces the old.
pub const MANIFEST_NEW: &str = "MANIFEST.new";

/// Name of the manifest before the current one.
pub const MANIFEST_OLD: &str = "MANIFEST.old";
/// Name of the file in which a store remembers its archives.
pub const ARCHIVE: &str = "ARCHIVE";
/// Name under which the next such list is written.
pub const ARCHIVE_NEW: &str = "ARCHIVE.new";
/// Name of the file that says that a directory is the work of a restore.
pub const RESTORE_MARK: &str = ".corewal-restore";
/// Name of the directory of runs.
pub const RUNS: &str = "runs";

/// Name of a core's directory in the store's `generation`: each change of the
/// number of cores begins a new one.
#[must_use]
pub fn core_dir(core: CoreId, generation: u32) -> String {
    match generation {
        0 => format!("core-{:04}", core.0),
        _ => format!("core-{:04}-g{generation}", core.0),
    }
}

/// The core, and the generation, whose directory has this name.
#[must_use]
pub fn parse_core_dir(name: &str) -> Option<(CoreId, u32)> {
    let rest = name.strip_prefix("core-")?;
    let (core, generation) = rest.split_once("-g").unwrap_or((rest, "0"));
    let (core, generation) = (CoreId(core.parse().ok()?), generation.parse().ok()?);
    (core.0 < MAX_CORES && core_dir(core, generation) == name).then_some((core, generation))
}

/// Name of a run's file.
#[must_use]
pub fn run(run: RunId) -> String {
    format!("{:020}.run", run.0)
}

/// The run whose file has this name.
#[must_use]
pub fn parse_run(name: &str) -> Option<RunId> {
    name.strip_suffix(".run").and_then(twenty_digits).map(RunId)
}

/// Name of a segment's file.
#[must_use]
pub fn segment(segment: SegmentId) -> String {
    format!("{:020}.wal", segment.0)
}

/// The segment whose file has this name.
#[must_use]
pub fn parse_segment(name: &str) -> Option<SegmentId> {
    name.strip_suffix(".wal").and_then(twenty_digits).map(SegmentId)
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
    name.strip_suffix(".spare").and_then(twenty_digits).map(SegmentId)
}

/// A number as it is printed in twenty digits, which is enough for each.
fn twenty_digits(text: &str) -> Option<u64> {
    (text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Name of the directory in which the repair of this number keeps what it
/// changes or removes.
#[must_use]
pub fn damaged(number: u32) -> String {
    format!("damaged-{number:04}")
}

/// The number of the repair whose directory has this name.
#[must_use]
pub fn parse_damaged(name: &str) -> Option<u32> {
    let number = name.strip_prefix("damaged-")?.parse().ok()?;
    (number > 0 && damaged(number) == name).then_some(number)
}

/// Whether a file of this name stands in a store's own directory.
#[must_use]
pub fn is_file_of_store(name: &str) -> bool {
    [LOCK, MANIFEST, MANIFEST_OLD, MANIFEST_NEW, ARCHIVE, ARCHIVE_NEW, RESTORE_MARK].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_spelling_is_ours() {
        assert_eq!(parse_core_dir("core-0003"), Some((CoreId(3), 0)));
        assert_eq!(parse_core_dir("core-0003-g12"), Some((CoreId(3), 12)));
        assert_eq!(parse_run(&run(RunId(7))), Some(RunId(7)));
        for other in [
            "core-0003-g0",
            "core-0003-g02",
            "core-0003-g",
            "core-0003-g1-g1",
            "core-3",
            "core-00003",
            "core-+003",
            "core-1024",
            "core-",
            "Core-0003",
            "core-0003/",
        ] {
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
        assert_eq!((parse_damaged("damaged-0001"), parse_damaged("damaged-12345")), (Some(1), Some(12345)));
        for other in ["damaged-", "damaged-1", "damaged-0000", "damaged-00001", "damaged-+001", "damaged-0001/x"] {
            assert_eq!(parse_damaged(other), None, "{other}");
        }
        assert!(is_file_of_store("LOCK") && !is_file_of_store("lock") && !is_file_of_store("MANIFEST.older"));
    }
}
