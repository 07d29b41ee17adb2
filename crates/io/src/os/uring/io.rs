//! The write path of one core, on a ring.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::Ring;
use super::ring::Begin;
use crate::os::OsFile;
use crate::os::direct::Direct;
use crate::os::io::perform;
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait, write};

/// A ring's own: how many operations one system call can hand over. The kernel
/// holds twice as many completions.
const ENTRIES: u32 = 256;

/// A longer write begins at once, also when it is queued: it takes so long that
/// the call into the system is nothing beside it, and the disk should not wait.
const QUEUED_MAX: usize = 16 << 10;

/// The most that one operation writes; a longer write is short, as of any
/// backend (`write(2)`: "at most 0x7ffff000 bytes").
const MOST: usize = 1 << 30;

/// The write path of [`FileStorage`](crate::FileStorage) by `io_uring(7)`:
/// [`submit`](StorageIo::submit) hands an operation to the kernel at once and
/// does not wait for it. Writes through the page cache it performs itself,
/// since they only copy; what makes them durable, the sync, goes by the ring.
///
/// Operations in flight complete in any order, and a write may be short.
/// Dropping it waits for what is in flight: until then the kernel reads the
/// buffers.
pub struct UringIo {
    ring: Ring,
    guest: u16,
    next_token: u64,
    /// What is in flight, at the index that is its id in the ring.
    running: Vec<Option<Running>>,
    /// The indices in `running` that hold nothing.
    free: Vec<u32>,
    most: usize,
    completed: Vec<Completion>,
    /// What the ring handed out, kept for its memory.
    taken: Vec<(u32, i32)>,
    event: Option<OwnedFd>,
}

/// An operation in flight. It owns what the kernel uses.
struct Running {
    token: Token,
    entry: squeue::Entry,
    buffer: Option<AlignedBuf>,
    _file: OsFile,
}

/// Prints how many operations are in flight.
impl fmt::Debug for UringIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringIo").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl UringIo {
    /// Works on a ring that others may use too.
    pub(in crate::os) fn on(ring: Ring) -> Self {
        let most = ring.capacity().min(2 * ENTRIES as usize);
        // All that it will need: nothing is allocated while it runs.
        Self {
            guest: ring.enroll(most),
            next_token: 0,
            running: Vec::with_capacity(most),
            free: Vec::with_capacity(most),
            most,
            completed: Vec::with_capacity(most),
            taken: Vec::with_capacity(most),
            event: None,
            ring,
        }
    }

    /// Works on a ring of its own.
    pub(in crate::os) fn new(sqpoll: Option<Duration>) -> io::Result<Self> {
        Ok(Self::on(Ring::set_up(ENTRIES, sqpoll)?))
    }

    fn running(&self) -> usize {
        self.running.len() - self.free.len()
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    /// Writes through the cache by a plain system call. It only copies; the
    /// ring would hand it to a worker thread, for up to three times the CPU, and
    /// one file's writes would wait for each other all the same.
    fn write_now(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        let token = self.token();
        self.completed.push(perform(operation, token)?);
        self.tell()?;
        Ok(token)
    }

    /// Makes the event descriptor readable for what the ring does not know of.
    #[expect(clippy::host_endian_bytes, reason = "eventfd(2) takes a number of the machine's own byte order")]
    fn tell(&self) -> io::Result<()> {
        let Some(event) = &self.event else { return Ok(()) };
        rustix::io::retry_on_intr(|| rustix::io::write(event, &1_u64.to_ne_bytes()))?;
        Ok(())
    }

    /// The entry that writes `bytes` of `buffer`.
    fn write_entry(&self, file: &OsFile, offset: u64, buffer: &AlignedBuf, bytes: &[u8], sync: bool) -> squeue::Entry {
        let fd = Fd(file.for_writing().as_raw_fd());
        let flags = if sync { libc::RWF_DSYNC } else { 0 };
        let len = u32::try_from(bytes.len().min(MOST)).expect("bounded");
        match self.ring.registered(buffer) {
            Some(index) => {
                opcode::WriteFixed::new(fd, bytes.as_ptr(), len, index).offset(offset).rw_flags(flags).build()
            }
            None => opcode::Write::new(fd, bytes.as_ptr(), len).offset(offset).rw_flags(flags).build(),
        }
    }

    /// Takes in what has completed.
    fn take_in(&mut self, wait: Wait) -> io::Result<()> {
        let mut taken = mem::take(&mut self.taken);
        self.ring.completions_of(self.guest, wait, &mut taken)?;
        for (id, result) in taken.drain(..) {
            let mut result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            let slot = &mut self.running[id as usize];
            if result.as_ref().is_err_and(did_not_happen) {
                let entry = slot.as_ref().expect("in flight").entry.clone();
                // SAFETY: its buffer and its file are still held in the slot.
                match unsafe { self.ring.submit_as(self.guest, id, entry, Begin::Now) } {
                    Ok(()) => continue,
                    Err(error) => result = Err(error),
                }
            }
            let Running { token, buffer, .. } = slot.take().expect("an operation completes once");
            self.free.push(id);
            self.completed.push(Completion { token, result, buffer });
        }
        self.taken = taken;
        Ok(())
    }

    fn hand_over(&mut self, operation: Operation<OsFile>, begin: Begin) -> io::Result<Token> {
        match operation {
            Operation::Write { file, offset, buffer, range, data_sync } => {
                write::check(offset, &buffer, &range)?;
                if !matches!(file.direct(), Direct::Open(_)) {
                    return self.write_now(Operation::Write { file, offset, buffer, range, data_sync });
                }
                let begin = if range.len() > QUEUED_MAX { Begin::Now } else { begin };
                let entry = self.write_entry(&file, offset, &buffer, &buffer[range], data_sync);
                self.start(entry, Some(buffer), file, begin)
            }
            Operation::Sync { file } => {
                let fd = Fd(file.for_writing().as_raw_fd());
                let entry = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
                self.start(entry, None, file, begin)
            }
        }
    }

    /// Hands an entry to the kernel. Unless it is queued, at once, so that its
    /// work begins though nobody may poll for a while. (What that costs where many
    /// are handed over in a row stands in docs/PERFORMANCE.md.)
    ///
    /// The file is named by its descriptor. In the ring's own table it would
    /// save at most 0.1 µs, and the table would keep a removed file's blocks.
    fn start(
        &mut self,
        entry: squeue::Entry,
        buffer: Option<AlignedBuf>,
        file: OsFile,
        begin: Begin,
    ) -> io::Result<Token> {
        while self.running() >= self.most {
            self.take_in(Wait::One)?;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            u32::try_from(self.running.len() - 1).expect("no more than the ring holds")
        });
        // SAFETY: the buffer and the file go into `running` below and stay
        // there, whole, until the operation has completed.
        if let Err(error) = unsafe { self.ring.submit_as(self.guest, id, entry.clone(), begin) } {
            self.free.push(id);
            return Err(error);
        }
        let token = self.token();
        let before = self.running[id as usize].replace(Running { token, entry, buffer, _file: file });
        assert!(before.is_none());
        Ok(token)
    }
}

