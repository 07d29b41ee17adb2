//! What the machine starts with: this program as `/init`, the modules that its
//! kernel needs, and its orders.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::guest::{MODULES, ORDERS, Orders};

/// A distribution's kernel, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The directory that `boot` and `lib/modules` are in.
    pub(crate) root: PathBuf,
    /// Its version.
    pub(crate) version: String,
}

impl Kernel {
    /// The kernel found in a directory.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let modules = root.join("lib/modules");
        let entries = fs::read_dir(&modules).with_context(|| format!("no kernel in {}", root.display()))?;
        let names: Vec<_> = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        let [version] = &names[..] else { anyhow::bail!("{} kernels in {}", names.len(), modules.display()) };
        Ok(Self { root: root.to_owned(), version: version.to_string_lossy().into_owned() })
    }

    /// What is booted.
    pub(crate) fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.version))
    }

    /// The modules that these need, and they themselves, in the order of
    /// loading. What is built in needs none.
    fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in wanted {
            let root = fs::canonicalize(&self.root)?;
            let mut command = Command::new("modprobe");
            command.arg("-d").arg(root).args(["-S", &self.version, "--show-depends", name]);
            let output = command.output().context("can't run modprobe (package kmod)")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "modprobe of {name}: {said}");
            for line in String::from_utf8(output.stdout)?.lines() {
                let file = line.strip_prefix("insmod ").map(|rest| PathBuf::from(rest.trim()));
                files.extend(file.filter(|file| !files.contains(file)));
            }
        }
        Ok(files)
    }
}

/// Writes the archive.
pub(crate) fn write(to: &Path, kernel: &Kernel, orders: &Orders) -> Result<()> {
    let mut archive = Archive { file: File::create(to)?, inode: 0 };
    for dir in ["dev", "proc", "sys", "disk", MODULES] {
        archive.add(dir, ModeFileType::Directory, 0o755, &[])?;
    }
    let program = fs::read(std::env::current_exe()?)?;
    archive.add("init", ModeFileType::Regular, 0o755, &program)?;
    archive.add(ORDERS, ModeFileType::Regular, 0o644, &serde_json::to_vec(orders)?)?;
    let wanted = ["virtio_pci", "virtio_blk", orders.file_system.as_str()];
    for (at, module) in kernel.modules(&wanted)?.iter().enumerate() {
        let bytes = fs::read(module).with_context(|| format!("can't read {}", module.display()))?;
        ensure!(bytes.starts_with(b"\x7fELF"), "{} is compressed", module.display());
        archive.add(&format!("{MODULES}/{at:03}.ko"), ModeFileType::Regular, 0o644, &bytes)?;
    }
    trailer(archive.file)?.flush()?;
    Ok(())
}

struct Archive {
    file: File,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, kind: ModeFileType, mode: u32, bytes: &[u8]) -> Result<()> {
        self.inode += 1;
        let entry = Builder::new(name).ino(self.inode).nlink(1).mode(mode).set_mode_file_type(kind);
        let mut writer = entry.write(self.file.try_clone()?, u32::try_from(bytes.len())?);
        writer.write_all(bytes)?;
        writer.finish()?;
        Ok(())
    }
}
