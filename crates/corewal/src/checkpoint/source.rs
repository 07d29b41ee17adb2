//! Reading runs: one in key order, or several merged, the newest value of each
//! key.

use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

use corewal_format::{
    BLOCK_LEN, CoreId, Entry, FRAME_HEADER_LEN, Frame, FrameHeader, Lsn, Record, RunRef, SegmentIdentity, block_align,
    crc32c_append,
};
use corewal_io::Storage;

use crate::commit::Progress;
use crate::error::{Damage, Error, Result};
use crate::layout::Layout;
use crate::planted::PlantedBug;
use crate::scan::{LogIdentity, Verdict, Window};
use crate::state::key_prefix;

/// A key of the frame at hand: where it stands, and its value if it has one.
#[derive(Clone, Debug)]
struct Item {
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Item {
    #[inline]
    fn of<'f>(&self, frame: &'f [u8]) -> KeyValue<'f> {
        (&frame[self.key.clone()], self.value.clone().map(|value| &frame[value]))
    }
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
    /// The frame at hand: where it stands in the file, and how long it is. The
    /// window has it until the next one is read.
    frame: (u64, usize),
    items: Vec<Item>,
    at: usize,
    /// The last key of the frames so far.
    last: Vec<u8>,
    /// Puts and deletes seen.
    seen: (u64, u64),
    /// Checksum of what was read, with zeros where nothing depends on the bytes.
    crc: u32,
    /// What its commit says, once it has been read.
    pub(crate) progress: Option<Progress>,
    closed: bool,
}

/// A key with its value; `None` if it is removed.
pub(crate) type KeyValue<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'l, S: Storage> RunReader<'l, S> {
    pub(crate) fn open(layout: &'l Layout<S>, log: LogIdentity, run: RunRef) -> Result<Self> {
        let mut reader = Self::before_first_frame(layout, log, run)?;
        reader.fill()?;
        Ok(reader)
    }

    fn before_first_frame(layout: &'l Layout<S>, log: LogIdentity, run: RunRef) -> Result<Self> {
        let Some(window) = Window::open_run(layout, run.run)? else {
            return Err(damaged(layout, log.core, run, 0, Verdict::Missing, "the run is absent".into()));
        };
        let len = window.len(layout)?;
        let fail = |verdict, detail| Err(damaged(layout, log.core, run, 0, verdict, detail));
        if len != run.bytes && !layout.planted.has(PlantedBug::RunNotHeldAgainstManifest) {
            return fail(Verdict::Corrupt, format!("the run has {len} bytes, the manifest says {}", run.bytes));
        }
        let identity = SegmentIdentity::of_run(log.log_id, log.core, run.run);
        let mut block = [0; BLOCK_LEN];
        match window.header(layout)? {
            Ok(header) if header.run && header.identity == identity && header.cores == log.cores => {
                header.encode(&mut block);
            }
            Ok(header) => {
                return fail(
                    Verdict::Foreign,
                    format!("it is not run {} of core {}, but {:?}", run.run, log.core, header.identity),
                );
            }
            Err(error) => return fail(Verdict::Corrupt, error.to_string()),
        }
        Ok(Self {
            layout,
            core: log.core,
            run,
            window,
            seed: identity.checksum_seed(),
            offset: BLOCK_LEN as u64,
            sequence: 0,
            frame: (0, 0),
            items: Vec::new(),
            at: 0,
            last: Vec::new(),
            seen: (0, 0),
            crc: crc32c_append(0, &block),
            progress: None,
            closed: false,
        })
    }

    /// The key at hand; `None` at the end.
    #[inline]
    pub(crate) fn current(&self) -> Option<KeyValue<'_>> {
        Some(self.items.get(self.at)?.of(self.frame()))
    }

    fn frame(&self) -> &[u8] {
        self.window.held(self.frame.0, self.frame.1)
    }

    /// The key at hand and those behind it in the same frame.
    fn rest_of_frame(&self) -> impl Iterator<Item = KeyValue<'_>> {
        let frame = self.frame();
        self.items[self.at..].iter().map(|item| item.of(frame))
    }

    /// Goes on to the first key of the next frame.
    fn skip_frame(&mut self) -> Result<()> {
        self.at = self.items.len();
        self.fill()
    }

    /// The last key that was read.
    fn last_key(&self) -> Option<&[u8]> {
        (self.seen != (0, 0)).then_some(self.last.as_slice())
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
        let base = bytes.as_ptr() as usize;
        let within = |part: &[u8]| {
            let from = part.as_ptr() as usize - base;
            from..from + part.len()
        };
        let mut last = (self.seen != (0, 0)).then_some(self.last.as_slice());
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
        if let Some(item) = items.last() {
            self.last.clear();
            self.last.extend_from_slice(&bytes[item.key.clone()]);
        }
        let padding = block_align(header.len) - header.len;
        self.crc = crc32c_append(crc32c_append(self.crc, frame.bytes()), &[0; BLOCK_LEN][..padding]);
        self.frame = (self.offset, header.len);
        (self.items, self.at) = (items, 0);
        self.sequence += u64::from(header.records);
        self.offset += block_align(header.len) as u64;
        let held = !self.layout.planted.has(PlantedBug::RunNotHeldAgainstManifest);
        if held && self.closed && (self.offset != self.run.bytes || self.seen != (self.run.puts, self.run.deletes)) {
            return fail(format!("it ends with other contents than the manifest says: {:?}", self.seen));
        }
        // An intact run with as many keys, of another history of this store.
        if held && self.closed && self.crc != self.run.crc {
            return fail(
                "it is not the run that was made for this checkpoint: the checksum of the whole differs".into(),
            );
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

/// Runs that follow each other in key order, one after the other.
pub(crate) struct Chain<'l, S: Storage> {
    layout: &'l Layout<S>,
    log: LogIdentity,
    runs: Vec<RunRef>,
    /// Which of them is read, and how.
    index: usize,
    reader: RunReader<'l, S>,
}

impl<'l, S: Storage> Chain<'l, S> {
    /// A chain of `runs`, at least one.
    pub(crate) fn open(layout: &'l Layout<S>, log: LogIdentity, runs: Vec<RunRef>) -> Result<Self> {
        let reader = RunReader::open(layout, log, runs[0])?;
        let mut chain = Self { layout, log, runs, index: 0, reader };
        chain.skip()?;
        Ok(chain)
    }

    fn current(&self) -> Option<KeyValue<'_>> {
        self.reader.current()
    }

    fn advance(&mut self) -> Result<()> {
        self.reader.advance()?;
        self.skip()
    }

    /// Goes on to the next run that has a key.
    fn skip(&mut self) -> Result<()> {
        while self.reader.current().is_none() && self.index + 1 < self.runs.len() {
            let next = RunReader::open(self.layout, self.log, self.runs[self.index + 1])?;
            let before = std::mem::replace(&mut self.reader, next);
            self.index += 1;
            let last = before.last_key();
            if let (Some(last), Some((first, _))) = (last, self.reader.current())
                && last >= first
            {
                let detail = "its first key is not greater than the last of the run before it".into();
                let run = self.runs[self.index];
                return Err(damaged(self.layout, self.log.core, run, 0, Verdict::Corrupt, detail));
            }
        }
        Ok(())
    }
}

