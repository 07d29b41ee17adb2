//! Where a store's files stand, and file calls that say where they failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal_format::{CoreId, RunId, SegmentId, SegmentIdentity, name};
use corewal_io::{AlignedBuf, DirEntry, EntryKind, OpenMode, ReadPace, Storage};

use crate::error::{Error, Result};
use crate::planted::{Planted, PlantedBug};
use crate::space::Space;

/// The directory of one store on one medium.
#[derive(Clone, Debug)]
pub(crate) struct Layout<S> {
    pub(crate) storage: S,
    pub(crate) dir: PathBuf,
    /// Which generation of logs counts; the manifest says so.
    pub(crate) generation: u32,
    /// What the store's files take.
    pub(crate) space: Arc<Space>,
    /// How files are read through it.
    pub(crate) pace: ReadPace,
    pub(crate) planted: Planted,
}

impl<S: Storage> Layout<S> {
    /// Of the store in `dir`, wherever that leads: links on the way to a store
    /// are its user's, links inside it are followed by nobody.
    pub(crate) fn of(storage: S, dir: &Path) -> Result<Self> {
        let resolved = storage.resolve(dir).map_err(|error| Error::io("find", dir, error))?;
        Ok(Self::new(storage, &resolved))
    }

    /// Of the store in a directory whose path has no links.
    pub(crate) fn new(storage: S, dir: &Path) -> Self {
        Self {
            storage,
            dir: dir.to_owned(),
            generation: 0,
            space: Arc::default(),
            pace: ReadPace::Full,
            planted: Planted::by_environment(),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join(name::LOCK)
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.dir.join(name::MANIFEST)
    }

    /// The layout of the store's logs of another generation.
    pub(crate) fn of_generation(&self, generation: u32) -> Self {
        Self { generation, ..self.clone() }
    }

    /// The same, for reading while the cores write.
    pub(crate) fn gentle(&self) -> Self {
        Self { pace: ReadPace::Gentle, ..self.clone() }
    }

    pub(crate) fn manifest_old(&self) -> PathBuf {
        self.dir.join(name::MANIFEST_OLD)
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.dir.join(name::RUNS)
    }

    pub(crate) fn run(&self, run: RunId) -> PathBuf {
        self.runs().join(name::run(run))
    }

    pub(crate) fn core_dir(&self, core: CoreId) -> PathBuf {
        self.dir.join(name::core_dir(core, self.generation))
    }

    pub(crate) fn segment(&self, core: CoreId, segment: SegmentId) -> PathBuf {
        self.core_dir(core).join(name::segment(segment))
    }

    pub(crate) fn spare(&self, core: CoreId, number: SegmentId) -> PathBuf {
        self.core_dir(core).join(name::spare(number))
    }

    /// The segments of a core, in order. Names that are not ours are left out;
    /// one of ours at which there is no regular file is refused. `None` if there
    /// is no directory.
    pub(crate) fn list_segments(&self, core: CoreId) -> Result<Option<Vec<SegmentId>>> {
        self.list_files(core, name::parse_segment)
    }

    /// The spare files of a core, in order of their numbers.
    pub(crate) fn list_spares(&self, core: CoreId) -> Result<Vec<SegmentId>> {
        Ok(self.list_files(core, name::parse_spare)?.unwrap_or_default())
    }

    /// The runs, in order of their numbers.
    pub(crate) fn list_runs(&self) -> Result<Vec<RunId>> {
        Ok(self.list_numbered(&self.runs(), name::parse_run)?.unwrap_or_default())
    }

    fn list_files(&self, core: CoreId, parse: fn(&str) -> Option<SegmentId>) -> Result<Option<Vec<SegmentId>>> {
        self.list_numbered(&self.core_dir(core), parse)
    }

    fn list_numbered<T: Ord>(&self, dir: &Path, parse: fn(&str) -> Option<T>) -> Result<Option<Vec<T>>> {
        let entries = match self.storage.list(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("list", dir, error)),
        };
        let mut numbers = Vec::new();
        for entry in &entries {
            let Some(number) = parse(&entry.name) else { continue };
            if entry.kind != EntryKind::File {
                return Err(irregular(&dir.join(&entry.name)));
            }
            numbers.push(number);
        }
        numbers.sort_unstable();
        Ok(Some(numbers))
    }

