//! Whether a peer syncs, by its system calls.
//!
//! A process makes a number of commits under strace, and another one opens the log and makes none; what the first has
//! more is what the commits took.

use std::collections::HashSet;

use serde::Serialize;

/// What strace has to look at.
pub(crate) const TRACED: &str =
    "trace=openat,fsync,fdatasync,msync,sync_file_range,pwrite64,pwritev,pwritev2,write,writev,io_uring_enter";

/// How a peer's commits reach the disk.
#[derive(Clone, Copy, Default, Serialize, Debug, PartialEq)]
pub(crate) struct Syncs {
    /// fsync, fdatasync, msync, and writes that are synchronous by themselves; a commit.
    pub(crate) calls: f64,
    /// io_uring_enter, whose content strace does not show; a commit.
    pub(crate) rings: f64,
}

impl Syncs {
    /// The difference of two traces over `commits` commits.
    pub(crate) fn of(with: &str, without: &str, commits: u64) -> Self {
        let (with, without) = (count(with), count(without));
        let each = |with: u64, without: u64| (with as f64 - without as f64).max(0.0) / commits as f64;
        Self { calls: each(with.0, without.0), rings: each(with.1, without.1) }
    }

    /// Whether commits can be durable: there is something for every one of them.
    pub(crate) fn enough(&self) -> bool {
        self.calls + self.rings > 0.95
    }

    pub(crate) fn text(&self) -> String {
        match (self.calls, self.rings) {
            (calls, 0.0) => format!("{calls:.2}"),
            (0.0, rings) => format!("{rings:.2} ring"),
            (calls, rings) => format!("{calls:.2} + {rings:.2} ring"),
        }
    }
}

/// Synchronous calls and calls into rings.
fn count(trace: &str) -> (u64, u64) {
    // Files opened so that each write is a sync.
    let mut synchronous = HashSet::new();
    let (mut calls, mut rings) = (0, 0);
    for line in trace.lines() {
        // "123 fsync(4) = 0"; the end of an interrupted line says "resumed" and is not counted again.
        let Some((before, rest)) = line.split_once('(') else { continue };
        let call = before.rsplit(' ').next().unwrap_or(before);
        let file = || rest.split([',', ')', ' ']).next().unwrap_or_default();
        match call {
            "openat" => {
                let opened = line.rsplit("= ").next().unwrap_or_default().trim();
                if rest.contains("O_DSYNC") || rest.contains("O_SYNC") {
                    synchronous.insert(opened);
                } else {
                    synchronous.remove(opened);
                }
            }
            "fsync" | "fdatasync" => calls += 1,
            "msync" if rest.contains("MS_SYNC") => calls += 1,
            "pwritev2" if rest.contains("RWF_DSYNC") || rest.contains("RWF_SYNC") => calls += 1,
            "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" if synchronous.contains(file()) => calls += 1,
            "io_uring_enter" => rings += 1,
            _ => {}
        }
    }
    (calls, rings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_counted() {
        let trace = "10 openat(AT_FDCWD, \"a\", O_WRONLY|O_DSYNC|O_CLOEXEC) = 4\n\
                     10 pwrite64(4, \"x\"..., 4096, 0) = 4096\n\
                     10 pwrite64(5, \"x\"..., 4096, 0) = 4096\n\
                     11 fdatasync(5 <unfinished ...>\n\
                     11 <... fdatasync resumed>) = 0\n\
                     12 pwritev2(5, [{iov_base=\"x\", iov_len=1}], 1, 0, RWF_DSYNC) = 1\n\
                     12 io_uring_enter(3, 1, 1, 0, NULL, 8) = 1\n";
        assert_eq!(count(trace), (3, 1));
        assert!(Syncs::of(trace, "", 4).enough());
        assert!(!Syncs::of(trace, trace, 4).enough());
    }
}
