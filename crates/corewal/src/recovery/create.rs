//! The making of a store, and its manifest.
//!
//! The manifest is written twice: `creating` before any log exists, `ready`
//! when all of them do. So a missing log of a ready store was lost, and a
//! missing log of one that is being created never held anything.

use std::io;
use std::path::{Path, PathBuf};

use corewal_format::{
    BLOCK_LEN, CoreId, Lsn, MAX_CORES, MAX_MANIFEST_LEN, Manifest, ManifestError, ManifestState, SegmentId, name,
};
use corewal_io::{EntryKind, OpenMode, Storage};

use crate::entropy::fresh_log_id;
use crate::error::{Damage, Error, Result};
use crate::layout::Layout;
use crate::options::Options;
use crate::planted::PlantedBug;
use crate::route::Router;
use crate::scan::{LogIdentity, Verdict};
use crate::segments::{Want, create_segment};

/// The manifest that counts.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) manifest: Manifest,
    /// What is wrong with the newest one, if this is the one before it.
    pub(crate) instead: Option<String>,
}

/// Creates the directory, and those above it, if it is allowed to and they are
/// not there.
pub(crate) fn ensure_dir<S: Storage>(layout: &Layout<S>, create: bool) -> Result<()> {
    let dir = &layout.dir;
    match layout.storage.list(dir) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("list", dir, error)),
        Err(_) if !create => {
            return Err(Error::NotAStore { path: dir.clone(), why: "there is no such directory" });
        }
        Err(_) => {}
    }
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && layout.storage.list(path).is_err()).collect();
    for path in missing.into_iter().rev() {
        create_dir(layout, path)?;
    }
    Ok(())
}

pub(crate) fn create_dir<S: Storage>(layout: &Layout<S>, path: &Path) -> Result<()> {
    match layout.storage.create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create the directory", path, error)),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    layout.sync_dir(parent.unwrap_or(Path::new(".")))
}

/// The manifest of the store, which is created if it is allowed to and not
/// there. Also tells whether it was.
pub(crate) fn ensure_store<S: Storage>(layout: &Layout<S>, options: &Options) -> Result<(Root, bool)> {
    let manifest = match load_manifest(layout) {
        Ok(root) if root.manifest.state == ManifestState::Ready => {
            // A process that died behind its rename may have left it in the
            // cache alone. Lost to a power cut, the store would be made anew
            // over what is appended from here on.
            if !layout.planted.has(PlantedBug::ManifestNotSettled) {
                layout.sync_dir(&layout.dir)?;
            }
            return Ok((root, false));
        }
        Ok(Root { manifest: unfinished, .. }) => {
            // Nothing was ever acknowledged, so the caller's wish counts.
            Manifest { cores: options.cores.unwrap_or(unfinished.cores), ..unfinished }
        }
        Err(Error::NotAStore { .. }) if options.create => {
            let log_id = match options.log_id {
                Some(log_id) => log_id,
                None => fresh_log_id().map_err(|error| Error::io("draw an identity for", &layout.dir, error))?,
            };
            let cores = options.cores.unwrap_or_else(|| crate::parallel::available().min(MAX_CORES));
            Manifest::new(log_id, cores, Router::NAME)
        }
        Err(error) => return Err(error),
    };
    settle_way(layout)?;
    write_manifest(layout, &manifest, None)?;
    create_dir(layout, &layout.runs())?;
    for core in (0..manifest.cores).map(CoreId) {
        create_log(layout, &manifest, core, Want::exactly(SegmentId(0), Lsn(0), options.tuning.first()))?;
    }
    let manifest = Manifest { state: ManifestState::Ready, number: manifest.number + 1, ..manifest };
    write_manifest(layout, &manifest, None)?;
    Ok((Root { manifest, instead: None }, true))
}

/// Makes an empty log that begins with the segment `want`.
pub(crate) fn create_log<S: Storage>(layout: &Layout<S>, manifest: &Manifest, core: CoreId, want: Want) -> Result<()> {
    create_dir(layout, &layout.core_dir(core))?;
    let log = LogIdentity::of(manifest, core);
    create_segment(layout, log, want).map(drop)
}

/// A store that is being created has logs without frames at the most. If there
/// are any, the manifest is an old one that somebody put back.
fn refuse_logs_with_data<S: Storage>(layout: &Layout<S>, cores: u16) -> Result<()> {
    for core in (0..cores).map(CoreId) {
        for segment in layout.list_segments(core)?.unwrap_or_default() {
            let path = layout.segment(core, segment);
            let file = layout.open(&path, OpenMode::Read)?;
            let mut first = vec![0; BLOCK_LEN];
            let read = layout.storage.read_at(&file, BLOCK_LEN as u64, &mut first);
            read.map_err(|error| Error::io("read", &path, error))?;
            if segment > SegmentId(0) || first.iter().any(|&byte| byte != 0) {
                let detail = "it says that the store is being created, though its logs hold data".to_owned();
                return Err(manifest_damage(layout.manifest(), detail));
            }
        }
    }
    Ok(())
}

