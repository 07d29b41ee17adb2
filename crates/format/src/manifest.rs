//! The manifest: the root of a store, a short text that a person can read.
//!
//! ```text
//! corewal manifest 1
//! number 7
//! state ready
//! log 00112233445566778899aabbccddeeff
//! cores 2
//! generation 0
//! route xxh3-64
//! checkpoint 3 epoch 57 time 1700000000000000000
//! inherited 696e 6400000000000000
//! core 0 lsn 81920
//! run 4 level 1 bytes 12288 puts 31 deletes 0 crc32c 5e6f7a8b
//! run 6 level 0 bytes 8192 puts 2 deletes 1 crc32c 0a1b2c3d
//! core 1 lsn 40960
//! run 5 level 1 bytes 12288 puts 29 deletes 0 crc32c 91a2b3c4
//! crc32c 1a2b3c4d
//! ```

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::checksum::crc32c;
use crate::limit::{MAX_CORES, MAX_EPOCH};
use crate::record::RECORD_HEADER_LEN;
use crate::{Epoch, FORMAT_VERSION, LogId, Lsn, Offsets, RunId, TimestampNs};

const HEADING: &str = "corewal manifest ";
const CHECKSUM: &str = "crc32c ";
/// Longest manifest, in bytes: a bound for readers.
pub const MAX_MANIFEST_LEN: usize = 16 << 20;

/// The most that a manifest's number, a run's number and the bytes of a
/// checkpoint's runs come to: out of reach, and low enough that arithmetic on a
/// few of them cannot overflow.
const MAX_COUNT: u64 = u64::MAX >> 2;
/// The last position that a checkpoint can cover: behind where the last segment
/// begins, by more than one can hold.
const MAX_COVERED: Lsn = Lsn(u64::MAX >> 1);
/// The same for generations.
const MAX_GENERATION: u32 = u32::MAX >> 1;

/// How far the creation of a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestState {
    /// Its logs are being created; nothing was ever acknowledged.
    Creating,
    /// All its logs exist.
    Ready,
}

/// What a store is, and which checkpoints it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Counts the manifests of the store, from 1: the greater one is newer.
    pub number: u64,
    /// How far its creation has come.
    pub state: ManifestState,
    /// Identity of the store.
    pub log_id: LogId,
    /// Number of cores.
    pub cores: u16,
    /// How often the number of cores was changed: names the logs' directories.
    pub generation: u32,
    /// Name of the hash that routes keys to cores.
    pub route: String,
    /// The checkpoints, oldest first. Each stands alone, with the log behind it.
    pub checkpoints: Vec<Checkpoint>,
}

/// The state of all cores at the end of a complete epoch, written aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of the manifest that was the first to name it, so that none
    /// is given twice.
    pub number: u64,
    /// The epoch at whose end the state was so.
    pub epoch: Epoch,
    /// When it was made.
    pub time: TimestampNs,
    /// The source offsets that every core was given when the number of cores
    /// was last changed: a core that still has one of them does not speak for
    /// its source.
    pub inherited: Offsets,
    /// By core.
    pub cores: Vec<CoreCheckpoint>,
}

/// One core's part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreCheckpoint {
    /// It covers what stands below in the core's log.
    pub lsn: Lsn,
    /// The base first, then its changes, oldest first: of a key what comes last
    /// counts.
    pub runs: Vec<RunRef>,
}

