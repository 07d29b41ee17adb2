//! What can be chosen about an archive.

use std::time::Duration;

/// What can be chosen about an archive. The default is meant to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who this is, in words for people; stands in claims. By default the name
    /// of the machine and the number of the process.
    pub holder: String,
    /// Checkpoints to keep in the archive, with the logs that go on from them,
    /// also when the store has let them go. All that the store has are kept in
    /// any case.
    pub keep_checkpoints: usize,
    /// Bytes of a file in memory at once, and the size of an upload's pieces.
    /// S3 asks for at least 5 MiB, and at most 10,000 pieces a file.
    pub piece_bytes: usize,
    /// Files under way at once.
    pub files_at_once: usize,
    /// Longest wait for a request, its retries included.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            holder: format!("{} {}", rustix::system::uname().nodename().to_string_lossy(), std::process::id()),
            keep_checkpoints: 2,
            piece_bytes: 16 << 20,
            files_at_once: 4,
            request_timeout: Duration::from_secs(60),
        }
    }
}
