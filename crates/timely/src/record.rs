//! What is known of a job as a whole: how far it is complete, and where its
//! state is. A numbered record in a directory that all processes share; the
//! newest counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How many records are kept, the newest included.
const KEPT: u64 = 8;

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The job's name.
    pub(crate) job: String,
    /// How often the job was started.
    pub(crate) attempt: u64,
    /// The newest complete epoch; 0 if none.
    pub(crate) complete: u64,
    /// The stores that hold its state, by process.
    pub(crate) stores: Vec<String>,
    /// The number of workers of each process then.
    pub(crate) workers: u16,
    /// The operators and partitions by which that state was made.
    pub(crate) shape: Vec<String>,
}

/// The records of a job, as one start of it writes them.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    /// Number of the newest that this start knows: its own.
    number: u64,
    attempt: u64,
    nonce: u64,
}

fn name(number: u64) -> String {
    format!("{number:020}.json")
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The numbers of the records in `dir`, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>> {
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

/// The newest record in `dir`, with its number.
pub(crate) fn newest(dir: &Path) -> Result<Option<(u64, Record)>> {
    // One that is listed may be removed before it is read, once there are newer.
    for _ in 0..KEPT {
        let Some(&number) = numbers(dir)?.last() else { return Ok(None) };
        let path = dir.join(name(number));
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(record) => return Ok(Some((number, record))),
                Err(error) => return Err(Error::Record { path, detail: error.to_string() }),
            },
        }
    }
    Err(Error::Record { path: dir.to_owned(), detail: "its records change faster than they can be read".into() })
}

impl Records {
    /// Takes the job over from whoever had it: gives what is complete by now,
    /// which nobody else can add to any more.
    pub(crate) fn take_over(dir: &Path, job: &str) -> Result<(Self, Record)> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        sync_dir(dir.parent().unwrap_or(dir))?;
        let nonce = getrandom::u64().map_err(|error| Error::io("name a draft in", dir)(error.into()))?;
        loop {
            let (number, found) =
                newest(dir)?.unwrap_or_else(|| (0, Record { job: job.to_owned(), ..Record::default() }));
            if found.job != job {
                let (found, expected) = (found.job, job.to_owned());
                return Err(Error::OtherJob { dir: dir.to_owned(), found, expected });
            }
            let record = Record { attempt: found.attempt + 1, ..found };
            let mut records = Self { dir: dir.to_owned(), number, attempt: record.attempt, nonce };
            match records.add(&record) {
                // Somebody was a step ahead, and may have made more complete.
                Err(Error::Fenced { .. }) => {}
                added => return added.map(|()| (records, record)),
            }
        }
    }

    /// Writes the next record; durable when this returns.
    ///
    /// # Errors
    /// [`Error::Fenced`] if there is one by somebody else: then this one does
    /// not count and never will.
    pub(crate) fn add(&mut self, record: &Record) -> Result<()> {
        let number = self.number + 1;
        let path = self.dir.join(name(number));
        // Nobody else's, also of those who start at the same time elsewhere.
        let draft = self.dir.join(format!("{}.{:016x}.draft", name(number), self.nonce));
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(&serde_json::to_vec_pretty(record).expect("numbers and text"))?;
            file.sync_all()
        });
        written.map_err(Error::io("write", &draft))?;
        // A link is made where there is none, or not at all: link(2).
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(Error::io("remove", &draft))?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(self.fenced()?),
            linked => linked.map_err(Error::io("create", &path))?,
        }
        sync_dir(&self.dir)?;
        // Who slept for long may have made a number anew that others have
        // passed and removed. The newest is never removed.
        if numbers(&self.dir)?.last().is_some_and(|&newest| newest > number) {
            return Err(self.fenced()?);
        }
        self.number = number;
        if let Some(old) = number.checked_sub(KEPT) {
            // Litter if it fails: the next one does not look at it.
            let _ = fs::remove_file(self.dir.join(name(old)));
        }
        Ok(())
    }

    fn fenced(&self) -> Result<Error> {
        let by = newest(&self.dir)?.map_or(0, |(_, record)| record.attempt);
        Ok(Error::Fenced { attempt: self.attempt, by })
    }
}

/// Makes the names in a directory durable; see fsync(2).
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let synced = OpenOptions::new().read(true).open(dir).and_then(|file| file.sync_all());
    synced.map_err(Error::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn complete(record: &Record, complete: u64) -> Record {
        Record { complete, ..record.clone() }
    }

    #[test]
    fn what_was_added_last_counts_and_a_start_takes_over_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, record) = Records::take_over(dir.path(), "job").unwrap();
        assert_eq!((record.attempt, record.complete), (1, 0));
        for epoch in 1..=20 {
            first.add(&complete(&record, epoch)).unwrap();
        }
        assert!(numbers(dir.path()).unwrap().len() as u64 <= KEPT);
        let (mut second, record) = Records::take_over(dir.path(), "job").unwrap();
        assert_eq!((record.attempt, record.complete), (2, 20));
        // The first is late, at once or after others have gone on for long.
        assert!(matches!(first.add(&complete(&record, 21)), Err(Error::Fenced { attempt: 1, by: 2 })));
        for epoch in 21..=60 {
            second.add(&complete(&record, epoch)).unwrap();
        }
        assert!(matches!(first.add(&complete(&record, 22)), Err(Error::Fenced { attempt: 1, by: 2 })));
        assert_eq!(newest(dir.path()).unwrap().unwrap().1.complete, 60);
        second.add(&complete(&record, 61)).unwrap();
    }

    #[test]
    fn of_two_starts_at_once_one_is_the_later_and_the_other_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let starts: Vec<_> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| Records::take_over(dir.path(), "job").unwrap());
            let starts: Vec<_> = (0..8).map(|_| start()).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        // Each is a start of its own, and one that was passed in between tries
        // again with a new number.
        let attempts: BTreeSet<_> = starts.iter().map(|(_, record)| record.attempt).collect();
        assert_eq!(attempts.len(), starts.len());
        for (mut records, record) in starts {
            assert_eq!(records.add(&record).is_ok(), Some(&record.attempt) == attempts.last());
        }
    }

    #[test]
    fn a_record_of_another_job_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Records::take_over(dir.path(), "counts").unwrap();
        assert!(matches!(Records::take_over(dir.path(), "sums"), Err(Error::OtherJob { .. })));
        fs::write(dir.path().join(name(9)), b"{}").unwrap();
        assert!(matches!(Records::take_over(dir.path(), "counts"), Err(Error::Record { .. })));
    }
}
