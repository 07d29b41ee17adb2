//! What the tests of all backends use.

// Each test program uses a part of it.
#![allow(dead_code)]

use corewal_io::{BLOCK_SIZE, Completion, Operation, Storage, StorageIo, Token, Wait};

/// One block in bytes, as an offset.
pub(crate) const BLOCK: u64 = BLOCK_SIZE as u64;

/// A write of one block full of `byte`.
pub(crate) fn block_write<I: StorageIo>(
    io: &mut I,
    file: &I::File,
    block: u64,
    byte: u8,
    data_sync: bool,
) -> Operation<I::File>
where
    I::File: Clone,
{
    let mut buffer = io.buffer(BLOCK_SIZE);
    buffer.fill(byte);
    Operation::Write { file: file.clone(), offset: block * BLOCK, buffer, range: 0..BLOCK_SIZE, data_sync }
}

/// Polls until the operation has completed; the other completions are lost.
pub(crate) fn wait_for<I: StorageIo>(io: &mut I, token: Token) -> Completion {
    let mut completions = Vec::new();
    loop {
        assert!(io.in_flight() > 0, "the completion never came");
        io.poll(Wait::One, &mut completions).unwrap();
        if let Some(at) = completions.iter().position(|one| one.token == token) {
            return completions.swap_remove(at);
        }
        completions.clear();
    }
}

/// Submits, waits, and gives the result.
pub(crate) fn run<I: StorageIo>(io: &mut I, operation: Operation<I::File>) -> Completion {
    let token = io.submit(operation).unwrap();
    wait_for(io, token)
}

/// Writes one block full of `byte`, to the end.
pub(crate) fn write<I: StorageIo>(io: &mut I, file: &I::File, block: u64, byte: u8)
where
    I::File: Clone,
{
    let operation = block_write(io, file, block, byte, false);
    assert_eq!(run(io, operation).result.unwrap(), BLOCK_SIZE);
}

/// Writes one block full of `byte` that is durable when this returns.
pub(crate) fn write_durably<I: StorageIo>(io: &mut I, file: &I::File, block: u64, byte: u8)
where
    I::File: Clone,
{
    let operation = block_write(io, file, block, byte, true);
    assert_eq!(run(io, operation).result.unwrap(), BLOCK_SIZE);
}

/// Syncs the file, to the end.
pub(crate) fn sync<I: StorageIo>(io: &mut I, file: &I::File)
where
    I::File: Clone,
{
    let file = file.clone();
    assert_eq!(run(io, Operation::Sync { file }).result.unwrap(), 0);
}

/// All bytes of a file.
pub(crate) fn read_all<S: Storage>(storage: &S, file: &S::File) -> Vec<u8> {
    let len = usize::try_from(storage.len(file).unwrap()).unwrap();
    let mut bytes = vec![0; len];
    assert_eq!(storage.read_at(file, 0, &mut bytes).unwrap(), len);
    bytes
}

/// The first byte of each block.
pub(crate) fn blocks(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(BLOCK_SIZE).map(|block| block[0]).collect()
}
