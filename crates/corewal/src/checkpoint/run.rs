//! Writing a run: a file of sorted keys, in the frame format of a log.
//!
//! Header, frames of puts and deletes in key order, and at the end a commit
//! with the source offsets and the watermark, and a close. Its positions count
//! from its own first byte.

use std::io;

use corewal_format::{
    BLOCK_LEN, CommitRef, Epoch, FRAME_HEADER_LEN, FrameFields, Lsn, MAX_OFFSETS, Opening, Record, RunId, RunRef,
    SegmentHeader, SegmentIdentity, Sequence, TimestampNs, block_align, crc32c_append, encode_commit_body,
    finish_frame,
};
use corewal_io::{AlignedBuf, OpenMode, Operation, Storage, StorageIo, Token, Wait};

use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::parallel::{Courtesy, RECORD};
use crate::planted::PlantedBug;
use crate::scan::LogIdentity;

/// A frame is finished when it holds so many bytes.
const FRAME_BYTES: usize = 128 << 10;

/// Writes that are under way while the next frame is built, where there is no
/// time to lose; else none is, and the disk rests between them.
const IN_FLIGHT: usize = 3;

/// What all frames of a run have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) epoch: Epoch,
    pub(crate) time: TimestampNs,
}

/// A run that is being written. Dropping it leaves an unfinished file, which
/// the next opening removes.
pub(crate) struct RunWriter<'l, S: Storage> {
    layout: &'l Layout<S>,
    file: S::File,
    identity: SegmentIdentity,
    stamp: Stamp,
    run: RunRef,
    buffer: AlignedBuf,
    writes: Writes<S>,
    /// Bytes of the frame at hand, and its records.
    len: usize,
    records: u32,
    sequence: u64,
    courtesy: Courtesy,
}

impl<'l, S: Storage> RunWriter<'l, S> {
    pub(crate) fn create(layout: &'l Layout<S>, log: LogIdentity, run: RunId, stamp: Stamp) -> Result<Self> {
        let path = layout.run(run);
        layout.discard_run(run)?;
        let file =
            layout.storage.open(&path, OpenMode::CreateNew).map_err(|error| Error::io("create", &path, error))?;
        let identity = SegmentIdentity::of_run(log.log_id, log.core, run);
        let mut writer = Self {
            layout,
            file,
            identity,
            stamp,
            run: RunRef { run, level: 0, bytes: 0, puts: 0, deletes: 0, crc: 0 },
            buffer: frame_buffer(),
            writes: Writes { io: None, pending: Vec::new(), free: Vec::new() },
            len: FRAME_HEADER_LEN,
            records: 0,
            sequence: 0,
            courtesy: Courtesy::default(),
        };
        let header = SegmentHeader { identity, cores: log.cores, recycled: false, run: true };
        header.encode(&mut writer.buffer.as_mut_slice()[..BLOCK_LEN]);
        writer.write(BLOCK_LEN)?;
        Ok(writer)
    }

    /// Adds a key, greater than all before, with its value or as removed.
    pub(crate) fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.courtesy.steps(RECORD);
        match value {
            Some(value) => {
                self.run.puts += 1;
                self.push(&Record::Put { key, value })
            }
            None => {
                self.run.deletes += 1;
                self.push(&Record::Delete { key })
            }
        }
    }

    /// Bytes written so far, without those of the frame at hand.
    pub(crate) fn bytes(&self) -> u64 {
        self.run.bytes
    }

    /// Ends the run and, if it is to be kept, makes its content durable. Its
    /// directory is the caller's to sync.
    pub(crate) fn finish(mut self, progress: &Progress, sync: bool) -> Result<RunRef> {
        let offsets: Vec<_> = progress.offsets.iter().collect();
        // The commits of a log can name more sources than one of them may.
        let mut parts = offsets.chunks(MAX_OFFSETS);
        let mut part = parts.next().unwrap_or_default();
        loop {
            let mut body = Vec::new();
            let named = part.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            let commit = encode_commit_body(progress.watermark, named, &mut body);
            commit.expect("each was within its limits when it was committed");
            self.push(&Record::Commit(CommitRef::parse(&body).expect("just encoded")))?;
            match parts.next() {
                Some(next) => part = next,
                None => break,
            }
        }
        self.push(&Record::Close { complete: self.stamp.epoch })?;
        self.end_frame()?;
        let path = self.layout.run(self.run.run);
        self.writes.wait(self.layout, &self.file, 0).map_err(|error| Error::io("write", &path, error))?;
        if sync {
            self.layout.settle(&self.file, 0, &path)?;
        }
        Ok(self.run)
    }

    fn push(&mut self, record: &Record<'_>) -> Result<()> {
        let len = record.encoded_len();
        if self.records > 0 && self.len + len > FRAME_BYTES {
            self.end_frame()?;
        }
        if self.len + len > self.buffer.capacity() {
            self.buffer = AlignedBuf::new(self.len + len);
        }
        self.len += record.encode(&mut self.buffer.as_mut_slice()[self.len..]);
        self.records += 1;
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let lsn = Lsn(self.run.bytes);
        let fields = FrameFields {
            lsn,
            durable_lsn: lsn,
            epoch: self.stamp.epoch,
            sequence: Sequence(self.sequence),
            timestamp: self.stamp.time,
            opening: Opening(1),
            sealed: false,
        };
        let seed = self.identity.checksum_seed();
        finish_frame(&mut self.buffer.as_mut_slice()[..self.len], self.records, &fields, seed);
        self.sequence += u64::from(self.records);
        let (len, aligned) = (self.len, block_align(self.len));
        self.buffer.as_mut_slice()[len..aligned].fill(0);
        (self.len, self.records) = (FRAME_HEADER_LEN, 0);
        self.write(aligned)
    }

    fn write(&mut self, len: usize) -> Result<()> {
        let path = self.layout.run(self.run.run);
        self.run.crc = crc32c_append(self.run.crc, &self.buffer.as_slice()[..len]);
        let failed = |error| Error::io("write", &path, error);
        if self.run.bytes == 0 {
            self.layout.storage.write_at(&self.file, 0, &self.buffer, 0..len).map_err(failed)?;
        } else {
            let next = self.writes.buffer(self.layout, &self.file).map_err(failed)?;
            let full = std::mem::replace(&mut self.buffer, next);
            self.writes.submit(self.layout, &self.file, self.run.bytes, full, len).map_err(failed)?;
        }
        self.run.bytes += len as u64;
        self.layout.space.runs_grown(len as u64);
        Ok(())
    }
}

