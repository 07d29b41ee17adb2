//! The machine: what a figure was measured on.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

/// The facts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    /// The processor, as it calls itself.
    pub(super) cpu: String,
    /// Cores that the program may use.
    pub(super) cores: usize,
    /// The kernel's release.
    pub(super) kernel: String,
    /// The file system of the directory, and the device it is on.
    pub(super) filesystem: String,
    /// When.
    pub(super) date: String,
}

impl Machine {
    /// This one; `dir` is where the stores are.
    pub(super) fn look(dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        Self {
            cpu: cpu(&read("/proc/cpuinfo")).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_owned())
                .filter(|release| !release.is_empty())
                .map_or_else(|| std::env::consts::OS.to_owned(), |release| format!("Linux {release}")),
            filesystem: dir
                .canonicalize()
                .ok()
                .and_then(|dir| filesystem(&read("/proc/self/mountinfo"), &dir))
                .unwrap_or_else(unknown),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let Self { cpu, cores, kernel, filesystem, date } = self;
        format!("{cpu}, {cores} core(s); {kernel}; {filesystem}; {date}")
    }
}

fn cpu(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The file system that holds `dir`: that of the longest mount point that is a
/// beginning of it; of several on one point, the last (`proc(5)`, mountinfo).
fn filesystem(mountinfo: &str, dir: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = Path::new(before.split(' ').nth(4)?);
        let mut after = after.split(' ');
        dir.starts_with(point).then_some((point.components().count(), after.next()?, after.next()?))
    });
    let (_, kind, source) = mounts.max_by_key(|mount| mount.0)?;
    Some(format!("{kind} on {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_counts() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      23 22 0:5 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw\n\
                      24 22 0:6 / /tmpfiles rw - xfs /dev/vdb rw\n";
        let of = |dir: &str| filesystem(mounts, Path::new(dir)).unwrap();
        assert_eq!(of("/tmp/x"), "tmpfs on tmpfs");
        assert_eq!(of("/tmpfiles"), "xfs on /dev/vdb");
        assert_eq!(of("/home/me"), "ext4 on /dev/vda");
        assert_eq!(filesystem("", Path::new("/")), None);
    }

    #[test]
    fn the_processor_names_itself() {
        assert_eq!(cpu("processor : 0\nmodel name\t: AMD EPYC\n").as_deref(), Some("AMD EPYC"));
        assert_eq!(cpu("Features : fp asimd\n"), None);
    }
}
