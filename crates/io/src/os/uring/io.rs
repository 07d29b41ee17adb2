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
use crate::os::queued::Queued;
use crate::{AlignedBuf, Completion, Operation, StorageIo, Token, Wait, write};

/// A ring's own: how many operations one system call can hand over. The kernel
/// holds twice as many completions.
const ENTRIES: u32 = 256;

/// A longer write begins at once, also when it is queued: it takes so long that
/// the call into the system is nothing beside it, and the disk should not wait.
const SHORT_MAX: usize = 16 << 10;

/// Most queued writes that go out as one.
const JOINED_MAX: usize = 32;

/// The most that one operation writes; a longer write is short, as of any
/// backend (`write(2)`: "at most 0x7ffff000 bytes").
const MOST: usize = 1 << 30;

/// The write path of [`FileStorage`](crate::FileStorage) by `io_uring(7)`:
/// [`submit`](StorageIo::submit) hands an operation to the kernel at once and
/// does not wait for it. Writes through the page cache it performs itself,
/// since they only copy; what makes them durable, the sync, goes by the ring.
/// Short ones that were [queued](StorageIo::queue) go out as one where they lie
/// side by side both in a file and in memory, as parts of a buffer do.
///
/// Operations in flight complete in any order, and a write may be short.
/// Dropping it waits for what is in flight: until then the kernel reads the
/// buffers.
pub struct UringIo {
    ring: Ring,
    guest: u16,
    next_token: u64,
    /// Writes that wait for what begins next.
    queued: Vec<Queued>,
    /// What is in flight, at the index that is its id in the ring.
    running: Vec<Option<Running>>,
    /// Operations that go out with another one that is in flight.
    joined: usize,
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
    file: OsFile,
    /// There are more in it.
    parts: Option<Parts>,
}

/// Whether one write can go out together with the next one.
fn is_beside(write: &Queued, next: &Queued) -> bool {
    let all_of_them = write.range == (0..write.buffer.capacity()) && next.range.start == 0;
    all_of_them && write.leads_to(next) && write.buffer.is_followed_by(&next.buffer)
}

/// Writes that go out as one, with one buffer. Their tokens follow each other.
struct Parts {
    offset: u64,
    data_sync: bool,
    /// How many bytes each has, and of how many there are.
    lens: [u16; JOINED_MAX],
    count: usize,
}

impl Parts {
    fn new(first: &Queued) -> Self {
        let mut parts = Self { offset: first.offset, data_sync: first.data_sync, lens: [0; JOINED_MAX], count: 0 };
        parts.add(first);
        parts
    }

    fn add(&mut self, next: &Queued) {
        self.lens[self.count] = u16::try_from(next.range.len()).expect("it is short");
        self.count += 1;
    }

