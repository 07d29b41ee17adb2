//! What is known of a job as a whole: how far it is complete, and where its
//! state is. A numbered record on a shelf that all processes share; the newest
//! counts.
//!
//! Who starts the job takes it over by the next record, which holds what was
//! complete before. From then on whoever had it finds the number of his next
//! record taken: nothing of his becomes complete any more. That holds also for
//! one who slept until records were removed, since he looks for newer ones
//! after each of his own, and the newest is never removed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::shelf::Shelf;

/// How many records are kept, the newest included.
const KEPT: u64 = 8;

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The job's name.
    pub(crate) job: String,
    /// How often the job was started.
    pub(crate) attempt: u64,
    /// Such as no other start has.
    pub(crate) nonce: u64,
    /// The newest complete epoch; 0 if none.
    pub(crate) complete: u64,
    /// The stores that hold its state, by process.
    pub(crate) stores: Vec<String>,
    /// The number of workers of each process then.
    pub(crate) workers: u16,
    /// The operators and partitions by which that state was made.
    pub(crate) shape: Vec<String>,
}

impl Record {
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers and text")
    }
}

/// The records of a job, as one start of it writes them.
#[derive(Debug)]
pub(crate) struct Records {
    shelf: Arc<dyn Shelf>,
    /// Number of the newest that this start knows: its own.
    number: u64,
    attempt: u64,
}

/// The newest record, with its number.
pub(crate) fn newest(shelf: &dyn Shelf) -> Result<Option<(u64, Record)>> {
    // One that is listed may be removed before it is read, once there are newer.
    for _ in 0..KEPT {
        let Some(&number) = shelf.numbers()?.last() else { return Ok(None) };
        if let Some(bytes) = shelf.read(number)? {
            return match serde_json::from_slice(&bytes) {
                Ok(record) => Ok(Some((number, record))),
                Err(error) => Err(wrong(shelf, format!("record {number}: {error}"))),
            };
        }
    }
    Err(wrong(shelf, "its records change faster than they can be read".into()))
}

fn wrong(shelf: &dyn Shelf, detail: String) -> Error {
    Error::Record { path: shelf.place(), detail }
}

impl Records {
    /// Takes the job over from whoever had it: gives what is complete by now,
    /// which nobody else can add to any more.
    pub(crate) fn take_over(shelf: Arc<dyn Shelf>, job: &str) -> Result<(Self, Record)> {
        let nonce = getrandom::u64().map_err(|error| wrong(&*shelf, error.to_string()))?;
        loop {
            let first = || (0, Record { job: job.to_owned(), ..Record::default() });
            let (number, found) = newest(&*shelf)?.unwrap_or_else(first);
            if found.job != job {
                let (found, expected) = (found.job, job.to_owned());
                return Err(Error::OtherJob { dir: shelf.place(), found, expected });
            }
            let record = Record { attempt: found.attempt + 1, nonce, ..found };
            let mut records = Self { shelf: Arc::clone(&shelf), number, attempt: record.attempt };
            match records.add(&record) {
                // Somebody was a step ahead, and may have made more complete.
                Err(Error::Fenced { .. }) => {}
                added => {
                    added?;
                    // Where a number could be put twice there would be no fence.
                    let other = Record { nonce: !nonce, ..record.clone() };
                    if shelf.create(records.number, &other.bytes())? {
                        return Err(wrong(
                            &*shelf,
                            "it lets a record be written twice: there is no fence on it".into(),
                        ));
                    }
                    return Ok((records, record));
                }
            }
        }
    }

    /// Writes the next record; durable when this returns.
    ///
    /// # Errors
    /// [`Error::Fenced`] if there is one by somebody else: nothing of this start
    /// becomes complete any more.
    pub(crate) fn add(&mut self, record: &Record) -> Result<()> {
        let number = self.number + 1;
        // Who slept for long may have made a number anew that others have
        // passed and removed. The newest is never removed.
        if !self.shelf.create(number, &record.bytes())?
            || self.shelf.numbers()?.last().is_some_and(|&last| last > number)
        {
            let by = newest(&*self.shelf)?.map_or(0, |(_, record)| record.attempt);
            return Err(Error::Fenced { attempt: self.attempt, by });
        }
        self.number = number;
        if let Some(old) = number.checked_sub(KEPT) {
            self.shelf.remove(old);
        }
        Ok(())
    }