/// A run, as a checkpoint names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// Its number.
    pub run: RunId,
    /// 1: a part of the base, whose runs follow each other in key order and
    /// share no key. 0: changes of it.
    pub level: u8,
    /// Length of its file, in bytes.
    pub bytes: u64,
    /// Keys with a value.
    pub puts: u64,
    /// Keys that are removed.
    pub deletes: u64,
    /// CRC-32C of the whole file.
    pub crc: u32,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not text, or without the heading of a manifest.
    NotAManifest,
    /// The checksum is absent or does not match.
    Checksum,
    /// Intact, but of a newer format.
    Version {
        /// The version it states.
        found: u32,
    },
    /// Intact, and yet a line is absent, out of order or out of range.
    Line {
        /// The word the line should begin with.
        name: &'static str,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAManifest => write!(f, "not a corewal manifest"),
            Self::Checksum => write!(f, "the manifest's checksum does not match"),
            Self::Version { found } => {
                write!(f, "unsupported version {found} (this program reads up to {FORMAT_VERSION})")
            }
            Self::Line { name } => write!(f, "the manifest's line `{name}` is absent or out of range"),
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// The first manifest of a store that is being created.
    #[must_use]
    pub fn new(log_id: LogId, cores: u16, route: &str) -> Self {
        Self {
            number: 1,
            state: ManifestState::Creating,
            log_id,
            cores,
            generation: 0,
            route: route.to_owned(),
            checkpoints: Vec::new(),
        }
    }

    /// The text of the manifest.
    #[must_use]
    pub fn encode(&self) -> String {
        let state = match self.state {
            ManifestState::Creating => "creating",
            ManifestState::Ready => "ready",
        };
        let mut text = format!(
            "{HEADING}{FORMAT_VERSION}\nnumber {}\nstate {state}\nlog {}\ncores {}\ngeneration {}\nroute {}\n",
            self.number, self.log_id, self.cores, self.generation, self.route
        );
        for checkpoint in &self.checkpoints {
            text.push_str(&checkpoint.encode());
        }
        let checksum = crc32c(text.as_bytes());
        writeln!(text, "{CHECKSUM}{checksum:08x}").expect("a string takes it");
        text
    }

    /// Reads a manifest. As with segments, the checksum is judged before the
    /// version.
    ///
    /// # Errors
    /// [`ManifestError`], for any other bytes than [`Manifest::encode`] gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotAManifest)?;
        if text.len() > MAX_MANIFEST_LEN || !text.starts_with(HEADING) {
            return Err(ManifestError::NotAManifest);
        }
        // The last line, and no earlier one that begins so.
        let at = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).ok_or(ManifestError::Checksum)? + 1;
        let (body, sum) = text.split_at(at);
        if sum != format!("{CHECKSUM}{:08x}\n", crc32c(body.as_bytes())) {
            return Err(ManifestError::Checksum);
        }
        let mut lines = body.split_terminator('\n');
        let mut line = |name: &'static str, prefix: &str| {
            lines.next().and_then(|line| line.strip_prefix(prefix)).ok_or(ManifestError::Line { name })
        };
        let version = line("corewal manifest", HEADING)?;
        let version: u32 = version.parse().map_err(|_| ManifestError::NotAManifest)?;
        if version > FORMAT_VERSION {
            return Err(ManifestError::Version { found: version });
        }
        let number = parse("number", line("number", "number ")?)?;
        let state = match line("state", "state ")? {
            "creating" => ManifestState::Creating,
            "ready" => ManifestState::Ready,
            _ => return Err(ManifestError::Line { name: "state" }),
        };
        let log_id = LogId::parse(line("log", "log ")?).ok_or(ManifestError::Line { name: "log" })?;
        let cores = parse("cores", line("cores", "cores ")?)?;
        let generation = parse("generation", line("generation", "generation ")?)?;
        let route = line("route", "route ")?.to_owned();
        let checkpoints = Checkpoint::decode_all(&mut lines)?;
        let manifest = Self { number, state, log_id, cores, generation, route, checkpoints };
        match () {
            () if version == 0 => Err(ManifestError::NotAManifest),
            () if number == 0 => Err(ManifestError::Line { name: "number" }),
            () if cores == 0 || cores > MAX_CORES => Err(ManifestError::Line { name: "cores" }),
            () if !manifest.checkpoints_fit() => Err(ManifestError::Line { name: "checkpoint" }),
            // One spelling only, so that no byte of it can change unnoticed.
            () if manifest.encode().as_bytes() != bytes => Err(ManifestError::Line { name: "crc32c" }),
            () => Ok(manifest),
        }
    }

    /// Each checkpoint has all cores, and a later one covers no less. Nothing
    /// counts so far that counting on would overflow, and no run claims more
    /// keys than its bytes can hold.
    fn checkpoints_fit(&self) -> bool {
        let cores = usize::from(self.cores);
        let each = |checkpoint: &Checkpoint| {
            let ordered = |core: &CoreCheckpoint| core.runs.is_sorted_by(|before, after| before.level >= after.level);
            checkpoint.cores.len() == cores
                && checkpoint.number > 0
                && checkpoint.epoch <= MAX_EPOCH
                && checkpoint.cores.iter().all(|core| ordered(core) && core.lsn <= MAX_COVERED)
                && checkpoint.runs_fit()
        };
        let ascend = |pair: &[Checkpoint]| {
            let cores = pair[0].cores.iter().zip(&pair[1].cores);
            pair[0].number < pair[1].number
                && pair[0].epoch <= pair[1].epoch
                && cores.clone().all(|(old, new)| old.lsn <= new.lsn)
        };
        let newest = self.newest().map_or(0, |newest| newest.number);
        newest <= self.number
            && self.number <= MAX_COUNT
            && self.generation <= MAX_GENERATION
            && self.checkpoints.iter().all(each)
            && self.checkpoints.windows(2).all(ascend)
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn newest(&self) -> Option<&Checkpoint> {
        self.checkpoints.last()
    }
}