/// Makes the way to the store durable: an earlier try that died may have made
/// directories and left them in the cache alone.
fn settle_way<S: Storage>(layout: &Layout<S>) -> Result<()> {
    for above in layout.dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match layout.sync_dir(above) {
            // Where this program may not look, it made nothing either.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

/// The manifest that counts. Refuses a directory that has logs but no manifest
/// (it is a damaged store, not an empty place) and one whose keys this program
/// can't route: whoever reads it, opens it, verifies or repairs it learns of that
/// in the same way.
pub(crate) fn load_manifest<S: Storage>(layout: &Layout<S>) -> Result<Root> {
    let root = choose_manifest(layout)?;
    if root.manifest.route != Router::NAME {
        let path = if root.instead.is_some() { layout.manifest_old() } else { layout.manifest() };
        let detail = format!("keys are routed by `{}`, which this program does not know", root.manifest.route);
        return Err(Error::Unsupported { path, detail });
    }
    Ok(root)
}

/// Reads the manifest, or the one before it if it is damaged, or was put back
/// from a time before that.
fn choose_manifest<S: Storage>(layout: &Layout<S>) -> Result<Root> {
    let (path, old) = (layout.manifest(), layout.manifest_old());
    // Read first, so that beside a writer it is never the newer one.
    let before = read_manifest(layout, &old)?;
    let before_counts = match &before {
        // Logs of a later generation are those of a manifest that is lost, and
        // may hold what this one knows nothing of.
        Some(Ok(before)) => before.state == ManifestState::Ready && !later_generation(layout, before.generation)?,
        _ => false,
    };
    let newest = match read_manifest(layout, &path)? {
        None if logs_in(layout)?.is_empty() => {
            return Err(Error::NotAStore { path: layout.dir.clone(), why: "it has no MANIFEST" });
        }
        // A store that was made in between has one by now: it comes first.
        None => read_manifest(layout, &path)?,
        found => found,
    };
    let why = match newest {
        Some(Ok(manifest)) => match &before {
            Some(Ok(before)) if before_counts && before.number >= manifest.number => {
                format!(
                    "the manifest, number {}, is not newer than the one before it, {}",
                    manifest.number, before.number
                )
            }
            _ => {
                if manifest.state == ManifestState::Creating {
                    refuse_logs_with_data(layout, manifest.cores)?;
                }
                return Ok(Root { manifest, instead: None });
            }
        },
        Some(Err(error @ ManifestError::Version { .. })) => {
            return Err(Error::Unsupported { path, detail: error.to_string() });
        }
        Some(Err(error)) => error.to_string(),
        None => format!("the manifest is absent, though there are {} log(s)", logs_in(layout)?.len()),
    };
    match before {
        Some(Ok(manifest)) if before_counts => {
            let instead = format!("{why} [{}]; {} counts", path.display(), old.display());
            Ok(Root { manifest, instead: Some(instead) })
        }
        Some(Err(error @ ManifestError::Version { .. })) => {
            Err(Error::Unsupported { path: old, detail: error.to_string() })
        }
        _ => Err(manifest_damage(path, why)),
    }
}

/// Whether there are logs of a later generation.
fn later_generation<S: Storage>(layout: &Layout<S>, than: u32) -> Result<bool> {
    for (core, generation) in logs_in(layout)?.into_iter().filter(|&(_, generation)| generation > than) {
        // One that was cut short leaves an empty directory.
        if layout.of_generation(generation).list_segments(core)?.is_some_and(|segments| !segments.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_manifest<S: Storage>(
    layout: &Layout<S>,
    path: &Path,
) -> Result<Option<std::result::Result<Manifest, ManifestError>>> {
    let bytes = layout.read_small(path, MAX_MANIFEST_LEN)?;
    Ok(bytes.map(|bytes| Manifest::decode(&bytes)))
}

fn manifest_damage(path: PathBuf, detail: String) -> Error {
    Error::Damaged(Box::new(Damage {
        core: CoreId(0),
        segment: None,
        offset: 0,
        lsn: None,
        verdict: Verdict::Corrupt,
        path,
        detail,
        loss: "nothing, if the manifest is made again from the segments' headers".into(),
    }))
}

/// The logs that there are directories of.
pub(crate) fn logs_in<S: Storage>(layout: &Layout<S>) -> Result<Vec<(CoreId, u32)>> {
    let entries = match layout.storage.list(&layout.dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotAStore { path: layout.dir.clone(), why: "there is no such directory" });
        }
        Err(error) => return Err(Error::io("list", &layout.dir, error)),
    };
    let dirs = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
    Ok(dirs.filter_map(|entry| name::parse_core_dir(&entry.name)).collect())
}

/// Replaces the manifest: written aside, made durable, renamed, and the
/// directory made durable. After a crash it is the old one or the new one. The
/// `previous` one is kept beside it, in case the new one gets damaged.
pub(crate) fn write_manifest<S: Storage>(
    layout: &Layout<S>,
    manifest: &Manifest,
    previous: Option<&Manifest>,
) -> Result<()> {
    prepare_manifest(layout, manifest)?;
    replace_manifest(layout, manifest, previous)
}

/// The first half of [`write_manifest`]. An error changes nothing.
pub(crate) fn prepare_manifest<S: Storage>(layout: &Layout<S>, manifest: &Manifest) -> Result<()> {
    let aside = layout.dir.join(name::MANIFEST_NEW);
    layout.create_durable(&aside, manifest.encode().as_bytes()).map(drop)
}

/// The second half of [`write_manifest`]. After an error either may count.
pub(crate) fn replace_manifest<S: Storage>(
    layout: &Layout<S>,
    manifest: &Manifest,
    previous: Option<&Manifest>,
) -> Result<()> {
    let replace = |path: &Path| {
        let aside = layout.dir.join(name::MANIFEST_NEW);
        layout.storage.rename(&aside, path).map_err(|error| Error::io("replace", path, error))?;
        if layout.planted.has(PlantedBug::ManifestRenameNotSynced) {
            return Ok(());
        }
        layout.sync_dir(&layout.dir)
    };
    replace(&layout.manifest())?;
    let mut bytes = manifest.encode().len();
    if let Some(previous) = previous {
        prepare_manifest(layout, previous)?;
        replace(&layout.manifest_old())?;
        bytes += previous.encode().len();
    }
    layout.space.set_manifests(bytes as u64);
    Ok(())
}