    /// The names that are not the store's in its directories, of which it has
    /// one for each of `cores` cores. They are left alone; somebody should know.
    pub(crate) fn strangers(&self, cores: u16) -> Result<Vec<PathBuf>> {
        let list = |dir: &Path| match self.storage.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|error| Error::io("list", dir, error)),
        };
        // An empty directory stays of an earlier generation.
        let spent = |name: &str| list(&self.dir.join(name)).is_ok_and(|entries| entries.is_empty());
        let mut strangers = Vec::new();
        for DirEntry { name, kind } in list(&self.dir)? {
            let ours = match kind {
                EntryKind::File => name::is_file_of_store(&name),
                EntryKind::Directory => match name::parse_core_dir(&name) {
                    Some((core, generation)) => (generation == self.generation && core.get() < cores) || spent(&name),
                    None => name == name::RUNS || name::parse_damaged(&name).is_some(),
                },
                EntryKind::Other => false,
            };
            if !ours {
                strangers.push(self.dir.join(name));
            }
        }
        let of_core = |name: &str| name::parse_segment(name).is_some() || name::parse_spare(name).is_some();
        let mut look = |dir: &Path, ours: fn(&str) -> bool| -> Result<()> {
            let others = list(dir)?.into_iter().filter(|entry| entry.kind != EntryKind::File || !ours(&entry.name));
            strangers.extend(others.map(|entry| dir.join(entry.name)));
            Ok(())
        };
        for core in (0..cores).map(CoreId) {
            look(&self.core_dir(core), of_core)?;
        }
        look(&self.runs(), |name| name::parse_run(name).is_some())?;
        Ok(strangers)
    }

    /// As [`Layout::strangers`], and refuses a name that the store cannot do
    /// without at which there is something else than it says: a link, a pipe, a
    /// directory.
    pub(crate) fn look_around(&self, cores: u16) -> Result<Vec<PathBuf>> {
        let is_needed = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.parent() == Some(&self.dir) {
                let core = name::parse_core_dir(name)
                    .is_some_and(|(core, generation)| generation == self.generation && core.get() < cores);
                return core || [name::LOCK, name::MANIFEST, name::MANIFEST_OLD, name::RUNS].contains(&name);
            }
            let segment = name::parse_segment(name).is_some() || name::parse_spare(name).is_some();
            segment || name::parse_run(name).is_some()
        };
        let strangers = self.strangers(cores)?;
        match strangers.iter().find(is_needed) {
            Some(path) => Err(irregular(path)),
            None => Ok(strangers),
        }
    }

    pub(crate) fn open(&self, path: &Path, mode: OpenMode) -> Result<S::File> {
        self.storage.open(path, mode).map_err(|error| Error::io("open", path, error))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.storage.rename(from, to).map_err(|error| Error::io("rename", from, error))
    }

    pub(crate) fn len(&self, file: &S::File, path: &Path) -> Result<u64> {
        self.storage.len(file).map_err(|error| Error::io("look at", path, error))
    }

    /// The length of a file that a live writer may remove at any time: 0 if it
    /// is not there.
    pub(crate) fn len_if_there(&self, path: &Path) -> Result<u64> {
        match self.storage.open(path, OpenMode::Read) {
            Ok(file) => self.len(&file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    /// Where the checksums of a segment's frames start from.
    pub(crate) fn checksum_seed(&self, identity: &SegmentIdentity) -> u32 {
        if self.planted.has(PlantedBug::ChecksumWithoutIdentity) { 0 } else { identity.checksum_seed() }
    }

    pub(crate) fn settle(&self, file: &S::File, from: u64, path: &Path) -> Result<()> {
        self.storage.settle(file, from).map_err(|error| Error::io("sync", path, error))
    }

    pub(crate) fn remove_if_there(&self, path: &Path) -> Result<bool> {
        match self.storage.remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", path, error)),
        }
    }

    /// Removes a segment, or what is to become one, and counts its space as free.
    pub(crate) fn discard_segment(&self, path: &Path) -> Result<bool> {
        let len = self.len_if_there(path)?;
        let removed = self.remove_if_there(path)?;
        self.space.log_shrunk(len);
        Ok(removed)
    }

    /// Removes a run and counts its space as free.
    pub(crate) fn discard_run(&self, run: RunId) -> Result<()> {
        let path = self.run(run);
        let len = self.len_if_there(&path)?;
        self.remove_if_there(&path)?;
        self.space.runs_shrunk(len);
        Ok(())
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<()> {
        if self.planted.has(PlantedBug::DirectorySyncSkipped) {
            return Ok(());
        }
        self.storage.sync_dir(dir).map_err(|error| Error::io("sync the directory", dir, error))
    }

    /// Creates the file at `path`, replacing an unfinished one, with `bytes`
    /// (padded with zeros to whole blocks, then cut to `len`), and makes its
    /// content durable. The directory is the caller's to sync. After an error
    /// the file is gone or unfinished.
    pub(crate) fn create_durable(&self, path: &Path, bytes: &[u8]) -> Result<S::File> {
        self.remove_if_there(path)?;
        let file = self.storage.open(path, OpenMode::CreateNew).map_err(|e| Error::io("create", path, e))?;
        let fill = || -> io::Result<()> {
            self.write_blocks(&file, bytes)?;
            if !bytes.len().is_multiple_of(corewal_io::BLOCK_SIZE) {
                self.storage.set_len(&file, bytes.len() as u64)?;
            }
            if self.planted.has(PlantedBug::ManifestNotSynced) {
                return Ok(());
            }
            self.storage.settle(&file, 0)
        };
        if let Err(error) = fill() {
            // Best effort: the unfinished file is recognised as such anyway.
            let _ = self.storage.remove(path);
            return Err(Error::io("write", path, error));
        }
        Ok(file)
    }

    fn write_blocks(&self, file: &S::File, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = AlignedBuf::new(bytes.len());
        buffer.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        self.storage.write_at(file, 0, &buffer, 0..buffer.capacity())
    }

    /// Reads a small file whole, up to `limit` bytes and one more.
    pub(crate) fn read_small(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
        let file = match self.storage.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let len = usize::try_from(self.len(&file, path)?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(limit) + 1];
        let len = self.storage.read_at(&file, 0, &mut bytes).map_err(|e| Error::io("read", path, e))?;
        bytes.truncate(len);
        Ok(Some(bytes))
    }
}

/// There is a name of ours, and no regular file.
fn irregular(path: &Path) -> Error {
    let what = "not a regular file, and links are not followed; move it away, or put the file itself there";
    Error::io("use", path, io::Error::new(io::ErrorKind::InvalidInput, what))
}
