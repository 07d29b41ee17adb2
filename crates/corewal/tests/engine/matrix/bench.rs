//! A bare log of numbered commits, and a simulated disk whose completions are
//! meddled with on their way.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use corewal::io::{
    AlignedBuf, Completion, DirEntry, OpenMode, Operation, SimFile, SimLock, SimStorage, SimStorageIo, Storage,
    StorageIo, Token, Wait, WritePath,
};
use corewal::{Change, Commit, LogId, Lsn, Options, Recover, State, Writer};

pub(crate) const DIR: &str = "/db";

/// The numbers of the commits that counted.
#[derive(Debug, Default)]
struct Seen(Vec<u8>);

impl State for Seen {
    fn apply(&mut self, change: Change<'_>) {
        if let Change::Payload(bytes) = change {
            self.0.push(bytes[0]);
        }
    }
}

pub(crate) fn options() -> Options {
    let small = Options::new().cores(1).buffers(4).buffer_bytes(16_384).segment_bytes(65_536);
    small.log_id(LogId([6; 16])).recover(Recover::Latest).single_threaded()
}

pub(crate) fn writer<S: Storage>(storage: S) -> Writer<S> {
    options().open_writers(storage, DIR).unwrap().0.remove(0)
}

/// Appends commit `number`, of `len` bytes.
pub(crate) fn append<S: Storage>(writer: &mut Writer<S>, number: u8, len: usize) -> corewal::Result<Lsn> {
    writer.payload(&vec![number; len])?;
    writer.commit(&Commit::new())
}

/// Appends it and makes it durable.
pub(crate) fn commit<S: Storage>(writer: &mut Writer<S>, number: u8, len: usize) -> Lsn {
    let end = append(writer, number, len).unwrap();
    assert!(writer.sync().unwrap() >= end);
    end
}

/// What an opening finds, which must be the commits from 0 on, none missing in
/// between. Returns how many.
pub(crate) fn commits_of(disk: &SimStorage) -> u8 {
    let opened = options().open_on(disk.clone(), DIR, |_| Seen::default()).unwrap();
    let seen = &opened.shards[0].state().0;
    assert!(seen.iter().copied().eq(0..seen.len() as u8), "{seen:?}");
    seen.len() as u8
}

/// What becomes of completions on their way to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meddling {
    None,
    /// None comes yet.
    Late,
    /// Those of writes come, those of syncs do not yet.
    SyncsLate,
    /// None ever comes.
    Lost,
    /// Each comes twice.
    Doubled,
    /// That of a write comes under the token of a sync, whose own is late.
    WriteForSync,
    /// The other way round.
    SyncForWrite,
}

/// A simulated disk between which and its writers somebody meddles.
#[derive(Clone, Debug)]
pub(crate) struct Meddled {
    pub(crate) disk: SimStorage,
    meddling: Arc<Mutex<Meddling>>,
}

impl Meddled {
    pub(crate) fn new(seed: u64) -> Self {
        let options = corewal::io::SimOptions { seed, ..Default::default() };
        Self { disk: SimStorage::new(options), meddling: Arc::new(Mutex::new(Meddling::None)) }
    }

    pub(crate) fn set(&self, meddling: Meddling) {
        *self.meddling.lock().unwrap() = meddling;
    }
}

pub(crate) struct MeddledIo {
    inner: SimStorageIo,
    meddling: Arc<Mutex<Meddling>>,
    held: Vec<Completion>,
    lost: usize,
}

impl StorageIo for MeddledIo {
    type File = SimFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        self.inner.buffer(capacity)
    }

    fn submit(&mut self, operation: Operation<SimFile>) -> io::Result<Token> {
        self.inner.submit(operation)
    }

    /// All that is in flight completes; what comes of it is another matter.
    fn poll(&mut self, _: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut came = std::mem::take(&mut self.held);
        while self.inner.in_flight() > 0 {
            self.inner.poll(Wait::One, &mut came)?;
        }
        let is_write = |completion: &Completion| completion.buffer.is_some();
        match *self.meddling.lock().unwrap() {
            Meddling::None => completions.append(&mut came),
            Meddling::Late => self.held = came,
            Meddling::SyncsLate => {
                let (writes, syncs): (Vec<_>, Vec<_>) = came.into_iter().partition(is_write);
                completions.extend(writes);
                self.held = syncs;
            }
            Meddling::Lost => self.lost += came.len(),
            Meddling::Doubled => completions.extend(came.into_iter().flat_map(|first| {
                let again =
                    Completion { token: first.token, result: Ok(*first.result.as_ref().unwrap()), buffer: None };
                [first, again]
            })),
            which @ (Meddling::WriteForSync | Meddling::SyncForWrite) => {
                let (mut writes, mut syncs): (Vec<_>, Vec<_>) = came.into_iter().partition(is_write);
                let (write, sync) = (writes.last_mut().unwrap(), syncs.last_mut().unwrap());
                std::mem::swap(&mut write.token, &mut sync.token);
                let (first, later) = if which == Meddling::WriteForSync { (writes, syncs) } else { (syncs, writes) };
                completions.extend(first);
                self.held = later;
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len() + self.lost
    }
}

impl Storage for Meddled {
    type File = SimFile;
    type Io = MeddledIo;
    type Lock = SimLock;

    fn io(&self, core: usize) -> io::Result<MeddledIo> {
        let inner = self.disk.io(core)?;
        Ok(MeddledIo { inner, meddling: Arc::clone(&self.meddling), held: Vec::new(), lost: 0 })
    }

    fn write_path(&self, file: &SimFile) -> WritePath {
        self.disk.write_path(file)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        self.disk.open(path, mode)
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn read_at(&self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, buffer)
    }

    fn write_at(&self, file: &SimFile, offset: u64, buffer: &AlignedBuf, range: Range<usize>) -> io::Result<()> {
        self.disk.write_at(file, offset, buffer, range)
    }

    fn set_len(&self, file: &SimFile, len: u64) -> io::Result<()> {
        self.disk.set_len(file, len)
    }

    fn settle(&self, file: &SimFile, from: u64) -> io::Result<()> {
        self.disk.settle(file, from)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        self.disk.lock(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
}