/// Whether an operation ended before it began: then it is made again, as after
/// a plain system call. `ECANCELED` is among them, for nothing is cancelled
/// here: the kernel ends so what waits for a worker thread, when signals keep
/// it from making one, or when the thread that submitted it is gone.
fn did_not_happen(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED))
}

impl StorageIo for UringIo {
    type File = OsFile;

    fn buffer(&mut self, capacity: usize) -> AlignedBuf {
        self.ring.buffer(capacity)
    }

    fn submit(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        self.hand_over(operation, Begin::Now)
    }

    fn queue(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        self.hand_over(operation, Begin::WithNext)
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        if self.running() > 0 {
            // What is here already need not be waited for.
            let wait = if self.completed.is_empty() { wait } else { Wait::No };
            self.take_in(wait)?;
        }
        completions.append(&mut self.completed);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.running() + self.completed.len()
    }

    /// By a plain system call, without the ring: that ends on this thread,
    /// where the ring's completion first goes through others of the kernel's.
    /// 4 KiB, direct and durable: 90 µs against 104 µs on an idle machine, and
    /// far more where those threads must wait for a CPU.
    fn perform(&mut self, operation: Operation<OsFile>) -> io::Result<Completion> {
        assert_eq!(self.in_flight(), 0, "a lone operation has nothing beside it");
        let token = self.token();
        perform(operation, token)
    }

    fn event_fd(&mut self) -> io::Result<Option<OwnedFd>> {
        let event = self.ring.event_fd()?;
        let given = event.try_clone()?;
        self.event = Some(event);
        // It may have completed before there was a descriptor to say so.
        if self.in_flight() > 0 {
            self.tell()?;
        }
        Ok(Some(given))
    }
}

impl Drop for UringIo {
    fn drop(&mut self) {
        while self.running() > 0 {
            if self.take_in(Wait::One).is_err() {
                // The kernel may still read the buffers, and nobody will learn
                // when it is done: they, and the guest's number, are never
                // used again.
                mem::forget(mem::take(&mut self.running));
                return;
            }
        }
        self.ring.leave(self.guest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Places;
    use crate::{BLOCK_SIZE, Backend, FileStorage, OpenMode, Storage as _};

    #[test]
    fn what_the_kernel_holds_at_a_time_is_bounded_however_much_is_submitted() {
        const SUBMITTED: u64 = 3000;
        let Ok(mut io) = UringIo::new(None) else {
            println!("skipped: the machine refuses io_uring");
            return;
        };
        assert!(io.most <= 2 * ENTRIES as usize);
        // Beside the program: temporary directories are often in memory.
        let beside = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
        let storage = FileStorage::new().backend(Backend::Uring);
        let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
        storage.zero(&file, 0, 8 * BLOCK_SIZE as u64).unwrap();
        let (slots, free) = (io.running.capacity(), io.free.capacity());
        for number in 0..SUBMITTED {
            let buffer = io.buffer(BLOCK_SIZE);
            let (offset, range) = (number % 8 * BLOCK_SIZE as u64, 0..BLOCK_SIZE);
            io.submit(Operation::Write { file: file.clone(), offset, buffer, range, data_sync: false }).unwrap();
            assert!(io.running() <= io.most);
        }
        assert_eq!((io.running.capacity(), io.free.capacity()), (slots, free), "nothing has grown");
        let mut completions = Vec::new();
        while io.in_flight() > 0 {
            io.poll(Wait::One, &mut completions).unwrap();
        }
        assert_eq!(completions.len() as u64, SUBMITTED);
        drop(completions);

        // The memory that the kernel pins, too: the rest is not registered.
        let buffers: Vec<_> = (0..3 * Places::COUNT).map(|_| io.buffer(BLOCK_SIZE)).collect();
        let registered = buffers.iter().filter(|buffer| io.ring.registered(buffer).is_some()).count();
        assert!(registered <= Places::COUNT as usize, "{registered}");
        drop(buffers);
        // The places come back.
        let again = (0..Places::COUNT).map(|_| io.buffer(BLOCK_SIZE)).collect::<Vec<_>>();
        assert_eq!(again.iter().filter(|buffer| io.ring.registered(buffer).is_some()).count(), registered);
    }
}
