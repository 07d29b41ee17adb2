//! The machine's own limit of durable writes, measured without the engine.
//!
//! A loop as small as one can be: a zero-filled file, direct writes that carry
//! their own sync, so many in flight and no more. What the engine reaches can
//! be held against it on the same machine in the same minute. Linux only.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock and makes its own file")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types::Fd};
use rustix::io::{ReadWriteFlags, pwritev2};

use crate::{AlignedBuf, BLOCK_SIZE, FileStorage, OpenMode, OsFile, Storage};

/// By which system calls to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `io_uring(7)`.
    Uring,
    /// `pwritev2(2)`, one write at a time.
    Pwritev2,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct RawResult {
    /// Writes that completed.
    pub writes: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// From the first submission to the last completion.
    pub elapsed: Duration,
    /// Of each write, from its submission to its completion, in nanoseconds, in
    /// the order of completion.
    pub latencies_ns: Vec<u64>,
}

/// Creates a zero-filled file of `span` bytes at `path` and writes `block` bytes
/// after `block` bytes over it, beginning anew at its end, with `in_flight`
/// writes under way for as long as `duration`. Each is direct and complete only
/// when durable (`O_DIRECT`, `RWF_DSYNC`). The file stays.
///
/// # Errors
///
/// The system's; [`io::ErrorKind::AlreadyExists`] if there is something at
/// `path`, [`io::ErrorKind::Unsupported`] if the file system has no direct I/O.
///
/// # Panics
///
/// If `block` is not of whole blocks of [`BLOCK_SIZE`], or `span` has no room
/// for `in_flight` of them, or `in_flight` is not 1 with
/// [`Engine::Pwritev2`].
pub fn durable_writes(
    engine: Engine,
    path: &Path,
    block: usize,
    in_flight: usize,
    span: u64,
    duration: Duration,
) -> io::Result<RawResult> {
    assert!(block > 0 && block.is_multiple_of(BLOCK_SIZE), "whole blocks");
    assert!(in_flight > 0 && span / block as u64 >= in_flight as u64, "a place for each write in flight");
    assert!(engine == Engine::Uring || in_flight == 1, "a blocking write is alone");
    let file = zero_filled(path, span)?;
    let run = Run { file: file.for_writing(), block, blocks: span / block as u64, duration };
    let (latencies_ns, elapsed) = match engine {
        Engine::Uring => run.uring(in_flight)?,
        Engine::Pwritev2 => run.pwritev2()?,
    };
    let writes = latencies_ns.len() as u64;
    Ok(RawResult { writes, bytes: writes * block as u64, elapsed, latencies_ns })
}

/// A file on blocks that were all written, durable with them.
fn zero_filled(path: &Path, span: u64) -> io::Result<OsFile> {
    let storage = FileStorage::new();
    let file = storage.open(path, OpenMode::CreateNew)?;
    if !storage.write_path(&file).direct {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the file system has no direct I/O"));
    }
    storage.zero(&file, 0, span.next_multiple_of(BLOCK_SIZE as u64))?;
    storage.settle(&file, 0)?;
    Ok(file)
}

/// Enough that no measured loop allocates for its first million writes.
fn room() -> Vec<u64> {
    Vec::with_capacity(1 << 20)
}

struct Run<'a> {
    file: &'a File,
    block: usize,
    /// How many fit into the file.
    blocks: u64,
    duration: Duration,
}

impl Run<'_> {
    fn offset(&self, number: u64) -> u64 {
        number % self.blocks * self.block as u64
    }

    fn whole(&self, written: i64) -> io::Result<()> {
        if written < 0 {
            return Err(io::Error::from_raw_os_error(i32::try_from(-written).expect("an errno")));
        }
        if written == self.block as i64 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn pwritev2(&self) -> io::Result<(Vec<u64>, Duration)> {
        let buffer = AlignedBuf::new(self.block);
        let mut latencies = room();
        let start = Instant::now();
        let mut now = start;
        while now - start < self.duration {
            let slices = [io::IoSlice::new(&buffer)];
            let offset = self.offset(latencies.len() as u64);
            let written = pwritev2(self.file, &slices, offset, ReadWriteFlags::DSYNC)?;
            self.whole(written as i64)?;
            let end = Instant::now();
            latencies.push(nanos(end - now));
            now = end;
        }
        Ok((latencies, now - start))
    }

    fn uring(&self, in_flight: usize) -> io::Result<(Vec<u64>, Duration)> {
        let entries = u32::try_from(in_flight).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut ring = ring(entries)?;
        let buffers: Vec<_> = (0..in_flight).map(|_| AlignedBuf::new(self.block)).collect();
        let memory: Vec<_> = buffers
            .iter()
            .map(|buffer| libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: buffer.len() })
            .collect();
        // SAFETY: the buffers live until all writes have completed, below; the
        // kernel keeps the pages that it has registered beyond that.
        let registered = unsafe { ring.submitter().register_buffers(&memory) }.is_ok();
        let measured = self.loop_on(&mut ring, &buffers, registered);
        if measured.is_err() {
            // Writes may be under way still, and they read the buffers.
            std::mem::forget(buffers);
        }
        measured
    }

    fn loop_on(
        &self,
        ring: &mut IoUring,
        buffers: &[AlignedBuf],
        registered: bool,
    ) -> io::Result<(Vec<u64>, Duration)> {
        let fd = Fd(self.file.as_raw_fd());
        let len = u32::try_from(self.block).map_err(|_| io::ErrorKind::InvalidInput)?;
        let entry = |slot: usize, number: u64| {
            let (start, offset) = (buffers[slot].as_ptr(), self.offset(number));
            let entry = if registered {
                let index = u16::try_from(slot).expect("as many as could be registered");
                opcode::WriteFixed::new(fd, start, len, index).offset(offset).rw_flags(libc::RWF_DSYNC).build()
            } else {
                opcode::Write::new(fd, start, len).offset(offset).rw_flags(libc::RWF_DSYNC).build()
            };
            entry.user_data(slot as u64)
        };
        let mut latencies = room();
        let mut done = Vec::with_capacity(buffers.len());
        let mut free: Vec<usize> = (0..buffers.len()).collect();
        let start = Instant::now();
        let mut begun = vec![start; buffers.len()];
        let mut submitted = 0;
        let mut now = start;
        loop {
            let go_on = now - start < self.duration;
            if go_on {
                for slot in free.drain(..) {
                    // SAFETY: nothing changes or frees the buffer before the
                    // write completes: on an error the caller keeps it for ever.
                    unsafe { ring.submission().push(&entry(slot, submitted)) }.expect("an entry for each");
                    begun[slot] = now;
                    submitted += 1;
                }
            }
            if submitted == latencies.len() as u64 {
                return Ok((latencies, now - start));
            }
            match ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            now = Instant::now();
            done.extend(ring.completion().map(|entry| (entry.user_data(), entry.result())));
            for (slot, result) in done.drain(..) {
                let slot = usize::try_from(slot).expect("as given");
                self.whole(i64::from(result))?;
                latencies.push(nanos(now - begun[slot]));
                free.push(slot);
            }
        }
    }
}

/// With what suits one thread that waits in the kernel (Linux 6.1), or without.
fn ring(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    builder.build(entries).or_else(|_| IoUring::new(entries))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
