//! Copies of a store, and damage to them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What is done to a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// In words, with file and place.
    pub(super) what: String,
}

const SECTOR: u64 = 512;

/// Copies a directory that nobody writes to.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    super::ground::remove(to)?;
    copy_into(from, to)
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_into(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Segments, runs and the manifest: what a store cannot do without.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let kept_by_repair = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("damaged-"));
        if path.is_dir() && !kept_by_repair {
            found.extend(files(&path)?);
            continue;
        }
        let named = path.file_name().is_some_and(|name| name == "MANIFEST")
            || path.extension().is_some_and(|end| end == "wal" || end == "run");
        if named && fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Damages one file of the store in `dir`, or two.
pub(super) fn damage(dir: &Path, random: &mut fastrand::Rng) -> io::Result<Damage> {
    let files = files(dir)?;
    let path = &files[random.usize(..files.len())];
    let len = fs::metadata(path)?.len();
    let at = random.u64(..len);
    let shown = |path: &Path| path.strip_prefix(dir).unwrap_or(path).display().to_string();
    let name = shown(path);
    let what = match random.u8(..6) {
        0 | 1 => {
            let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            let bit = random.u8(..8);
            byte[0] ^= 1 << bit;
            file.write_all_at(&byte, at)?;
            format!("bit {bit} of byte {at} of {name} flipped")
        }
        2 => {
            let from = at / SECTOR * SECTOR;
            let zeros = vec![0; usize::try_from(SECTOR.min(len - from)).expect("a sector")];
            fs::OpenOptions::new().write(true).open(path)?.write_all_at(&zeros, from)?;
            format!("the sector at {from} of {name} zeroed")
        }
        3 => {
            let to = at / SECTOR * SECTOR;
            fs::OpenOptions::new().write(true).open(path)?.set_len(to)?;
            format!("{name} cut from {len} to {to} bytes")
        }
        4 => {
            fs::remove_file(path)?;
            format!("{name} removed")
        }
        _ => {
            let other = &files[random.usize(..files.len())];
            let aside = dir.join("aside");
            fs::rename(path, &aside)?;
            if other != path {
                fs::rename(other, path)?;
            }
            fs::rename(aside, other)?;
            format!("{name} and {} swapped", shown(other))
        }
    };
    Ok(Damage { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_damage_is_made_and_only_to_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (store, target) = (dir.path().join("store"), dir.path().join("copy"));
        drop(corewal::Options::new().cores(2).open(&store).unwrap());
        let content = |dir: &Path| -> Vec<_> {
            files(dir)
                .unwrap()
                .iter()
                .map(|path| (path.strip_prefix(dir).unwrap().to_owned(), fs::read(path).unwrap()))
                .collect()
        };
        let before = content(&store);
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..60 {
            copy(&store, &target).unwrap();
            let what = damage(&target, &mut fastrand::Rng::with_seed(seed)).unwrap().what;
            let kind = ["flipped", "zeroed", "cut", "removed", "swapped"].into_iter().find(|kind| what.contains(kind));
            kinds.insert(kind.unwrap());
            assert_eq!(content(&store), before);
        }
        assert_eq!(kinds.len(), 5, "{kinds:?}");
    }
}