    /// Whether this start still has the job.
    ///
    /// # Errors
    /// [`Error::Fenced`] if it has not.
    pub(crate) fn check(&self) -> Result<()> {
        match self.shelf.numbers()?.last() {
            Some(&last) if last > self.number => Err(self.fenced()?),
            _ => Ok(()),
        }
    }

    fn fenced(&self) -> Result<Error> {
        let by = newest(&*self.shelf)?.map_or(0, |(_, record)| record.attempt);
        Ok(Error::Fenced { attempt: self.attempt, by })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::shelf::Directory;

    fn complete(record: &Record, complete: u64) -> Record {
        Record { complete, ..record.clone() }
    }

    fn shelf(dir: &tempfile::TempDir) -> Arc<dyn Shelf> {
        Arc::new(Directory(dir.path().join("records")))
    }

    fn a_start_takes_over(shelf: Arc<dyn Shelf>) {
        let (mut first, record) = Records::take_over(Arc::clone(&shelf), "job").unwrap();
        assert_eq!((record.attempt, record.complete), (1, 0));
        for epoch in 1..=20 {
            first.add(&complete(&record, epoch)).unwrap();
        }
        assert!(shelf.numbers().unwrap().len() as u64 <= KEPT);
        let (mut second, record) = Records::take_over(Arc::clone(&shelf), "job").unwrap();
        assert_eq!((record.attempt, record.complete), (2, 20));
        // The first is late, at once or after others have gone on for long.
        assert!(matches!(first.add(&complete(&record, 21)), Err(Error::Fenced { attempt: 1, by: 2 })));
        for epoch in 21..=60 {
            second.add(&complete(&record, epoch)).unwrap();
        }
        assert!(matches!(first.add(&complete(&record, 22)), Err(Error::Fenced { attempt: 1, by: 2 })));
        assert_eq!(newest(&*shelf).unwrap().unwrap().1.complete, 60);
        second.add(&complete(&record, 61)).unwrap();
    }

    #[test]
    fn what_was_added_last_counts_and_a_start_takes_over_from_there() {
        let dir = tempfile::tempdir().unwrap();
        a_start_takes_over(shelf(&dir));
    }

    #[test]
    #[cfg(feature = "archive")]
    fn it_does_so_on_object_storage() {
        let dir = tempfile::tempdir().unwrap();
        let objects = crate::shelf::Objects::open(dir.path().to_str().unwrap(), "job").unwrap();
        a_start_takes_over(Arc::new(objects));
    }

    #[test]
    fn of_starts_at_once_one_is_the_latest_and_the_others_are_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let starts: Vec<_> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| Records::take_over(shelf(&dir), "job").unwrap());
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
        Records::take_over(shelf(&dir), "counts").unwrap();
        assert!(matches!(Records::take_over(shelf(&dir), "sums"), Err(Error::OtherJob { .. })));
        fs::write(dir.path().join("records/00000000000000000009.json"), b"{}").unwrap();
        assert!(matches!(Records::take_over(shelf(&dir), "counts"), Err(Error::Record { .. })));
    }

    /// A shelf on which a number can be put again.
    #[derive(Debug)]
    struct Careless(Directory);

    impl Shelf for Careless {
        fn numbers(&self) -> Result<Vec<u64>> {
            self.0.numbers()
        }
        fn read(&self, number: u64) -> Result<Option<Vec<u8>>> {
            self.0.read(number)
        }
        fn create(&self, number: u64, bytes: &[u8]) -> Result<bool> {
            self.0.remove(number);
            self.0.create(number, bytes)
        }
        fn remove(&self, number: u64) {
            self.0.remove(number);
        }
        fn place(&self) -> std::path::PathBuf {
            self.0.place()
        }
    }

    #[test]
    fn where_nothing_fences_nothing_starts() {
        let dir = tempfile::tempdir().unwrap();
        let careless = Arc::new(Careless(Directory(dir.path().join("records"))));
        let told = Records::take_over(careless, "job").unwrap_err().to_string();
        assert!(told.contains("there is no fence"), "{told}");
    }
}
