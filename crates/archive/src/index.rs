//! The index: what an owner's archive consists of at one moment.

use std::collections::BTreeSet;

use corewal_format::name::is_file_of_store;
use corewal_format::{CoreId, Epoch, LogId, MAX_CORES};
use serde::{Deserialize, Serialize};

use crate::inventory::{CheckpointFacts, SegmentFacts, is_name};
use crate::key::{self, Place};
use crate::sealed::{self, Broken, LAYOUT_VERSION};
use crate::types::{Content, Nonce, Term};
use crate::wire;

/// What an archive consists of at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) version: u32,
    #[serde(with = "wire::log_id")]
    pub(crate) log_id: LogId,
    /// Whose index it is, and which of its indexes.
    pub(crate) term: Term,
    pub(crate) nonce: Nonce,
    pub(crate) number: u64,
    /// Which push made the content: one of this owner, or of one before if
    /// this index only repeats what was inherited.
    pub(crate) content: Content,
    /// The index that this owner found when it took over.
    pub(crate) inherited: Option<(Term, u64)>,
    /// When it was put: nanoseconds since the Unix epoch.
    pub(crate) time_ns: i64,
    pub(crate) generation: u32,
    pub(crate) cores: u16,
    #[serde(with = "wire::epoch")]
    pub(crate) complete_epoch: Epoch,
    /// By number.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// By generation, core and number.
    pub(crate) segments: Vec<Segment>,
}

/// A file of the store and the object that holds its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) bytes: u64,
    /// BLAKE3 of the bytes, 64 lower-case hexadecimal digits.
    pub(crate) blake3: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) facts: CheckpointFacts,
    pub(crate) runs: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) facts: SegmentFacts,
    pub(crate) file: Part,
}

impl Segment {
    /// Where it stands among all segments.
    pub(crate) fn order(&self) -> (u32, CoreId, u64) {
        (self.facts.generation, self.facts.core, self.facts.number.0)
    }
}

impl Index {
    /// Its key.
    pub(crate) fn key(&self) -> String {
        key::index(self.log_id, self.term, self.number)
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        debug_assert_eq!(self.version, LAYOUT_VERSION);
        sealed::seal(self)
    }

    /// The index in bytes that stand under the key of `number` in `term`.
    pub(crate) fn decode(bytes: &[u8], log: LogId, term: Term, number: u64) -> Result<Self, Broken> {
        let index: Self = sealed::open(bytes)?;
        if (index.log_id, index.term, index.number) != (log, term, number) {
            return Err(Broken::Damaged("it belongs under another key".to_owned()));
        }
        // The hash tells of accidents only; a name must never lead out of the
        // directory that is restored into, whoever wrote it.
        for part in index.parts() {
            let ours = matches!(Place::parse(log, &part.key), Some(Place::Part(at, _)) if at <= term);
            if !is_name(&part.name) || is_file_of_store(&part.name) || !ours {
                return Err(Broken::Damaged(format!("it names {:?} at {:?}", part.name, part.key)));
            }
        }
        if !index.cores_fit() {
            return Err(Broken::Damaged("it has an impossible number of cores".to_owned()));
        }
        Ok(index)
    }

    /// Whether each number of cores is one that a store can have: room is made
    /// for so many.
    fn cores_fit(&self) -> bool {
        let fits = |cores: u16| (1..=MAX_CORES).contains(&cores);
        fits(self.cores)
            && self.checkpoints.iter().all(|checkpoint| fits(checkpoint.facts.cores))
            && self
                .segments
                .iter()
                .all(|segment| fits(segment.facts.cores) && segment.facts.core.0 < segment.facts.cores)
    }

    /// Every part, runs of several checkpoints as often as they are named.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        let runs = self.checkpoints.iter().flat_map(|checkpoint| &checkpoint.runs);
        runs.chain(self.segments.iter().map(|segment| &segment.file))
    }

    /// The keys of the parts, each once.
    pub(crate) fn keys(&self) -> BTreeSet<&str> {
        self.parts().map(|part| part.key.as_str()).collect()
    }

    /// The bytes of the parts, each counted once.
    pub(crate) fn bytes(&self) -> u64 {
        let parts: BTreeSet<(&str, u64)> = self.parts().map(|part| (part.key.as_str(), part.bytes)).collect();
        parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use corewal_format::{Lsn, SegmentId};

    use super::*;

    const LOG: LogId = LogId([1; 16]);

    fn index(core: u16, cores: u16, name: &str) -> Index {
        let nonce = Nonce::draw().unwrap();
        let facts = SegmentFacts {
            generation: 0,
            core: CoreId(core),
            cores,
            number: SegmentId(0),
            base: Lsn(0),
            end: Lsn(8192),
            next: SegmentId(1),
            next_base: Lsn(8192),
            first: true,
            first_epoch: Epoch(1),
            ended: Epoch(1),
            newest_ns: 0,
            note: String::new(),
        };
        let key = key::part(LOG, Term(1), 1, "core-0000/00000000000000000000.wal");
        let file = Part { name: name.to_owned(), key, bytes: 1, blake3: String::new() };
        Index {
            version: LAYOUT_VERSION,
            log_id: LOG,
            term: Term(1),
            nonce: nonce.clone(),
            number: 1,
            content: Content { maker: nonce, number: 1 },
            inherited: None,
            time_ns: 0,
            generation: 0,
            cores,
            complete_epoch: Epoch(1),
            checkpoints: Vec::new(),
            segments: vec![Segment { facts, file }],
        }
    }

    /// Whoever can write to the archive can make the hash fit.
    #[test]
    fn an_index_with_impossible_cores_or_the_name_of_another_file_is_damaged_though_its_hash_fits() {
        let read = |index: &Index| Index::decode(&index.encode().unwrap(), LOG, Term(1), 1);
        let name = "core-0000/00000000000000000000.wal";
        assert!(read(&index(0, 2, name)).is_ok());
        for (core, cores) in [(0, 0), (2, 2), (0, MAX_CORES + 1), (0, u16::MAX), (u16::MAX, 2)] {
            let broken = read(&index(core, cores, name)).unwrap_err();
            assert!(matches!(&broken, Broken::Damaged(why) if why.contains("cores")), "{core} of {cores}: {broken:?}");
        }
        for name in ["MANIFEST", "LOCK", ".corewal-restore", "../x", "/etc/passwd", "runs/../../x"] {
            assert!(matches!(read(&index(0, 2, name)), Err(Broken::Damaged(_))), "{name}");
        }
    }
}
