//! What the commits of an ingest carry, and reading it back.
//!
//! Every core commits the same at each barrier, so that one core's word is
//! enough; that they agree is checked. Besides a source's own offset there are
//! names with a NUL in them, which no source can have and which tools hide:
//!
//! | name | value |
//! |---|---|
//! | SOURCE | end of the last record taken, 8 bytes |
//! | SOURCE NUL `beginning` | the fingerprint for that offset |
//! | SOURCE NUL `format` | `ndjson` or `csv` |
//! | NUL `job` | key and reduction, JSON |
//! | NUL `rejected` | records rejected so far, 8 bytes |
//! | NUL `rejects` NUL HASH | length of a rejects file, by the hash of its path, 8 bytes |

use std::path::Path;

use corewal::format::MAX_OFFSET_FIELD_LEN;
use corewal::{Commit, Offsets, Shard};

use super::job::Job;
use crate::exit::Failure;
use crate::source::{Fingerprint, Format, Resume};

const JOB: &str = "\0job";
const REJECTED: &str = "\0rejected";
const BEGINNING: &str = "\0beginning";
const FORMAT: &str = "\0format";

/// The longest name that a source may have.
pub(super) const MAX_NAME: usize = MAX_OFFSET_FIELD_LEN - BEGINNING.len();

/// Adds to a commit how far a source was read.
pub(super) fn with_source(commit: Commit, name: &str, format: Format, mark: &Resume) -> Commit {
    commit
        .offset_u64(name, mark.position)
        .offset(format!("{name}{BEGINNING}"), mark.fingerprint.to_bytes())
        .offset(format!("{name}{FORMAT}"), format_name(format))
}

/// Adds the job to a commit.
pub(super) fn with_job(commit: Commit, job: &Job) -> Commit {
    commit.offset(JOB, job.to_bytes())
}

/// Adds the number of rejected records to a commit.
pub(super) fn with_rejected(commit: Commit, rejected: u64) -> Commit {
    commit.offset_u64(REJECTED, rejected)
}

/// The name under which the length of a rejects file is kept.
pub(super) fn rejects_name(path: &Path) -> String {
    let hash = twox_hash::XxHash3_64::oneshot(path.as_os_str().as_encoded_bytes());
    format!("\0rejects\0{hash:016x}")
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    }
}

/// What earlier runs committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed(Offsets);

impl Committed {
    /// What all cores agree on. `None` if they do not.
    pub(super) fn of(shards: &[Shard]) -> Option<Self> {
        let (first, others) = shards.split_first()?;
        let agree = others.iter().all(|shard| shard.offsets() == first.offsets());
        agree.then(|| Self(first.offsets().clone()))
    }

    /// Refuses to go on with another job. True if this one is stored already.
    pub(super) fn check_job(&self, job: &Job, dir: &Path) -> Result<bool, Failure> {
        match self.0.get(JOB) {
            Some(stored) => job.check(stored, dir).map(|()| true),
            None => Ok(false),
        }
    }

    /// Where to go on in a source. Refuses to read it in another format.
    pub(super) fn resume(&self, name: &str, format: Format) -> Result<Option<Resume>, Failure> {
        let Some(position) = self.number(name)? else { return Ok(None) };
        let fingerprint = self.0.get(&format!("{name}{BEGINNING}")).and_then(|bytes| Fingerprint::from_bytes(bytes));
        let fingerprint = fingerprint.ok_or_else(|| foreign(name))?;
        let asked = format_name(format);
        match self.0.get(&format!("{name}{FORMAT}")) {
            Some(stored) if stored == asked.as_bytes() => Ok(Some(Resume { position, fingerprint })),
            Some(stored) => Err(Failure::usage(format!(
                "{name} was read as {} up to offset {position}, not as {asked}: use the same --format again, or another --source-name",
                String::from_utf8_lossy(stored)
            ))),
            None => Err(foreign(name)),
        }
    }

    /// The committed length of a rejects file, by [`rejects_name`].
    pub(super) fn rejects_length(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.number(name)
    }

    /// How many records were rejected so far.
    pub(super) fn rejected(&self) -> Result<u64, Failure> {
        Ok(self.number(REJECTED)?.unwrap_or(0))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(bytes) = self.0.get(name) else { return Ok(None) };
        let bytes = bytes.as_slice().try_into().map_err(|_| foreign(name))?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }
}

fn foreign(name: &str) -> Failure {
    let name = name.replace('\0', "·");
    Failure::data(format!(
        "the store has an offset of `{name}` that ingest did not write: another program uses this name; \
         choose another --source-name, or another --dir"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn resume() -> Resume {
        Resume { position: 7, fingerprint: Fingerprint::of(b"0123456", 7) }
    }

    fn commit() -> Commit {
        with_rejected(with_source(Commit::new(), "a.csv", Format::Csv, &resume()), 3)
    }

    fn committed(commit: &Commit) -> Committed {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = corewal::Options::new().cores(2).open(dir.path()).unwrap();
        for shard in &mut opened.shards {
            shard.commit(commit).unwrap();
        }
        Committed::of(&opened.shards).unwrap()
    }

    #[test]
    fn what_was_committed_reads_back() {
        let all = committed(&commit());
        assert_eq!(all.resume("a.csv", Format::Csv).unwrap(), Some(resume()));
        assert_eq!(all.resume("b.csv", Format::Csv).unwrap(), None);
        assert_eq!(all.rejected().unwrap(), 3);
        let failure = all.resume("a.csv", Format::Ndjson).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("read as csv up to offset 7, not as ndjson"), "{failure}");
    }

    #[test]
    fn offsets_of_other_programs_are_refused() {
        let strange = committed(&Commit::new().offset("a", b"seven".to_vec()).offset_u64("b", 7));
        for name in ["a", "b"] {
            let failure = strange.resume(name, Format::Csv).unwrap_err();
            assert!(failure.to_string().contains("ingest did not write"), "{failure}");
        }
    }

    #[test]
    fn cores_that_disagree_are_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = corewal::Options::new().cores(2).open(dir.path()).unwrap();
        assert!(Committed::of(&opened.shards).is_some());
        opened.shards[1].commit(&commit()).unwrap();
        assert!(Committed::of(&opened.shards).is_none());
    }

    #[test]
    fn the_longest_name_fits() {
        let name = "n".repeat(MAX_NAME);
        let commit = with_source(Commit::new(), &name, Format::Ndjson, &resume());
        assert_eq!(committed(&commit).resume(&name, Format::Ndjson).unwrap(), Some(resume()));
    }
}
