//! The two traits every backend implements, and the values they exchange.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::{AlignedBuf, write};

/// Size and alignment, in bytes, of the unit in which buffers are allocated
/// and offsets of writes are chosen.
///
/// 4096 satisfies the direct-I/O alignment of every common Linux file system
/// (`open(2)`, `O_DIRECT`; `statx(2)`, `stx_dio_offset_align`).
pub const BLOCK_SIZE: usize = 4096;

/// Names one submitted operation until its completion has been polled.
///
/// One counter per [`StorageIo`] gives out the tokens of writes and syncs
/// alike, so that two operations in flight can never be mistaken for each
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// How [`Storage::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading. Nothing is created or changed.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new, empty file, for reading and writing; an existing entry of that
    /// name is an error ([`io::ErrorKind::AlreadyExists`]). The entry survives
    /// power loss only after [`Storage::sync_dir`] on its directory.
    CreateNew,
}

/// How a file is read, from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPace {
    /// As fast as the medium gives it: the system reads ahead as far as it
    /// likes.
    Full,
    /// Beside others who wait for the medium: no more at once than is asked
    /// for. What Linux reads ahead on its own goes by the device (`sysfs`,
    /// `queue/read_ahead_kb`) and can be 16 MiB, behind which a write waits for
    /// milliseconds.
    Gentle,
}

/// What a directory entry is. Links are reported as [`EntryKind::Other`]:
/// backends never follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a link, a socket, a device.
    Other,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The entry's name; a name that is not UTF-8 is given lossily, it is
    /// never one of ours.
    pub name: String,
    /// What the entry is.
    pub kind: EntryKind,
}

