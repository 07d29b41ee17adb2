//! What a store on a machine has to archive: plain data, made by the caller.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corewal_format::{CoreId, Epoch, LogId, Lsn, MAX_CORES, SegmentId};
use serde::{Deserialize, Serialize};

use crate::wire;

/// The generation of a store's logs that begins with nothing; every later one
/// begins with a checkpoint of the one before.
pub const FIRST_GENERATION: u32 = 0;

/// Everything of a store that can be archived, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Identity of the store.
    pub log_id: LogId,
    /// Cores of the current generation.
    pub cores: u16,
    /// The current generation of logs.
    pub generation: u32,
    /// The newest epoch that is complete and durable; 0 if none.
    pub complete_epoch: Epoch,
    /// Checkpoints, in any order.
    pub checkpoints: Vec<CheckpointPart>,
    /// Sealed segments, in any order.
    pub segments: Vec<SegmentPart>,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Its path relative to the store's directory, with `/` between its parts:
    /// letters, digits, `.`, `_` and `-`. A name is never given to other bytes
    /// as long as an owner lives.
    pub name: String,
    /// Where it can be opened.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// A checkpoint and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPart {
    /// What is known of it.
    pub facts: CheckpointFacts,
    /// Its files: immutable, but they may be deleted at any time. Checkpoints
    /// may share files.
    pub runs: Vec<FilePart>,
}

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointFacts {
    /// Its number, unique in the store and growing.
    pub number: u64,
    /// The generation of logs that goes on from it.
    pub generation: u32,
    /// Cores of that generation.
    pub cores: u16,
    /// It holds the state at the end of this epoch.
    #[serde(with = "wire::epoch")]
    pub epoch: Epoch,
    /// When that epoch ended: nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// The caller's description of it, handed back by a restore as it was.
    pub text: String,
}

/// A sealed segment and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    /// What is known of it.
    pub facts: SegmentFacts,
    /// Its file. It may be renamed away and written over at any time.
    pub file: FilePart,
}

/// What is known of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFacts {
    /// The generation of logs it belongs to.
    pub generation: u32,
    /// Its core.
    #[serde(with = "wire::core")]
    pub core: CoreId,
    /// Cores of its generation.
    pub cores: u16,
    /// Its number.
    #[serde(with = "wire::segment")]
    pub number: SegmentId,
    /// The position its file begins at.
    #[serde(with = "wire::lsn")]
    pub base: Lsn,
    /// The position its sealed frame ends at.
    #[serde(with = "wire::lsn")]
    pub end: Lsn,
    /// The segment its log goes on in.
    #[serde(with = "wire::segment")]
    pub next: SegmentId,
    /// The base of that segment.
    #[serde(with = "wire::lsn")]
    pub next_base: Lsn,
    /// Whether the log begins with it: nothing was ever written before.
    pub first: bool,
    /// The epoch of its first frame. Whatever stands before it belongs to this
    /// epoch or to an earlier one.
    #[serde(with = "wire::epoch")]
    pub first_epoch: Epoch,
    /// The newest epoch that had ended in this core's log by its end, in this
    /// segment or before; 0 if none. A parked core has ended them all.
    #[serde(with = "wire::epoch")]
    pub ended: Epoch,
    /// The time of its last frame: nanoseconds since the Unix epoch.
    pub newest_ns: i64,
    /// Anything more the caller wants back at a restore.
    pub note: String,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Immutable until deleted.
    Run,
    /// May be renamed and written over.
    Segment,
}

/// A file of the inventory, named once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a FilePart,
    pub(crate) kind: Kind,
    /// Generation and base of a segment; zero for a run.
    pub(crate) stands_at: (u32, u64),
}

impl Inventory {
    /// The files, each once, by name; or how the inventory contradicts itself.
    pub(crate) fn files(&self) -> Result<BTreeMap<&str, Wanted<'_>>, String> {
        let mut files: BTreeMap<&str, Wanted<'_>> = BTreeMap::new();
        for checkpoint in &self.checkpoints {
            let facts = &checkpoint.facts;
            cores(facts.cores)?;
            if self.checkpoints.iter().filter(|other| other.facts.number == facts.number).count() > 1 {
                return Err(format!("two checkpoints have the number {}", facts.number));
            }
            for file in &checkpoint.runs {
                let wanted = Wanted { file, kind: Kind::Run, stands_at: (0, 0) };
                let before = files.insert(named(file)?, wanted);
                if before.is_some_and(|before| before.kind != Kind::Run || before.file.bytes != file.bytes) {
                    return Err(format!("{} stands for two files", file.name));
                }
            }
        }
        for SegmentPart { facts, file } in &self.segments {
            cores(facts.cores)?;
            if facts.core.0 >= facts.cores {
                return Err(format!("{} belongs to core {} of {}", file.name, facts.core, facts.cores));
            }
            if facts.next <= facts.number || facts.next_base < facts.end || facts.end < facts.base {
                return Err(format!("{} leads back", file.name));
            }
            let wanted = Wanted { file, kind: Kind::Segment, stands_at: (facts.generation, facts.base.0) };
            if files.insert(named(file)?, wanted).is_some() {
                return Err(format!("{} stands for two files", file.name));
            }
        }
        // A file must not stand where another has its directory.
        for name in files.keys() {
            let mut above = *name;
            while let Some((parent, _)) = above.rsplit_once('/') {
                if files.contains_key(parent) {
                    return Err(format!("{parent} is a file and a directory"));
                }
                above = parent;
            }
        }
        Ok(files)
    }
}

fn named(file: &FilePart) -> Result<&str, String> {
    if is_name(&file.name) { Ok(&file.name) } else { Err(format!("{:?} is no name of a file", file.name)) }
}

fn cores(cores: u16) -> Result<(), String> {
    if cores == 0 || cores > MAX_CORES { Err(format!("there can't be {cores} cores")) } else { Ok(()) }
}

/// Whether a name can be that of a file inside a store's directory, on any
/// machine, and part of an object's key.
pub(crate) fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !matches!(part, "." | "..")
            && part.len() <= 128
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    name.len() <= 256 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["runs/0000-12.run", "core-0000/00000000000000000003.wal", "a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "C:a", "a b", "a#1", "é", "a\0"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