/// Two lower-case digits a byte; a dash for none.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes it");
        text
    })
}

/// The bytes that [`hex`] printed; that it is its one spelling is for others to
/// see.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return Some(Vec::new());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn parse<T: FromStr>(name: &'static str, text: &str) -> Result<T, ManifestError> {
    text.parse().map_err(|_| ManifestError::Line { name })
}

impl RunRef {
    /// Whether it has room for its keys: each takes a record.
    fn holds_its_keys(&self) -> bool {
        let room = self.bytes / RECORD_HEADER_LEN as u64;
        self.run.0 <= MAX_COUNT && self.puts.checked_add(self.deletes).is_some_and(|keys| keys <= room)
    }
}

impl Checkpoint {
    fn runs_fit(&self) -> bool {
        let mut runs = self.cores.iter().flat_map(|core| &core.runs);
        let bytes = runs.clone().try_fold(0_u64, |sum, run| sum.checked_add(run.bytes));
        bytes.is_some_and(|bytes| bytes <= MAX_COUNT) && runs.all(RunRef::holds_its_keys)
    }

    /// Its lines of the manifest.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("checkpoint {} epoch {} time {}\n", self.number, self.epoch, self.time);
        for (name, value) in &self.inherited {
            writeln!(text, "inherited {} {}", hex(name.as_bytes()), hex(value)).expect("a string takes it");
        }
        for (core, part) in self.cores.iter().enumerate() {
            writeln!(text, "core {core} lsn {}", part.lsn).expect("a string takes it");
            for RunRef { run, level, bytes, puts, deletes, crc } in &part.runs {
                writeln!(text, "run {run} level {level} bytes {bytes} puts {puts} deletes {deletes} crc32c {crc:08x}")
                    .expect("a string takes it");
            }
        }
        text
    }

    /// Reads what [`Checkpoint::encode`] prints, for those who keep it
    /// elsewhere.
    ///
    /// # Errors
    /// [`ManifestError::Line`].
    pub fn decode(text: &str) -> Result<Self, ManifestError> {
        let mut all = Self::decode_all(&mut text.split_terminator('\n'))?;
        match all.pop() {
            Some(checkpoint) if all.is_empty() && checkpoint.encode() == text => Ok(checkpoint),
            _ => Err(ManifestError::Line { name: "checkpoint" }),
        }
    }

    fn decode_all<'t>(lines: &mut impl Iterator<Item = &'t str>) -> Result<Vec<Self>, ManifestError> {
        let mut all: Vec<Self> = Vec::new();
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["checkpoint", number, "epoch", epoch, "time", time] => all.push(Self {
                    number: parse("checkpoint", number)?,
                    epoch: Epoch(parse("checkpoint", epoch)?),
                    time: TimestampNs(parse("checkpoint", time)?),
                    inherited: Offsets::new(),
                    cores: Vec::new(),
                }),
                ["inherited", name, value] => {
                    let wrong = || ManifestError::Line { name: "inherited" };
                    let checkpoint = all.last_mut().filter(|last| last.cores.is_empty()).ok_or_else(wrong)?;
                    let name = unhex(name).and_then(|name| String::from_utf8(name).ok()).ok_or_else(wrong)?;
                    checkpoint.inherited.insert(name, unhex(value).ok_or_else(wrong)?);
                }
                ["core", core, "lsn", lsn] => {
                    let checkpoint = all.last_mut().ok_or(ManifestError::Line { name: "core" })?;
                    if parse::<usize>("core", core)? != checkpoint.cores.len() {
                        return Err(ManifestError::Line { name: "core" });
                    }
                    checkpoint.cores.push(CoreCheckpoint { lsn: Lsn(parse("core", lsn)?), runs: Vec::new() });
                }
                ["run", run, "level", level, "bytes", bytes, "puts", puts, "deletes", deletes, "crc32c", crc] => {
                    let core = all.last_mut().and_then(|checkpoint| checkpoint.cores.last_mut());
                    let run = RunId(parse("run", run)?);
                    let core = core.filter(|_| run.0 > 0).ok_or(ManifestError::Line { name: "run" })?;
                    core.runs.push(RunRef {
                        run,
                        level: parse("run", level)?,
                        bytes: parse("run", bytes)?,
                        puts: parse("run", puts)?,
                        deletes: parse("run", deletes)?,
                        crc: u32::from_str_radix(crc, 16).map_err(|_| ManifestError::Line { name: "run" })?,
                    });
                }
                _ => return Err(ManifestError::Line { name: "checkpoint" }),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let run = |run, crc| RunRef { run: RunId(run), level: 1, bytes: 8192, puts: run, deletes: 1, crc };
        let checkpoint = |number: u64, runs: &[u64]| Checkpoint {
            number,
            epoch: Epoch(10 * number),
            time: TimestampNs(1_700_000_000_000_000_000),
            inherited: [("in".to_owned(), vec![0, 0xfe]), (String::new(), vec![])].into(),
            cores: vec![
                CoreCheckpoint { lsn: Lsn(4096 * number), runs: runs.iter().map(|&id| run(id, 0xabc)).collect() },
                CoreCheckpoint::default(),
            ],
        };
        Manifest {
            number: 3,
            state: ManifestState::Ready,
            log_id: LogId([3; 16]),
            cores: 2,
            generation: 1,
            route: "xxh3-64".into(),
            checkpoints: vec![checkpoint(1, &[1]), checkpoint(2, &[1, 3])],
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(Manifest::decode(manifest().encode().as_bytes()), Ok(manifest()));
        let checkpoint = &manifest().checkpoints[1];
        assert_eq!(Checkpoint::decode(&checkpoint.encode()).as_ref(), Ok(checkpoint));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let text = manifest().encode().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..text.len() {
            assert!(Manifest::decode(&text[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn checkpoints_that_contradict_each_other_or_the_store_are_refused() {
        let refused = |change: fn(&mut Manifest)| {
            let mut changed = manifest();
            change(&mut changed);
            assert!(Manifest::decode(changed.encode().as_bytes()).is_err(), "{}", changed.encode());
        };
        refused(|manifest| manifest.cores = 3);
        refused(|manifest| manifest.checkpoints.reverse());
        refused(|manifest| manifest.checkpoints[1].cores[0].lsn = Lsn(0));
        refused(|manifest| manifest.checkpoints[1].cores[0].runs[0].run = RunId(0));
        refused(|manifest| manifest.checkpoints[1].cores[0].runs[0].level = 0);
        refused(|manifest| manifest.number = 0);
    }

    #[test]
    fn inherited_offsets_stand_before_the_cores_in_one_spelling() {
        let text = manifest().checkpoints[0].encode();
        assert!(text.contains("\ninherited - -\ninherited 696e 00fe\ncore 0 "), "{text}");
        let lines = "inherited - -\ninherited 696e 00fe\n";
        for wrong in [
            "inherited 696e 00fe\ninherited - -\n",
            "inherited - -\ninherited - -\ninherited 696e 00fe\n",
            "inherited - -\ninherited 696E 00fe\n",
            "inherited - -\ninherited 696e 00f\n",
            "inherited - -\ninherited 696e 00fg\n",
            "inherited - -\ninherited ff 00fe\n",
            "inherited - -\ninherited 696e \n",
            "inherited - -\ninherited 696e\n",
        ] {
            assert!(Checkpoint::decode(&text.replace(lines, wrong)).is_err(), "{wrong}");
        }
        let behind = text.replace(lines, "").replacen("\nrun ", "\ninherited - -\nrun ", 1);
        assert!(Checkpoint::decode(&behind).is_err(), "{behind}");
    }

    #[test]
    fn a_newer_manifest_is_unsupported() {
        let body = "corewal manifest 2\nsomething else\n";
        let text = format!("{body}crc32c {:08x}\n", crc32c(body.as_bytes()));
        assert_eq!(Manifest::decode(text.as_bytes()), Err(ManifestError::Version { found: 2 }));
    }
}