/// The name space and the read side of a medium. Shared by all cores.
///
/// Every call blocks and retries when interrupted by a signal. An error leaves
/// the medium as it was or, for [`Storage::set_len`], at any length between
/// the old and the new.
pub trait Storage: Clone + Send + Sync + 'static {
    /// An open file. Clones refer to the same open file; the last one closes it.
    type File: Clone + Send + Sync + fmt::Debug + 'static;
    /// The write path made by [`Storage::io`].
    type Io: StorageIo<File = Self::File>;
    /// Held as long as the lock is; dropping it, or the death of the process,
    /// frees it.
    type Lock: Send + Sync + fmt::Debug;

    /// Makes the write path of one core. `core` is its index, for backends
    /// that have something ready for each.
    fn io(&self, core: usize) -> io::Result<Self::Io>;

    /// Makes a write path for work in the background, beside those of the cores.
    fn io_beside(&self) -> io::Result<Self::Io> {
        self.io(usize::MAX)
    }

    /// How writes to `file` will reach the medium.
    fn write_path(&self, file: &Self::File) -> WritePath;

    /// Opens a regular file. Anything else, a link included, is refused with
    /// [`io::ErrorKind::InvalidInput`].
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;

    /// Waits until no write of an earlier owner is under way on the file at
    /// `path`: one that a process had handed to the kernel when it was killed
    /// may reach the medium after the process, and its locks, are gone. To be
    /// called under the lock of the whole, before the file is read, and while
    /// nobody has it open for writing. A missing file is no error.
    ///
    /// Where writes end with those who make them there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] if it takes too long.
    fn quiesce(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }

    /// The file's length in bytes.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Reads at `offset` until `buffer` is full or the file ends. Returns the
    /// bytes read; fewer than asked only at the end of the file.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes `buffer[range]` at `offset`, whole; the rules are those of
    /// [`Operation::Write`]. For what is written once: headers, manifests. It
    /// is durable after [`Storage::settle`].
    fn write_at(&self, file: &Self::File, offset: u64, buffer: &AlignedBuf, range: Range<usize>) -> io::Result<()>;

    /// Writes zeros over `len` bytes from `offset` on, both whole blocks, and
    /// not only promises them: a later write there neither allocates nor
    /// converts anything in the file system. Durable after
    /// [`Storage::settle`].
    fn zero(&self, file: &Self::File, offset: u64, len: u64) -> io::Result<()> {
        write::zeros(self, file, offset, len)
    }

    /// Makes the file reach `len` bytes, whole blocks, further than `offset`, where
    /// it ends, and takes the space for them. They read as zeros. Where the file
    /// system can it writes none ([`Storage::zero`] does): the first write to each
    /// of them has that to make up for, when it becomes durable. Durable after
    /// [`Storage::settle`].
    fn extend(&self, file: &Self::File, offset: u64, len: u64) -> io::Result<()> {
        self.zero(file, offset, len)
    }

    /// Tells how `file` will be read from here on. A hint, which may do nothing.
    fn set_read_pace(&self, file: &Self::File, pace: ReadPace) {
        let _ = (file, pace);
    }

    /// Tells that `len` bytes from `offset` on will be read soon. A hint: it
    /// does not wait, and may do nothing.
    fn read_ahead(&self, file: &Self::File, offset: u64, len: u64) {
        let _ = (file, offset, len);
    }

    /// Cuts or extends (with zeros) the file. Durable after a sync of the file.
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;

    /// Makes the file's content and length durable (`fdatasync(2)`), then asks
    /// the operating system to forget what it caches of it from the position
    /// `from` on, so that the next read of that part comes from the medium.
    ///
    /// Recovery calls it before it trusts a log's tail: after a failed sync the
    /// page cache may hold bytes that the medium never got and that no later
    /// sync will write (Rebello et al., "Can Applications Recover from fsync
    /// Failures?", USENIX ATC 2020). The file should be open for writing:
    /// Windows refuses to sync one that is not.
    fn settle(&self, file: &Self::File, from: u64) -> io::Result<()>;

    /// The entries of a directory, in name order, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates one directory; an existing one is an error
    /// ([`io::ErrorKind::AlreadyExists`]), as is a missing parent. Durable
    /// after [`Storage::sync_dir`] on the parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file, replacing `to` if it exists. After a power loss `to` is
    /// the old or the new file, never a mixture; the new one is certain only
    /// after [`Storage::sync_dir`] on the directory.
    /// A directory as `from` is refused with [`io::ErrorKind::IsADirectory`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Storage::sync_dir`] on its directory.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable: what was created, renamed and
    /// removed in it before (`fsync(2)`: "calling fsync() does not necessarily
    /// ensure that the entry in the directory containing the file has also
    /// reached disk"). On platforms that cannot sync a directory it does
    /// nothing. Anything but a directory is refused with
    /// [`io::ErrorKind::NotADirectory`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Where `dir` leads, without links, if it is there, or as far as it is. A
    /// store asks once, when it is opened: from then on none of its paths goes
    /// through a link, and a change of the working directory does not move it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] for a link that leads nowhere.
    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        Ok(dir.to_owned())
    }

    /// Takes the exclusive lock on the file at `path`, creating the file if
    /// needed. `None` if another holder has it. Two handles of one process
    /// exclude each other too.
    fn lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;

    /// Whether somebody holds the lock at `path` at this moment. Creates
    /// nothing; a missing file is not locked.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;
}

/// How writes to a file reach the medium: what a backend found to be possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritePath {
    /// The backend: `io_uring`, `blocking` or `simulated`.
    pub backend: &'static str,
    /// Writes go past the page cache and can carry their own sync, so a
    /// durable write costs one trip to the medium and several can be under way
    /// (`open(2)`, `O_DIRECT`; `pwritev2(2)`, `RWF_DSYNC`). Otherwise they go
    /// through the cache, and a sync follows.
    pub direct: bool,
    /// Why it is not a better path, if it is not.
    pub instead: Option<String>,
}

