//! What a store is made with, and that later runs go on with the same.

use std::path::Path;

use corewal::format::MAX_OFFSET_FIELD_LEN;
use serde_json::{Value, json};

use crate::args::Ingest;
use crate::exit::Failure;

/// The options that give a store's keys and values their meaning. Counting on
/// with others would mix numbers that have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    key: Option<String>,
    reduce: String,
}

impl Job {
    /// The job that the command line asks for.
    pub(super) fn of(args: &Ingest) -> Result<Self, Failure> {
        let job = Self { key: args.key.clone(), reduce: args.reduce.to_string() };
        let length = job.to_bytes().len();
        if length > MAX_OFFSET_FIELD_LEN {
            return Err(Failure::usage(format!(
                "the names of the fields in --key and --reduce are too long: {length} bytes with what belongs to them, \
                 at most {MAX_OFFSET_FIELD_LEN} can be kept"
            )));
        }
        Ok(job)
    }

    /// For storing.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        json!({ "key": self.key, "reduce": self.reduce }).to_string().into_bytes()
    }

    /// What [`Job::to_bytes`] gave, or `None` when it is not that.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let key = match value.get("key")? {
            Value::Null => None,
            key => Some(key.as_str()?.to_owned()),
        };
        Some(Self { key, reduce: value.get("reduce")?.as_str()?.to_owned() })
    }

    /// Refuses to go on with another job than the one in the store.
    pub(super) fn check(&self, stored: &[u8], dir: &Path) -> Result<(), Failure> {
        let dir = dir.display();
        let stored = Self::from_bytes(stored).ok_or_else(|| {
            Failure::data(format!("what the store in {dir} says of its --key and --reduce cannot be read: it is another program's, or a newer one's; use another --dir"))
        })?;
        if stored == *self {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "the store in {dir} was made with {stored}, not with {self}: use the same options again, or another --dir"
        )))
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => write!(f, "--key {key} --reduce {}", self.reduce),
            None => write!(f, "--reduce {} and no --key", self.reduce),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn job(key: Option<&str>, reduce: &str) -> Job {
        Job { key: key.map(Into::into), reduce: reduce.into() }
    }

    #[test]
    fn only_the_same_job_goes_on() {
        let dir = Path::new("d");
        let jobs = [job(None, "last"), job(Some("a"), "last"), job(Some("a"), "sum:\"x"), job(Some(""), "last")];
        for stored in &jobs {
            assert_eq!(Job::from_bytes(&stored.to_bytes()).as_ref(), Some(stored));
            for asked in &jobs {
                match asked.check(&stored.to_bytes(), dir) {
                    Ok(()) => assert_eq!(asked, stored),
                    Err(failure) => {
                        assert_ne!(asked, stored);
                        assert_eq!(failure.exit(), Exit::Usage);
                        assert!(failure.to_string().contains(&format!("made with {stored}, not with {asked}")));
                    }
                }
            }
        }
        assert_eq!(jobs[0].check(b"[]", dir).unwrap_err().exit(), Exit::Io);
    }
}
