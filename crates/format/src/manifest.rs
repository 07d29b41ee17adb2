//! The manifest: the root of a store, a short text that a person can read.
//!
//! ```text
//! corewal manifest 1
//! state ready
//! log 00112233445566778899aabbccddeeff
//! cores 2
//! route xxh3-64
//! crc32c 1a2b3c4d
//! ```

use std::fmt;

use crate::checksum::crc32c;
use crate::limit::MAX_CORES;
use crate::{FORMAT_VERSION, LogId};

const HEADING: &str = "corewal manifest ";
const CHECKSUM: &str = "crc32c ";
/// Longest manifest, in bytes: a bound for readers.
const MAX_LEN: usize = 64 * 1024;

/// How far the creation of a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestState {
    /// Its logs are being created; nothing was ever acknowledged.
    Creating,
    /// All its logs exist.
    Ready,
}

/// What a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// How far its creation has come.
    pub state: ManifestState,
    /// Identity of the store.
    pub log_id: LogId,
    /// Number of cores.
    pub cores: u16,
    /// Name of the hash that routes keys to cores.
    pub route: String,
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
    /// The text of the manifest.
    #[must_use]
    pub fn encode(&self) -> String {
        let state = match self.state {
            ManifestState::Creating => "creating",
            ManifestState::Ready => "ready",
        };
        let body = format!(
            "{HEADING}{FORMAT_VERSION}\nstate {state}\nlog {}\ncores {}\nroute {}\n",
            self.log_id, self.cores, self.route
        );
        let checksum = crc32c(body.as_bytes());
        format!("{body}{CHECKSUM}{checksum:08x}\n")
    }

    /// Reads a manifest. As with segments, the checksum is judged before the
    /// version.
    ///
    /// # Errors
    /// [`ManifestError`], for any other bytes than [`Manifest::encode`] gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotAManifest)?;
        if text.len() > MAX_LEN || !text.starts_with(HEADING) {
            return Err(ManifestError::NotAManifest);
        }
        let (body, sum) = text.rsplit_once(CHECKSUM).ok_or(ManifestError::Checksum)?;
        if sum != format!("{:08x}\n", crc32c(body.as_bytes())) {
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
        let state = match line("state", "state ")? {
            "creating" => ManifestState::Creating,
            "ready" => ManifestState::Ready,
            _ => return Err(ManifestError::Line { name: "state" }),
        };
        let log_id = LogId::parse(line("log", "log ")?).ok_or(ManifestError::Line { name: "log" })?;
        let cores = line("cores", "cores ")?.parse().map_err(|_| ManifestError::Line { name: "cores" })?;
        let route = line("route", "route ")?.to_owned();
        let manifest = Self { state, log_id, cores, route };
        match () {
            () if version == 0 => Err(ManifestError::NotAManifest),
            () if cores == 0 || cores > MAX_CORES => Err(ManifestError::Line { name: "cores" }),
            // One spelling only, so that no byte of it can change unnoticed.
            () if manifest.encode().as_bytes() != bytes => Err(ManifestError::Line { name: "crc32c" }),
            () => Ok(manifest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest { state: ManifestState::Ready, log_id: LogId([3; 16]), cores: 4, route: "xxh3-64".into() }
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(Manifest::decode(manifest().encode().as_bytes()), Ok(manifest()));
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
    fn a_newer_manifest_is_unsupported() {
        let body = "corewal manifest 2\nsomething else\n";
        let text = format!("{body}crc32c {:08x}\n", crc32c(body.as_bytes()));
        assert_eq!(Manifest::decode(text.as_bytes()), Err(ManifestError::Version { found: 2 }));
    }
}