impl fmt::Display for WritePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.backend, if self.direct { "direct" } else { "buffered" })?;
        match &self.instead {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// An operation handed to [`StorageIo::submit`].
#[derive(Debug)]
pub enum Operation<F> {
    /// Writes `buffer[range]` to `file` at `offset`. `offset` and both ends of
    /// `range` are multiples of [`BLOCK_SIZE`].
    Write {
        /// The file to write to.
        file: F,
        /// Position in the file, in bytes.
        offset: u64,
        /// The buffer; the backend owns it until the completion gives it back.
        buffer: AlignedBuf,
        /// The part of the buffer to write.
        range: Range<usize>,
        /// The write completes only once its bytes (and the file length they
        /// need) are durable, as with `RWF_DSYNC` (`pwritev2(2)`). It says
        /// nothing of other writes.
        data_sync: bool,
    },
    /// Makes durable every write to `file` that had **completed before this
    /// operation was submitted**, and nothing else (`fdatasync(2)`).
    Sync {
        /// The file to sync.
        file: F,
    },
}

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The token that [`StorageIo::submit`] gave for the operation.
    pub token: Token,
    /// For a write, the number of bytes written, which may be short: the caller
    /// writes the rest or gives up. For a sync, 0. An error is the operating
    /// system's; after a failed write or sync nothing may be assumed of the
    /// bytes concerned, and a retried sync proves nothing.
    pub result: io::Result<usize>,
    /// A write's buffer, in every case.
    pub buffer: Option<AlignedBuf>,
}

/// Whether [`StorageIo::poll`] may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Returns at once with what has completed.
    No,
    /// Blocks until at least one operation has completed, unless none is in
    /// flight.
    One,
}

/// The write path of one core: submit and poll.
///
/// Not shared between threads. Operations in flight may complete in any order.
/// Dropping it loses their completions and undoes nothing: what was submitted
/// happens. No memory is freed that the system may still read, so a backend
/// may have to wait.
pub trait StorageIo: Send {
    /// The files this path writes to.
    type File;

    /// A zeroed buffer of `capacity` bytes, rounded up to [`BLOCK_SIZE`],
    /// suited to this backend (a backend may register it with the kernel).
    fn buffer(&mut self, capacity: usize) -> AlignedBuf;

    /// Hands an operation over. The token names its completion. An error means
    /// that nothing was submitted; a write's buffer is lost with it.
    fn submit(&mut self, operation: Operation<Self::File>) -> io::Result<Token>;

    /// As [`StorageIo::submit`], for one of several that come together: it may
    /// begin only with the next [`StorageIo::poll`], or with the next operation
    /// that is submitted, if all of them begin for the price of one. Writes that
    /// lie side by side may go out as one; each has its completion. What was
    /// queued is done, too, if the write path is dropped.
    fn queue(&mut self, operation: Operation<Self::File>) -> io::Result<Token> {
        self.submit(operation)
    }

    /// Has begin what is queued. An error means that some of it may not have:
    /// their completions say so.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Appends what has completed to `completions`, without order.
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// Operations submitted whose completion has not been polled.
    fn in_flight(&self) -> usize;

    /// Performs one operation and waits for its end, with nothing else in
    /// flight. What is right, and sometimes faster, for a caller that would
    /// wait anyway.
    ///
    /// # Panics
    ///
    /// If something is in flight.
    fn perform(&mut self, operation: Operation<Self::File>) -> io::Result<Completion> {
        assert_eq!(self.in_flight(), 0, "a lone operation has nothing beside it");
        let token = self.submit(operation)?;
        let mut completions = Vec::with_capacity(1);
        while completions.is_empty() {
            self.poll(Wait::One, &mut completions)?;
        }
        let completion = completions.pop().expect("polled for");
        assert_eq!(completion.token, token);
        Ok(completion)
    }

    /// A descriptor that becomes readable when something has completed, for a
    /// reactor to sleep on (`eventfd(2)`, non-blocking). Read eight bytes from
    /// it before polling; there may be nothing to poll then. `None` for a backend whose operations have completed when
    /// [`StorageIo::submit`] returns.
    #[cfg(unix)]
    fn event_fd(&mut self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        Ok(None)
    }
}