fn frame_buffer() -> AlignedBuf {
    AlignedBuf::new(FRAME_BYTES + BLOCK_LEN)
}

/// The writes of a run that are under way.
struct Writes<S: Storage> {
    /// `None` until there is something to write, and where there is none to be
    /// had: then each write is waited for.
    io: Option<S::Io>,
    pending: Vec<Pending>,
    free: Vec<AlignedBuf>,
}

struct Pending {
    token: Token,
    offset: u64,
    len: usize,
}

impl<S: Storage> Writes<S> {
    /// A buffer for the next frame, once few enough writes are under way.
    fn buffer(&mut self, layout: &Layout<S>, file: &S::File) -> io::Result<AlignedBuf> {
        if layout.space.is_calm() {
            self.wait(layout, file, 0)?;
            layout.space.rest();
        }
        self.wait(layout, file, IN_FLIGHT - 1)?;
        Ok(self.free.pop().unwrap_or_else(frame_buffer))
    }

    fn submit(
        &mut self,
        layout: &Layout<S>,
        file: &S::File,
        offset: u64,
        buffer: AlignedBuf,
        len: usize,
    ) -> io::Result<()> {
        if self.io.is_none() {
            self.io = layout.storage.io_beside().ok();
        }
        let Some(io) = &mut self.io else {
            layout.storage.write_at(file, offset, &buffer, 0..len)?;
            self.put_back(buffer);
            return Ok(());
        };
        let write = Operation::Write { file: file.clone(), offset, buffer, range: 0..len, data_sync: false };
        self.pending.push(Pending { token: io.submit(write)?, offset, len });
        Ok(())
    }

    /// Waits until no more than `most` writes are under way.
    fn wait(&mut self, layout: &Layout<S>, file: &S::File, most: usize) -> io::Result<()> {
        let mut completions = Vec::new();
        while self.pending.len() > most {
            let io = self.io.as_mut().expect("something is under way");
            io.poll(Wait::One, &mut completions)?;
            for completion in completions.drain(..) {
                let at = self.pending.iter().position(|write| write.token == completion.token);
                let Pending { offset, len, .. } = self.pending.swap_remove(at.expect("it was submitted"));
                let buffer = completion.buffer.expect("a write gives its buffer back");
                // What a short write has left, from its last whole block on.
                let done = completion.result? / BLOCK_LEN * BLOCK_LEN;
                if done < len && !layout.planted.has(PlantedBug::RunShortWriteIgnored) {
                    layout.storage.write_at(file, offset + done as u64, &buffer, done..len)?;
                }
                self.put_back(buffer);
            }
        }
        Ok(())
    }

    fn put_back(&mut self, buffer: AlignedBuf) {
        if buffer.capacity() == FRAME_BYTES + BLOCK_LEN {
            self.free.push(buffer);
        }
    }
}

/// A simulated disk with an empty place for runs, and whose they are.
#[cfg(test)]
pub(crate) fn place_for_runs() -> (Layout<corewal_io::SimStorage>, LogIdentity, Stamp) {
    let layout = Layout::new(corewal_io::SimStorage::default(), std::path::Path::new("/db"));
    crate::recovery::create_dir(&layout, &layout.dir).unwrap();
    crate::recovery::create_dir(&layout, &layout.runs()).unwrap();
    let log_id = corewal_format::LogId([7; 16]);
    let log = LogIdentity { log_id, core: corewal_format::CoreId(0), cores: 1, covered: Lsn(0) };
    (layout, log, Stamp { epoch: Epoch(1), time: TimestampNs(1) })
}
