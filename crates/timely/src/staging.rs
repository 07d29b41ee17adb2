//! The files in which output waits for its epoch to be complete, and whose they
//! are once a start is over.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::durable_dir::sync_dir;
use crate::error::{Error, Result};
use crate::places::Place;

/// A worker's staged files of one sink.
pub(crate) struct Stage {
    dir: PathBuf,
    worker: usize,
}

impl Stage {
    pub(crate) fn new(attempt: &Path, sink: &str, worker: usize) -> Result<Self> {
        let dir = attempt.join(sink);
        // Not what is above: where that is gone, others have taken over.
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => {
                created.map_err(Error::io("create", &dir))?;
                sync_dir(attempt)?;
            }
        }
        Ok(Self { dir, worker })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stages rows, durably; gives the file.
    pub(crate) fn add(&self, epoch: u64, rows: &[Vec<u8>]) -> Result<PathBuf> {
        let path = self.dir.join(file_name(epoch, self.worker));
        let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.len() + 4).sum());
        for row in rows {
            let length = u32::try_from(row.len()).map_err(|_| Error::Record {
                path: path.clone(),
                detail: format!("a row of {} bytes is too long", row.len()),
            })?;
            bytes.extend(length.to_le_bytes());
            bytes.extend(row);
        }
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_data()
        });
        written.map_err(Error::io("write", &path))?;
        sync_dir(&self.dir)?;
        Ok(path)
    }
}

fn file_name(epoch: u64, worker: usize) -> String {
    format!("{epoch:020}-{worker:05}")
}

fn parse_file_name(name: &str) -> Option<(u64, usize)> {
    let (epoch, worker) = name.split_once('-')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(epoch, 20) && digits(worker, 5)).then(|| Some((epoch.parse().ok()?, worker.parse().ok()?))).flatten()
}

/// The rows of a staged file.
pub(crate) fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let (mut rows, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((row, behind)) = behind.split_at_checked(length) else { break };
        rows.push(row.to_vec());
        rest = behind;
    }
    if rest.is_empty() {
        Ok(rows)
    } else {
        Err(Error::Record { path: path.to_owned(), detail: "it ends within a row".into() })
    }
}

/// A file that an earlier start left.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) epoch: u64,
    pub(crate) worker: usize,
    pub(crate) path: PathBuf,
}

/// Where the processes of a job stage output: by start and process.
#[derive(Clone, Debug)]
pub(crate) struct Staging {
    dir: PathBuf,
    attempt: u64,
    place: Place,
    /// Which of the processes that have the same directory this is, and how many
    /// they are.
    pub(crate) rank: u16,
    sharers: u16,
}

impl Staging {
    /// That of a process which has its directory for itself, as far as it knows.
    pub(crate) fn new(dir: PathBuf, attempt: u64, place: Place) -> Self {
        Self { dir, attempt, place, rank: 0, sharers: 1 }
    }

    /// The same, where it is known who shares the directory.
    pub(crate) fn shared(self, rank: u16, sharers: u16) -> Self {
        Self { rank, sharers, ..self }
    }

    /// Where this start of this process does.
    pub(crate) fn own(&self) -> PathBuf {
        self.of(self.place.process)
    }

    fn of(&self, process: u16) -> PathBuf {
        self.dir.join(attempt_name(self.attempt)).join(process.to_string())
    }

    /// The processes of this start that stage in the same directory, once all
    /// have made theirs.
    pub(crate) fn seen(&self) -> Vec<u16> {
        (0..self.place.processes).filter(|&process| self.of(process).is_dir()).collect()
    }

    /// Makes the directory in which this process stages.
    pub(crate) fn create(&self) -> Result<()> {
        let own = self.own();
        fs::create_dir_all(&own).map_err(Error::io("create", &own))?;
        own.ancestors().skip(1).take(3).try_for_each(sync_dir)
    }

    /// The directories of earlier starts' processes whose heir this one is: those
    /// who share a directory divide what was staged there.
    fn inherited(&self) -> Result<Vec<PathBuf>> {
        let mut inherited = Vec::new();
        for attempt in list(&self.dir)? {
            let name = attempt.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == attempt_name(self.attempt) {
                continue;
            }
            for process in list(&attempt)? {
                let number =
                    process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u16>().ok());
                if number.is_some_and(|number| number % self.sharers == self.rank) {
                    inherited.push(process);
                }
            }
        }
        Ok(inherited)
    }

    /// What earlier starts staged for a sink up to the complete epoch, of those
    /// workers whose heir worker `index` is, in order.
    pub(crate) fn rest(&self, sink: &str, complete: u64, index: usize) -> Result<Vec<Rest>> {
        let workers = usize::from(self.place.workers);
        let mut found = Vec::new();
        for dir in self.inherited()? {
            for path in list(&dir.join(sink))? {
                let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_file_name);
                let Some((epoch, worker)) = name else { continue };
                if epoch <= complete && worker % workers == index % workers {
                    found.push(Rest { epoch, worker, path });
                }
            }
        }
        found.sort_by_key(|rest| (rest.epoch, rest.worker));
        Ok(found)
    }

    /// Removes what earlier starts staged and nobody will publish: their output
    /// is published, or belongs to epochs that never became complete.
    pub(crate) fn remove_inherited(&self) -> Result<()> {
        for dir in self.inherited()? {
            fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
            // The start's own once it is empty.
            if let Some(attempt) = dir.parent() {
                let _ = fs::remove_dir(attempt);
            }
        }
        Ok(())
    }
}

fn attempt_name(attempt: u64) -> String {
    format!("{attempt:020}")
}

/// What is in a directory; nothing if it is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    entries.map(|entry| Ok(entry.map_err(Error::io("list", dir))?.path())).collect()
}