    /// Takes a buffer apart again.
    fn split(self, token: Token, file: OsFile, buffer: AlignedBuf) -> impl Iterator<Item = Queued> {
        let Self { mut offset, data_sync, lens, count } = self;
        let mut rest = Some(buffer);
        (0..count).map(move |at| {
            let mut buffer = rest.take().expect("as many parts as were joined");
            let len = usize::from(lens[at]);
            if at + 1 < count {
                rest = Some(buffer.split_off(len));
            }
            let token = Token(token.0 + at as u64);
            let part = Queued { token, file: file.clone(), offset, buffer, range: 0..len, data_sync };
            offset += len as u64;
            part
        })
    }
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
            queued: Vec::with_capacity(JOINED_MAX),
            joined: 0,
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
            let ended = slot.take().expect("an operation completes once");
            self.free.push(id);
            self.complete(ended, result);
        }
        self.taken = taken;
        Ok(())
    }

    /// Takes in how an operation ended, and each that went out with it.
    fn complete(&mut self, ended: Running, result: io::Result<usize>) {
        let Running { token, buffer, file, parts, .. } = ended;
        let Some(parts) = parts else {
            self.completed.push(Completion { token, result, buffer });
            return;
        };
        self.joined -= parts.count - 1;
        let buffer = buffer.expect("that of a write");
        match result {
            Ok(mut done) => {
                for part in parts.split(token, file, buffer) {
                    if done > 0 {
                        // The last of them may be short.
                        let written = done.min(part.range.len());
                        done -= written;
                        self.completed.push(Completion {
                            token: part.token,
                            result: Ok(written),
                            buffer: Some(part.buffer),
                        });
                    } else {
                        // Nothing of it was tried. Whoever polls may sleep next.
                        self.start_write(part, None, Begin::Now);
                    }
                }
            }
            Err(error) => {
                let (ended, failed) = (parts.split(token, file, buffer), Err(error));
                self.completed.extend(ended.map(|part| part.complete(&mut 0, &failed)));
            }
        }
    }

    /// Hands a write to the kernel.
    fn start_write(&mut self, write: Queued, parts: Option<Parts>, begin: Begin) {
        let Queued { token, file, offset, buffer, range, data_sync } = write;
        let entry = self.write_entry(&file, offset, &buffer, &buffer[range], data_sync);
        self.joined += parts.as_ref().map_or(0, |parts| parts.count - 1);
        let running = Running { token, entry, buffer: Some(buffer), file, parts };
        if let Err(refused) = self.start(running, begin) {
            let (running, error) = *refused;
            self.complete(running, Err(error));
        }
    }

    /// Hands what is queued to the kernel, to begin with what enters it next: what
    /// lies side by side as one.
    fn begin_queued(&mut self) {
        let mut queued = mem::take(&mut self.queued);
        let mut rest = queued.drain(..).peekable();
        while let Some(mut write) = rest.next() {
            let mut parts = Parts::new(&write);
            while parts.count < JOINED_MAX
                && let Some(next) = rest.next_if(|next| is_beside(&write, next))
            {
                parts.add(&next);
                write.buffer.join(next.buffer).expect("it follows");
                write.range.end += next.range.len();
            }
            let parts = (parts.count > 1).then_some(parts);
            self.start_write(write, parts, Begin::WithNext);
        }
        drop(rest);
        self.queued = queued;
    }

    /// Hands an operation to the kernel, so that its work begins though nobody
    /// may poll for a while. (What that costs where many are handed over in a row
    /// stands in docs/PERFORMANCE.md.)
    fn begin_now(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        let (entry, buffer, file) = match operation {
            Operation::Write { file, offset, buffer, range, data_sync } => {
                let entry = self.write_entry(&file, offset, &buffer, &buffer[range], data_sync);
                (entry, Some(buffer), file)
            }
            Operation::Sync { file } => {
                let fd = Fd(file.for_writing().as_raw_fd());
                (opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(), None, file)
            }
        };
        let token = self.token();
        let running = Running { token, entry, buffer, file, parts: None };
        self.start(running, Begin::Now).map_err(|refused| refused.1)?;
        Ok(token)
    }

    /// Hands an entry to the kernel; gives back what it would not take, and why.
    ///
    /// The file is named by its descriptor. In the ring's own table it would
    /// save at most 0.1 µs, and the table would keep a removed file's blocks.
    fn start(&mut self, running: Running, begin: Begin) -> Result<(), Box<(Running, io::Error)>> {
        while self.running() >= self.most {
            if let Err(error) = self.take_in(Wait::One) {
                return Err(Box::new((running, error)));
            }
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            u32::try_from(self.running.len() - 1).expect("no more than the ring holds")
        });
        // SAFETY: the buffer and the file go into `running` below and stay
        // there, whole, until the operation has completed.
        if let Err(error) = unsafe { self.ring.submit_as(self.guest, id, running.entry.clone(), begin) } {
            self.free.push(id);
            return Err(Box::new((running, error)));
        }
        let before = self.running[id as usize].replace(running);
        assert!(before.is_none());
        Ok(())
    }

    /// Whether it is a write past the cache; whatever it is, it keeps the rules.
    fn is_direct(operation: &Operation<OsFile>) -> io::Result<bool> {
        let Operation::Write { file, offset, buffer, range, .. } = operation else { return Ok(false) };
        write::check(*offset, buffer, range)?;
        Ok(matches!(file.direct(), Direct::Open(_)))
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
        let is_direct = Self::is_direct(&operation)?;
        self.begin_queued();
        match operation {
            Operation::Write { .. } if !is_direct => self.write_now(operation),
            _ => self.begin_now(operation),
        }
    }

    fn queue(&mut self, operation: Operation<OsFile>) -> io::Result<Token> {
        match operation {
            Operation::Write { ref range, .. } if range.len() <= SHORT_MAX && Self::is_direct(&operation)? => {}
            _ => return self.submit(operation),
        }
        let Operation::Write { file, offset, buffer, range, data_sync } = operation else {
            unreachable!("as seen above")
        };
        if self.queued.len() == self.queued.capacity() {
            self.begin_queued();
        }
        let token = self.token();
        self.queued.push(Queued { token, file, offset, buffer, range, data_sync });
        Ok(token)
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.queued.is_empty() {
            return Ok(());
        }
        self.begin_queued();
        // This enters the kernel.
        self.take_in(Wait::No)
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.begin_queued();
        if self.running() > 0 {
            // What is here already need not be waited for.
            let wait = if self.completed.is_empty() { wait } else { Wait::No };
            self.take_in(wait)?;
        }
        completions.append(&mut self.completed);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.queued.len() + self.running() + self.joined + self.completed.len()
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
        self.begin_queued();
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

    /// Three writes that went out as one, which has ended like this.
    fn three_ended(result: io::Result<usize>) -> Option<(UringIo, Vec<Completion>, Vec<u8>)> {
        let Ok(mut io) = UringIo::new(None) else {
            println!("skipped: the machine refuses io_uring");
            return None;
        };
        let beside = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
        let storage = FileStorage::new().backend(Backend::Uring);
        let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
        let mut whole = io.buffer(4 * BLOCK_SIZE);
        whole.fill(7);
        let mut parts: Option<Parts> = None;
        for len in [1, 2, 1] {
            let (range, buffer) = (0..len * BLOCK_SIZE, AlignedBuf::new(len * BLOCK_SIZE));
            let part = Queued { token: io.token(), file: file.clone(), offset: 0, buffer, range, data_sync: true };
            parts.get_or_insert_with(|| Parts { count: 0, ..Parts::new(&part) }).add(&part);
        }
        io.joined = 2;
        let entry = opcode::Nop::new().build();
        let ended = Running { token: Token(0), entry, buffer: Some(whole), file: file.clone(), parts };
        io.complete(ended, result);
        assert_eq!(io.in_flight(), 3);
        let mut completions = Vec::new();
        while io.in_flight() > 0 {
            io.poll(Wait::One, &mut completions).unwrap();
        }
        completions.sort_by_key(|done| done.token);
        let mut found = vec![0; 4 * BLOCK_SIZE];
        let read = storage.read_at(&file, 0, &mut found).unwrap();
        found.truncate(read);
        Some((io, completions, found))
    }

    #[test]
    fn what_a_short_write_left_out_is_written_by_itself_and_a_part_of_one_is_short() {
        for (bytes, expected) in [
            (4 * BLOCK_SIZE, [BLOCK_SIZE, 2 * BLOCK_SIZE, BLOCK_SIZE]),
            (2 * BLOCK_SIZE, [BLOCK_SIZE, BLOCK_SIZE, BLOCK_SIZE]),
            (BLOCK_SIZE, [BLOCK_SIZE, 2 * BLOCK_SIZE, BLOCK_SIZE]),
        ] {
            let Some((io, completions, found)) = three_ended(Ok(bytes)) else { return };
            let written = completions.iter().map(|done| *done.result.as_ref().unwrap());
            assert!(written.eq(expected), "{bytes}: {completions:?}");
            let lens = completions.iter().map(|done| done.buffer.as_ref().unwrap().capacity());
            assert!(lens.eq([BLOCK_SIZE, 2 * BLOCK_SIZE, BLOCK_SIZE]));
            assert_eq!(io.joined, 0);
            // Those that were not tried stand where they belong: at the end.
            let tried_again = match bytes / BLOCK_SIZE {
                4 => vec![],
                2 => vec![0, 0, 0, 7],
                _ => vec![0, 7, 7, 7],
            };
            assert!(found.chunks(BLOCK_SIZE).map(|block| block[9]).eq(tried_again), "{bytes}");
        }
    }

    #[test]
    fn what_lies_side_by_side_in_file_and_memory_goes_out_as_one() {
        let Ok(mut io) = UringIo::new(None) else { return println!("skipped: the machine refuses io_uring") };
        let beside = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
        let storage = FileStorage::new().backend(Backend::Uring);
        let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
        if !storage.write_path(&file).direct {
            return println!("skipped: no direct writes here");
        }
        storage.zero(&file, 0, 8 * BLOCK_SIZE as u64).unwrap();
        // Six parts of a buffer; before the fifth there is a gap in the file.
        let mut rest = Some(io.buffer(6 * BLOCK_SIZE));
        for (number, block) in [0, 1, 2, 3, 5, 6].into_iter().enumerate() {
            let mut buffer = rest.take().unwrap();
            if number < 5 {
                rest = Some(buffer.split_off(BLOCK_SIZE));
            }
            let (offset, range) = (block * BLOCK_SIZE as u64, 0..BLOCK_SIZE);
            io.queue(Operation::Write { file: file.clone(), offset, buffer, range, data_sync: true }).unwrap();
        }
        io.begin_queued();
        assert_eq!((io.running(), io.joined, io.in_flight()), (2, 4, 6));
        let mut completions = Vec::new();
        while io.in_flight() > 0 {
            io.poll(Wait::One, &mut completions).unwrap();
        }
        assert_eq!((completions.len(), io.joined), (6, 0));
        assert!(completions.iter().all(|done| done.result.as_ref().is_ok_and(|&len| len == BLOCK_SIZE)));
    }

    #[test]
    fn none_of_those_that_went_out_as_one_that_failed_is_said_to_be_written() {
        let Some((io, completions, found)) = three_ended(Err(io::Error::from_raw_os_error(libc::EIO))) else { return };
        let numbers = completions.iter().map(|done| done.result.as_ref().unwrap_err().raw_os_error());
        assert!(numbers.eq([Some(libc::EIO); 3]));
        let lens = completions.iter().map(|done| done.buffer.as_ref().unwrap().capacity());
        assert!(lens.eq([BLOCK_SIZE, 2 * BLOCK_SIZE, BLOCK_SIZE]));
        assert_eq!((io.joined, found.len()), (0, 0));
    }
}