/// Several runs of one core, as one.
pub(crate) struct Merge<'l, S: Storage> {
    /// Newest first.
    sources: Vec<Source<'l, S>>,
    /// Those that have the key at hand, newest first.
    heads: Vec<usize>,
}

struct Source<'l, S: Storage> {
    chain: Chain<'l, S>,
    /// The beginning of its key, which decides most comparisons.
    prefix: u64,
}

impl<'l, S: Storage> Source<'l, S> {
    fn new(chain: Chain<'l, S>) -> Self {
        let mut source = Self { chain, prefix: 0 };
        source.look();
        source
    }

    fn look(&mut self) {
        self.prefix = self.chain.current().map_or(u64::MAX, |(key, _)| key_prefix(key));
    }
}

impl<'l, S: Storage> Merge<'l, S> {
    /// Opens `runs`, which are in the order of a checkpoint.
    pub(crate) fn open(layout: &'l Layout<S>, log: LogIdentity, runs: &[RunRef]) -> Result<Self> {
        let base = runs.partition_point(|run| run.level > 0);
        let mut sources = Vec::new();
        for &run in runs[base..].iter().rev() {
            sources.push(Source::new(Chain::open(layout, log, vec![run])?));
        }
        if base > 0 {
            sources.push(Source::new(Chain::open(layout, log, runs[..base].to_vec())?));
        }
        Ok(Self::of(sources))
    }

    /// What several cores have, which share no key.
    pub(crate) fn of_cores(cores: Vec<Self>) -> Self {
        Self::of(cores.into_iter().flat_map(|core| core.sources).collect())
    }

    fn of(sources: Vec<Source<'l, S>>) -> Self {
        let mut merge = Self { sources, heads: Vec::new() };
        merge.find();
        merge
    }

    /// How many runs of the base have been read to their end.
    pub(crate) fn base_read(&self) -> usize {
        let base = self.sources.last().map(|source| &source.chain).filter(|base| base.runs[0].level > 0);
        base.map_or(0, |base| base.index + usize::from(base.current().is_none()))
    }

