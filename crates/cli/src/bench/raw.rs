//! Durable writes without a log: what the storage backend alone gives.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use corewal::io::{AlignedBuf, BLOCK_SIZE, FileStorage, OpenMode, Operation, Storage as _, StorageIo as _, Wait};

/// What was done.
#[derive(Debug)]
pub(super) struct RawResult {
    pub(super) writes: u64,
    pub(super) elapsed: Duration,
    pub(super) latencies_ns: Vec<u64>,
}

/// Writes blocks over a file of `span` bytes that was written before, each
/// with its own sync, `in_flight` at a time.
pub(super) fn durable_writes(
    path: &Path,
    block: usize,
    in_flight: usize,
    span: u64,
    duration: Duration,
) -> io::Result<RawResult> {
    assert!(block.is_multiple_of(BLOCK_SIZE) && in_flight > 0);
    let storage = FileStorage::new();
    let file = if path.exists() {
        storage.open(path, OpenMode::ReadWrite)?
    } else {
        let file = storage.open(path, OpenMode::CreateNew)?;
        storage.zero(&file, 0, span)?;
        storage.settle(&file, span)?;
        file
    };
    let mut io = storage.io(0)?;
    let mut spare: Vec<AlignedBuf> = (0..in_flight).map(|_| io.buffer(block)).collect();
    let (mut offset, mut began_at) = (0, HashMap::with_capacity(in_flight));
    let (mut completions, mut latencies_ns) = (Vec::new(), Vec::new());
    let began = Instant::now();
    loop {
        let over = began.elapsed() >= duration;
        while let (false, Some(buffer)) = (over, spare.pop()) {
            let write = Operation::Write { file: file.clone(), offset, buffer, range: 0..block, data_sync: true };
            let now = Instant::now();
            began_at.insert(io.submit(write)?, now);
            offset += block as u64;
            if offset + block as u64 > span {
                offset = 0;
            }
        }
        if began_at.is_empty() {
            break;
        }
        io.poll(Wait::One, &mut completions)?;
        for completion in completions.drain(..) {
            if completion.result? != block {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let latency = began_at.remove(&completion.token).expect("submitted above").elapsed();
            latencies_ns.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            spare.extend(completion.buffer);
        }
    }
    Ok(RawResult { writes: latencies_ns.len() as u64, elapsed: began.elapsed(), latencies_ns })
}
