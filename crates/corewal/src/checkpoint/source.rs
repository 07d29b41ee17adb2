//! Reading runs: one in key order, or several merged, the newest value of each
//! key.

use std::ops::Range;

use corewal_format::{
    BLOCK_LEN, CoreId, FRAME_HEADER_LEN, Frame, FrameHeader, Lsn, Record, RunRef, SegmentHeader, SegmentIdentity,
    block_align, crc32c_append,
};
use corewal_io::Storage;

use crate::commit::Progress;
use crate::error::{Damage, Error, Result};
use crate::layout::Layout;
use crate::scan::{LogIdentity, Verdict, Window};

/// A key of the frame at hand: where it stands, and its value if it has one.
#[derive(Clone, Debug)]
struct Item {
    key: Range<usize>,
    value: Option<Range<usize>>,
}

/// Goes through one run in key order. Everything is checked on the way: whose
/// run it is, every checksum, the order of the keys, that it is whole.
pub(crate) struct RunReader<'l, S: Storage> {
    layout: &'l Layout<S>,
    core: CoreId,
    run: RunRef,
    window: Window<S>,
    seed: u32,
    /// Position of the next frame.
    offset: u64,
    sequence: u64,
    frame: Vec<u8>,
    items: Vec<Item>,
    at: usize,
    /// Puts and deletes seen.
    seen: (u64, u64),
    /// What its commit says, once it has been read.
    pub(crate) progress: Option<Progress>,
    closed: bool,
}

/// A key with its value; `None` if it is removed.
pub(crate) type KeyValue<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'l, S: Storage> RunReader<'l, S> {
    pub(crate) fn open(layout: &'l Layout<S>, log: LogIdentity, run: RunRef) -> Result<Self> {
        let Some(mut window) = Window::open_run(layout, run.run)? else {
            return Err(damaged(layout, log.core, run, 0, Verdict::Missing, "the run is absent".into()));
        };
        let len = window.len(layout)?;
        let fail = |verdict, detail| Err(damaged(layout, log.core, run, 0, verdict, detail));
        if len != run.bytes {
            return fail(Verdict::Corrupt, format!("the run has {len} bytes, the manifest says {}", run.bytes));
        }
        let identity = SegmentIdentity::of_run(log.log_id, log.core, run.run);
        match SegmentHeader::decode(window.at(layout, 0, BLOCK_LEN)?) {
            Ok(header) if header.run && header.identity == identity && header.cores == log.cores => {}
            Ok(header) => {
                return fail(
                    Verdict::Foreign,
                    format!("it is not run {} of core {}, but {:?}", run.run, log.core, header.identity),
                );
            }
            Err(error) => return fail(Verdict::Corrupt, error.to_string()),
        }
        let mut reader = Self {
            layout,
            core: log.core,
            run,
            window,
            seed: identity.checksum_seed(),
            offset: BLOCK_LEN as u64,
            sequence: 0,
            frame: Vec::new(),
            items: Vec::new(),
            at: 0,
            seen: (0, 0),
            progress: None,
            closed: false,
        };
        reader.fill()?;
        Ok(reader)
    }

    /// The key at hand; `None` at the end.
    #[inline]
    pub(crate) fn current(&self) -> Option<KeyValue<'_>> {
        let item = self.items.get(self.at)?;
        Some((&self.frame[item.key.clone()], item.value.clone().map(|value| &self.frame[value])))
    }

    /// Goes on to the next key.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        self.at += 1;
        if self.at < self.items.len() { Ok(()) } else { self.fill() }
    }

    /// Reads frames until there is a key at hand, or the end.
    fn fill(&mut self) -> Result<()> {
        while self.at >= self.items.len() && !self.closed {
            self.next_frame()?;
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<()> {
        let lsn = Lsn(self.offset);
        let fail = |detail: String| Err(damaged(self.layout, self.core, self.run, lsn.0, Verdict::Corrupt, detail));
        let header = match FrameHeader::peek(self.window.at(self.layout, self.offset, FRAME_HEADER_LEN)?, lsn) {
            Ok(header) => header,
            Err(error) => return fail(error.to_string()),
        };
        let bytes = self.window.at(self.layout, self.offset, header.len)?;
        let frame = match Frame::decode(bytes, self.seed, lsn) {
            Ok(frame) => frame,
            Err(error) => return fail(error.to_string()),
        };
        if header.fields.sequence.0 != self.sequence {
            return fail(format!("the frame's sequence is {}, expected {}", header.fields.sequence, self.sequence));
        }
        let last = self.items.last().map(|item| self.frame[item.key.clone()].to_vec());
        let base = bytes.as_ptr() as usize;
        let within = |part: &[u8]| {
            let from = part.as_ptr() as usize - base;
            from..from + part.len()
        };
        let mut last = last.as_deref();
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        for entry in frame.entries() {
            let entry = match entry {
                Ok(entry) if !self.closed => entry,
                Ok(_) => return fail("records behind its end".into()),
                Err(error) => return fail(error.to_string()),
            };
            let (key, value) = match entry.record {
                Record::Put { key, value } => (key, Some(value)),
                Record::Delete { key } => (key, None),
                Record::Commit(commit) => {
                    self.progress.get_or_insert_default().apply(commit);
                    continue;
                }
                Record::Close { .. } if self.progress.is_some() => {
                    self.closed = true;
                    continue;
                }
                _ => return fail("a record that no run holds".into()),
            };
            if last.is_some_and(|last| last >= key) || self.progress.is_some() {
                return fail("keys out of order".into());
            }
            last = Some(key);
            match value {
                Some(_) => self.seen.0 += 1,
                None => self.seen.1 += 1,
            }
            items.push(Item { key: within(key), value: value.map(within) });
        }
        self.frame.clear();
        self.frame.extend_from_slice(&bytes[..header.len]);
        (self.items, self.at) = (items, 0);
        self.sequence += u64::from(header.records);
        self.offset += block_align(header.len) as u64;
        if self.closed && (self.offset != self.run.bytes || self.seen != (self.run.puts, self.run.deletes)) {
            return fail(format!("it ends with other contents than the manifest says: {:?}", self.seen));
        }
        Ok(())
    }
}

fn damaged<S: Storage>(
    layout: &Layout<S>,
    core: CoreId,
    run: RunRef,
    offset: u64,
    verdict: Verdict,
    detail: String,
) -> Error {
    Error::Damaged(Box::new(Damage {
        core,
        segment: None,
        offset,
        lsn: None,
        verdict,
        path: layout.run(run.run),
        detail,
        loss: "part of a checkpoint; an older one, if it was kept, serves with the log behind it".into(),
    }))
}

/// Several runs of one core, as one.
pub(crate) struct Merge<'l, S: Storage> {
    /// Newest first.
    sources: Vec<RunReader<'l, S>>,
}