    /// The smallest key at hand, with its newest value; `None` for one that is
    /// removed.
    #[inline]
    pub(crate) fn current(&self) -> Option<KeyValue<'_>> {
        self.sources[*self.heads.first()?].chain.current()
    }

    /// Goes on to the next key.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        for &head in &self.heads {
            let source = &mut self.sources[head];
            source.chain.advance()?;
            source.look();
        }
        self.find();
        Ok(())
    }

    /// The keys at hand up to the end of their frame, where a frame begins and no
    /// other run has a key among them: they stand still together.
    #[inline]
    pub(crate) fn frame_alone(&self) -> Option<impl Iterator<Item = KeyValue<'_>>> {
        let &[head] = self.heads.as_slice() else { return None };
        let reader = &self.sources[head].chain.reader;
        if reader.at > 0 {
            return None;
        }
        let end = key_prefix(&reader.last);
        let alone = |(index, other): (usize, &Source<'_, S>)| {
            index == head || other.prefix > end || other.chain.current().is_none()
        };
        self.sources.iter().enumerate().all(alone).then(|| reader.rest_of_frame())
    }

    /// Goes on behind the frame at hand, of which no other run has a key.
    pub(crate) fn skip_frame(&mut self) -> Result<()> {
        let source = &mut self.sources[self.heads[0]];
        source.chain.reader.skip_frame()?;
        source.chain.skip()?;
        source.look();
        self.find();
        Ok(())
    }

    /// Finds who has the smallest key.
    #[inline]
    fn find(&mut self) {
        self.heads.clear();
        let mut smallest = (u64::MAX, None);
        for (index, source) in self.sources.iter().enumerate() {
            if source.prefix > smallest.0 {
                continue;
            }
            let Some((key, _)) = source.chain.current() else { continue };
            let order =
                smallest.1.map_or(Ordering::Less, |other| source.prefix.cmp(&smallest.0).then_with(|| key.cmp(other)));
            match order {
                Ordering::Less => {
                    smallest = (source.prefix, Some(key));
                    self.heads.clear();
                    self.heads.push(index);
                }
                Ordering::Equal => self.heads.push(index),
                Ordering::Greater => {}
            }
        }
    }

    /// The offsets and the watermark of the newest run, once all are read.
    pub(crate) fn progress(&self) -> Progress {
        let newest = self.sources.first().and_then(|source| source.chain.reader.progress.clone());
        newest.unwrap_or_default()
    }

    /// Gives each key once, in order, with its newest value; `None` for one
    /// that is removed. Returns the offsets and the watermark of the newest
    /// run.
    pub(crate) fn for_each(mut self, mut visit: impl FnMut(KeyValue<'_>) -> Result<()>) -> Result<Progress> {
        while let Some(found) = self.current() {
            visit(found)?;
            self.advance()?;
        }
        Ok(self.progress())
    }
}

/// Gives every record of a run, as it stands there, until `visit` breaks.
pub(crate) fn for_each_record<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    run: RunRef,
    mut visit: impl FnMut(&FrameHeader, &Entry<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let mut reader = RunReader::before_first_frame(layout, log, run)?;
    while !reader.closed {
        let lsn = Lsn(reader.offset);
        reader.next_frame()?;
        let frame = Frame::decode(reader.frame(), reader.seed, lsn).expect("it was found valid a moment ago");
        for entry in frame.entries().flatten() {
            if visit(&frame.header, &entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use corewal_format::RunId;

    use super::super::run::{RunWriter, place_for_runs};
    use super::*;

    /// Keys that share beginnings, are one another's beginning, and reach both
    /// ends of what a prefix can say.
    fn key(random: &mut fastrand::Rng) -> Vec<u8> {
        (0..random.usize(0..11)).map(|_| [0, b'a', 0xFF][random.usize(..3)]).collect()
    }

    #[test]
    fn a_merge_gives_each_key_once_in_order_with_its_newest_value() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (layout, log, stamp) = place_for_runs();
            let mut expected = BTreeMap::new();
            let mut runs = Vec::new();
            for number in 1..=random.u64(1..6) {
                let changes: BTreeMap<_, _> = (0..random.usize(0..60))
                    .map(|_| (key(&mut random), random.bool().then(|| vec![random.u8(..); 3])))
                    .collect();
                let mut writer = RunWriter::create(&layout, log, RunId(number), stamp).unwrap();
                for (key, value) in &changes {
                    writer.add(key, value.as_deref()).unwrap();
                }
                runs.push(writer.finish(&Progress::default(), true).unwrap());
                expected.extend(changes);
            }
            let mut found = Vec::new();
            let merge = Merge::open(&layout, log, &runs).unwrap();
            let visit = |(key, value): KeyValue<'_>| {
                found.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                Ok(())
            };
            merge.for_each(visit).unwrap();
            assert!(found.into_iter().eq(expected), "seed {seed}");
        }
    }
}
