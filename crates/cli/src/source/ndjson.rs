//! NDJSON: one JSON object a line.

use super::json::Picker;
use super::skip::Skip;
use super::window::Window;
use super::{Fields, Found, Pick, Trouble};
use crate::exit::Failure;

/// Splits lines and picks their fields.
pub(super) struct Reader {
    picker: Picker,
    /// How many of the window's bytes are known to hold no newline.
    scanned: usize,
    skip: Option<Skip>,
    skipping: bool,
}

impl Reader {
    pub(super) fn new(pick: Pick) -> Self {
        Self { picker: Picker::new(pick), scanned: 0, skip: None, skipping: false }
    }

    /// The next line that is not blank. `last` says that the end of the bytes
    /// is the end of the input, so that it ends a line too.
    pub(super) fn find(&mut self, window: &mut Window, last: bool, limit: usize) -> Result<Found, Failure> {
        loop {
            if self.skipping {
                if self.pass(window) || (window.fill()? == 0 && last) {
                    self.skipping = false;
                    return Ok(Found::Skipped);
                }
                if window.bytes().is_empty() {
                    return Ok(Found::Pending);
                }
                continue;
            }
            let bytes = window.bytes();
            let length = memchr::memchr(b'\n', &bytes[self.scanned..]).map(|at| self.scanned + at + 1);
            self.scanned = bytes.len();
            // The limit is on the line without its newline.
            if length.map_or(self.scanned, |length| length - 1) > limit {
                self.skip = Some(Skip::new(window, limit));
                self.skipping = true;
                self.scanned = 0;
                continue;
            }
            let length = match length {
                Some(length) => length,
                None if window.fill()? > 0 => continue,
                None if !last => return Ok(Found::Pending),
                None if window.bytes().is_empty() => return Ok(Found::End),
                None => self.scanned,
            };
            self.scanned = 0;
            window.consume(length);
            if !window.consumed(length).trim_ascii().is_empty() {
                return Ok(Found::Record(length));
            }
        }
    }

    /// The overlong line that was found last.
    pub(super) fn skip(&self) -> &Skip {
        self.skip.as_ref().expect("asked for only after it was found")
    }

    /// The key and value in a line.
    pub(super) fn fields<'a>(&'a mut self, line: &'a [u8]) -> Result<Fields<'a>, Trouble> {
        self.picker.pick(line)
    }

    fn pass(&mut self, window: &mut Window) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.advance(window))
    }
}