impl<'l, S: Storage> Merge<'l, S> {
    /// Opens `runs`, which are in order, oldest first.
    pub(crate) fn open(layout: &'l Layout<S>, log: LogIdentity, runs: &[RunRef]) -> Result<Self> {
        let sources = runs.iter().rev().map(|&run| RunReader::open(layout, log, run)).collect::<Result<_>>()?;
        Ok(Self { sources })
    }

    /// Several runs: of those with the same key, the newest must come first.
    pub(crate) fn of(sources: Vec<RunReader<'l, S>>) -> Self {
        Self { sources }
    }

    /// How many keys there are at most.
    pub(crate) fn keys(&self) -> u64 {
        self.sources.iter().map(|source| source.run.puts).sum()
    }

    /// Gives each key once, in order, with its newest value; `None` for one
    /// that is removed. Returns the offsets and the watermark of the newest
    /// run.
    pub(crate) fn for_each(mut self, mut visit: impl FnMut(KeyValue<'_>) -> Result<()>) -> Result<Progress> {
        // Which sources have the smallest key at hand.
        let mut ties = Vec::with_capacity(self.sources.len());
        loop {
            ties.clear();
            let mut smallest: Option<&[u8]> = None;
            for (index, source) in self.sources.iter().enumerate() {
                let Some((key, _)) = source.current() else { continue };
                match smallest.map_or(std::cmp::Ordering::Less, |smallest| key.cmp(smallest)) {
                    std::cmp::Ordering::Less => {
                        smallest = Some(key);
                        ties.clear();
                        ties.push(index);
                    }
                    std::cmp::Ordering::Equal => ties.push(index),
                    std::cmp::Ordering::Greater => {}
                }
            }
            let Some(&newest) = ties.first() else { break };
            visit(self.sources[newest].current().expect("it has the smallest key"))?;
            for &index in &ties {
                self.sources[index].advance()?;
            }
        }
        let newest = self.sources.first().and_then(|source| source.progress.clone());
        Ok(newest.unwrap_or_default())
    }
}

/// Whether a run's file is, byte for byte, what the manifest says.
pub(crate) fn check_whole<S: Storage>(layout: &Layout<S>, core: CoreId, run: RunRef) -> Result<()> {
    const STEP: u64 = 1 << 20;
    let missing = || damaged(layout, core, run, 0, Verdict::Missing, "the run is absent".into());
    let mut window = Window::open_run(layout, run.run)?.ok_or_else(missing)?;
    let (mut crc, mut offset) = (0, 0);
    loop {
        let bytes = window.at(layout, offset, usize::try_from(STEP).expect("small"))?;
        if bytes.is_empty() {
            break;
        }
        crc = crc32c_append(crc, bytes);
        offset += bytes.len() as u64;
    }
    if (crc, offset) == (run.crc, run.bytes) {
        return Ok(());
    }
    let detail =
        format!("the file's {offset} bytes have the checksum {crc:08x}, not {:08x} as the manifest says", run.crc);
    Err(damaged(layout, core, run, 0, Verdict::Corrupt, detail))
}
