//! What is tortured: the store's options and the shape of what is written.

use clap::Args;
use corewal::{Checkpoints, Options};

use super::workload::Workload;
use crate::args::cores;
use crate::medium::Io;

/// The store and what is written to it. The defaults are small, so that the
/// ends of buffers and segments are met often, and many checkpoints.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// How many cores the store has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = cores())]
    pub(crate) cores: u16,
    /// How many keys are written
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
    /// The longest value, in bytes; one in a thousand comes near, most have less than a 400th of it
    #[arg(long, value_name = "N", default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(400..=16 << 20))]
    pub(crate) value_bytes: u32,
    /// How the logs are written
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) io: Io,
    /// The size of a segment, in bytes, at least four buffers
    #[arg(long, value_name = "N", default_value_t = 256 << 10, value_parser = clap::value_parser!(u64).range(16_384..=1 << 40))]
    pub(crate) segment_bytes: u64,
    /// The size of a buffer, in bytes
    #[arg(long, value_name = "N", default_value_t = 16 << 10, value_parser = clap::value_parser!(u32).range(4096..=16 << 20))]
    pub(crate) buffer_bytes: u32,
    /// A checkpoint for so many bytes of log
    #[arg(long, value_name = "N", default_value_t = 512 << 10, value_parser = clap::value_parser!(u64).range(4096..=1 << 40))]
    pub(crate) checkpoint_bytes: u64,
}

impl Setup {
    /// How the store is opened, made if it is not there.
    pub(super) fn options(self) -> Options {
        self.options_of_any().cores(self.cores)
    }

    /// How a store is opened that has any number of cores.
    pub(super) fn options_of_any(self) -> Options {
        let checkpoints = Checkpoints::default().bytes(self.checkpoint_bytes).keep(2);
        Options::new()
            .segment_bytes(self.segment_bytes)
            .buffer_bytes(self.buffer_bytes as usize)
            .checkpoints(checkpoints)
    }

    /// What is written.
    pub(super) fn workload(self, seed: u64) -> Workload {
        Workload::new(seed, self.keys, self.value_bytes)
    }

    /// As the command line has it.
    pub(super) fn args(self) -> Vec<String> {
        let Self { cores, keys, value_bytes, io, segment_bytes, buffer_bytes, checkpoint_bytes } = self;
        [
            ("cores", cores.to_string()),
            ("keys", keys.to_string()),
            ("value-bytes", value_bytes.to_string()),
            ("io", io.to_string()),
            ("segment-bytes", segment_bytes.to_string()),
            ("buffer-bytes", buffer_bytes.to_string()),
            ("checkpoint-bytes", checkpoint_bytes.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [format!("--{name}"), value])
        .collect()
    }
}

#[cfg(test)]
impl Setup {
    /// For tests.
    pub(super) fn small(cores: u16, keys: u64) -> Self {
        Self {
            cores,
            keys,
            value_bytes: 40_000,
            io: Io::Auto,
            segment_bytes: 256 << 10,
            buffer_bytes: 16 << 10,
            checkpoint_bytes: 512 << 10,
        }
    }
}
