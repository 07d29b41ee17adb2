//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
}

impl Machine {
    /// Looks at the machine and at the file system that `dir` is on.
    pub(crate) fn look(dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let processor =
            processors.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string()[..10].to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.map_or("unknown processor", |(_, name)| name.trim()).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").split(['-', '\n']).next().unwrap_or_default().to_owned(),
            file_system: file_system(&read("/proc/self/mountinfo"), dir).unwrap_or("unknown").to_owned(),
        }
    }

    pub(crate) fn line(&self) -> String {
        let Self { date, cores, processor, kernel, file_system } = self;
        format!("{date}; {cores} cores of {processor}, {file_system}, Linux {kernel}")
    }
}

/// The type of the mount that `dir` is in: the one with the longest path that leads there.
fn file_system<'m>(mounts: &'m str, dir: &Path) -> Option<&'m str> {
    let mounted = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let at = Path::new(mount.split(' ').nth(4)?);
        dir.starts_with(at).then_some((at.as_os_str().len(), kind.split(' ').next()?))
    });
    // The last of equals: it lies on top.
    mounted.max_by_key(|(len, _)| *len).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:3 / /tmp rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmpfs")), Some("ext4"));
    }
}
