//! Passing over a line that is too long to be held.

use super::window::Window;

/// So much of the line is kept, to show which one it was.
const KEPT: usize = 1024;

/// An overlong line on its way out.
pub(super) struct Skip {
    start: u64,
    beginning: Vec<u8>,
}

impl Skip {
    /// Begins to skip the line at the window's beginning, which is longer than
    /// `limit`.
    pub(super) fn new(window: &Window, limit: usize) -> Self {
        // Not "what is there": that would depend on how the bytes arrived.
        Self { start: window.offset(), beginning: window.bytes()[..KEPT.min(limit)].to_vec() }
    }

    /// Consumes what the window has of the line. True when its newline was
    /// among it.
    pub(super) fn advance(&self, window: &mut Window) -> bool {
        match memchr::memchr(b'\n', window.bytes()) {
            Some(at) => {
                window.consume(at + 1);
                true
            }
            None => {
                window.consume(window.bytes().len());
                false
            }
        }
    }

    /// The offset of the line's first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The line's beginning.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }
}
