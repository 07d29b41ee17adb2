//! Where the records of a job are kept: in a directory, or in object storage.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::durable_dir::sync_dir;
use crate::error::{Error, Result};

/// Numbered records, each put once.
pub(crate) trait Shelf: fmt::Debug + Send + Sync {
    /// The numbers there are, in order.
    fn numbers(&self) -> Result<Vec<u64>>;
    /// What a number holds; `None` if there is none.
    fn read(&self, number: u64) -> Result<Option<Vec<u8>>>;
    /// Puts a number, durably, where there is none; says whether this call did.
    /// Nobody else puts the same bytes.
    fn create(&self, number: u64, bytes: &[u8]) -> Result<bool>;
    /// Removes a number. It is litter: if that fails, it stays.
    fn remove(&self, number: u64);
    /// Where it is, for people.
    fn place(&self) -> PathBuf;
}

/// Files in a directory.
#[derive(Debug)]
pub(crate) struct Directory(pub(crate) PathBuf);

fn name(number: u64) -> String {
    format!("{number:020}.json")
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

impl Directory {
    fn path(&self, number: u64) -> PathBuf {
        self.0.join(name(number))
    }
}

impl Shelf for Directory {
    fn numbers(&self) -> Result<Vec<u64>> {
        let dir = &self.0;
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("list", dir))?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list", dir))?;
            numbers.extend(entry.file_name().to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path(number);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(Error::io("read", &path)),
        }
    }

    fn create(&self, number: u64, bytes: &[u8]) -> Result<bool> {
        let dir = &self.0;
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let path = self.path(number);
        // Nobody else's, also of those who start at the same time elsewhere.
        let nonce = getrandom::u64().map_err(|error| Error::io("name a draft in", dir)(error.into()))?;
        let draft = dir.join(format!("{}.{nonce:016x}.draft", name(number)));
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        // A link is made where there is none, or not at all: link(2).
        let linked = written.map_err(Error::io("write", &draft)).map(|()| fs::hard_link(&draft, &path));
        let removed = fs::remove_file(&draft);
        match linked? {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            linked => linked.map_err(Error::io("create", &path))?,
        }
        removed.map_err(Error::io("remove", &draft))?;
        sync_dir(dir)?;
        Ok(true)
    }

    fn remove(&self, number: u64) {
        let _ = fs::remove_file(self.path(number));
    }

    fn place(&self) -> PathBuf {
        self.0.clone()
    }
}

/// Objects.
#[cfg(feature = "archive")]
#[derive(Debug)]
pub(crate) struct Objects {
    objects: corewal_archive::Numbered,
    url: String,
}

#[cfg(feature = "archive")]
impl Objects {
    /// The records of a job at the URL of an archive.
    pub(crate) fn open(url: &str, job: &str) -> Result<Self> {
        let archive = corewal_archive::Archive::open(url, corewal_archive::Options::default());
        let objects = archive.map_err(|error| failed(url, error))?.numbered(&format!("jobs/{job}"));
        Ok(Self { objects, url: url.to_owned() })
    }
}

#[cfg(feature = "archive")]
fn failed(url: &str, error: corewal_archive::Error) -> Error {
    Error::Record { path: PathBuf::from(url), detail: error.to_string() }
}

#[cfg(feature = "archive")]
impl Shelf for Objects {
    fn numbers(&self) -> Result<Vec<u64>> {
        self.objects.numbers().map_err(|error| failed(&self.url, error))
    }

    fn read(&self, number: u64) -> Result<Option<Vec<u8>>> {
        self.objects.read(number).map_err(|error| failed(&self.url, error))
    }

    fn create(&self, number: u64, bytes: &[u8]) -> Result<bool> {
        self.objects.create(number, bytes.to_vec()).map_err(|error| failed(&self.url, error))
    }

    fn remove(&self, number: u64) {
        let _ = self.objects.remove(number);
    }

    fn place(&self) -> PathBuf {
        PathBuf::from(&self.url)
    }
}
