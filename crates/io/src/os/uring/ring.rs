//! One ring, and whose each completion is.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::setup;
use crate::place::{Place, Places};
use crate::{AlignedBuf, Wait};

/// This bit of an entry's user data says that it is corewal's, and of whose
/// write path the bits behind it tell.
const OURS: u64 = 1 << 63;
const GUEST_SHIFT: u32 = 32;

/// A ring of `io_uring(7)` that a thread shares with the write paths of its
/// core. Clones are the same ring.
///
/// A thread-per-core program often has a ring of its own already. Given to
/// [`FileStorage::rings`](crate::FileStorage::rings), the same ring carries
/// both: the owner goes on to submit its own operations with
/// [`Ring::submit`] and takes their completions with [`Ring::completions`];
/// neither side sees or loses what is the other's.
///
/// It is made for one thread. It may move to another and may be used by
/// several, but whoever waits for a completion keeps the others waiting. It has
/// one event descriptor ([`StorageIo::event_fd`](crate::StorageIo::event_fd)),
/// which tells of the completions of all.
///
/// ```
/// use corewal_io::{Ring, Wait, io_uring::opcode};
///
/// # fn main() -> std::io::Result<()> {
/// let Ok(ring) = Ring::new(64) else { return Ok(()) };
/// let entry = opcode::Nop::new().build().user_data(7);
/// // SAFETY: the operation uses no memory and no file.
/// unsafe { ring.submit(&entry) }?;
/// let mut completions = Vec::new();
/// ring.completions(Wait::One, &mut completions)?;
/// assert_eq!(completions[0].user_data(), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ring {
    state: Arc<Mutex<State>>,
}

struct State {
    ring: IoUring,
    /// Operations of the owner that have not completed.
    owners_running: usize,
    /// Completions of the owner, not yet taken.
    owners: Vec<cqueue::Entry>,
    /// The same for each guest: the low half of the user data, and the result.
    /// `None` is a number that can be given out again.
    guests: Vec<Option<Vec<(u32, i32)>>>,
    /// Free places in the table of registered memory. `None` if there is no
    /// table of ours.
    places: Option<Arc<Places>>,
    event: Option<OwnedFd>,
}

/// When an operation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Before the call returns.
    Now,
    /// With whatever enters the kernel next: the next operation that begins at
    /// once, or looking for completions.
    WithNext,
}

/// Prints no more than that it is one: its state belongs to a thread.
impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring with room for `entries` submissions at a time (`io_uring_setup(2)`
    /// rounds up to a power of two).
    ///
    /// # Errors
    ///
    /// The system's, if it refuses; [`io::ErrorKind::Unsupported`] if its
    /// io_uring cannot write and sync, or may drop completions.
    pub fn new(entries: u32) -> io::Result<Self> {
        Self::set_up(entries, None)
    }

    pub(in crate::os) fn set_up(entries: u32, sqpoll: Option<Duration>) -> io::Result<Self> {
        let ring = setup::ring(entries, sqpoll).map_err(|error| setup::refused(&error))?;
        // Kernels before 5.19 have no table that fills up later.
        let table = ring.submitter().register_buffers_sparse(Places::COUNT).is_ok();
        Self::over(ring, table.then(Places::new))
    }

    /// Takes over a ring that the caller has set up, with nothing in flight.
    ///
    /// Its tables of registered files and buffers stay the caller's. A ring
    /// with `IORING_SETUP_SINGLE_ISSUER` must be used, and so opened as a
    /// store, by its thread alone; one with `IORING_SETUP_DEFER_TASKRUN` must
    /// have `IORING_SETUP_TASKRUN_FLAG` too, by which [`Wait::No`] learns that
    /// something has completed. If it has an event descriptor already
    /// (`IORING_REGISTER_EVENTFD`), a write path on it gives no other
    /// (`EBUSY`).
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] as for [`Ring::new`], and for a ring that
    /// polls its device (`IORING_SETUP_IOPOLL`).
    pub fn from_io_uring(ring: IoUring) -> io::Result<Self> {
        Self::over(ring, None)
    }

    fn over(ring: IoUring, places: Option<Arc<Places>>) -> io::Result<Self> {
        setup::check(&ring).map_err(|error| setup::refused(&error))?;
        let state = State { ring, owners_running: 0, owners: Vec::new(), guests: Vec::new(), places, event: None };
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// Submits an operation of the owner. Its completion comes from
    /// [`Ring::completions`], with the entry's user data. It must have one: for
    /// an entry with `IOSQE_CQE_SKIP_SUCCESS`, [`Wait::One`] would wait for ever.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the highest bit of the user data is
    /// set: by it corewal knows its own. The system's errors if the ring is
    /// full and cannot be emptied; then nothing was submitted.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay valid, and be left alone, until the
    /// operation has completed, and its file must stay open.
    pub unsafe fn submit(&self, entry: &squeue::Entry) -> io::Result<()> {
        if entry.get_user_data() & OURS != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the highest bit of the user data is corewal's"));
        }
        let mut state = self.lock();
        // Counted first: it may have completed when `push` returns.
        state.owners_running += 1;
        // SAFETY: the caller promises what is asked.
        let pushed = unsafe { state.push(entry, Begin::Now) };
        if pushed.is_err() {
            state.owners_running -= 1;
        }
        pushed
    }

    /// Appends the completions of the owner's operations, and takes in those
    /// of others for them to poll. [`Wait::One`] blocks until there is one,
    /// unless the owner has nothing in flight.
    ///
    /// # Errors
    ///
    /// Those of `io_uring_enter(2)`, but for interruptions and shortages that
    /// pass, after which it tries again.
    pub fn completions(&self, wait: Wait, completions: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        let mut state = self.lock();
        state.refresh()?;
        while wait == Wait::One && state.owners.is_empty() && state.owners_running > 0 {
            state.enter(1)?;
        }
        completions.append(&mut state.owners);
        Ok(())
    }

    /// Lets one more write path in, which has `most` operations in flight, and
    /// gives its number.
    pub(super) fn enroll(&self, most: usize) -> u16 {
        let mut state = self.lock();
        let free = state.guests.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            state.guests.push(None);
            state.guests.len() - 1
        });
        state.guests[number] = Some(Vec::with_capacity(most));
        u16::try_from(number).expect("a core has few write paths")
    }

    /// A write path with nothing in flight goes.
    pub(super) fn leave(&self, guest: u16) {
        let gone = self.lock().guests[usize::from(guest)].take();
        assert!(gone.is_some_and(|completions| completions.is_empty()));
    }

    /// Submits an operation of a guest; `id` comes back with its completion.
    ///
    /// # Safety
    ///
    /// As for [`Ring::submit`].
    pub(super) unsafe fn submit_as(&self, guest: u16, id: u32, entry: squeue::Entry, begin: Begin) -> io::Result<()> {
        let entry = entry.user_data(OURS | u64::from(guest) << GUEST_SHIFT | u64::from(id));
        // SAFETY: the caller promises what is asked.
        unsafe { self.lock().push(&entry, begin) }
    }

    /// Appends what has completed of a guest's. With [`Wait::One`] something
    /// of it must be in flight.
    pub(super) fn completions_of(&self, guest: u16, wait: Wait, completions: &mut Vec<(u32, i32)>) -> io::Result<()> {
        let mut state = self.lock();
        state.refresh()?;
        while wait == Wait::One && state.inbox(guest).is_empty() {
            state.enter(1)?;
        }
        completions.append(state.inbox(guest));
        Ok(())
    }

    /// How many completions it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.lock().ring.params().cq_entries() as usize
    }

    /// A buffer whose memory the kernel knows, if it may: then it need not
    /// look the pages up with every write (`io_uring_register(2)`), which is 15
    /// to 40 % of the CPU that one of 512 KiB takes. It may not if the table is full
    /// or too much memory is locked already (`RLIMIT_MEMLOCK`); the buffer
    /// serves as well.
    pub(super) fn buffer(&self, capacity: usize) -> AlignedBuf {
        AlignedBuf::registered(capacity, |start, len| self.lock().register(start, len))
    }

    /// The number in the table of the memory that a buffer is part of.
    pub(super) fn registered(&self, buffer: &AlignedBuf) -> Option<u16> {
        buffer.place()?.index_in(self.lock().places.as_ref()?)
    }

    /// A descriptor that becomes readable with each completion.
    pub(super) fn event_fd(&self) -> io::Result<OwnedFd> {
        let mut state = self.lock();
        if state.event.is_none() {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            state.ring.submitter().register_eventfd(event.as_raw_fd())?;
            state.event = Some(event);
        }
        state.event.as_ref().expect("made above").try_clone()
    }

    /// A panic of another user leaves nothing half done that matters here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn inbox(&mut self, guest: u16) -> &mut Vec<(u32, i32)> {
        self.guests[usize::from(guest)].as_mut().expect("an enrolled guest")
    }

    /// Puts an entry into the submission queue, and tells the kernel if it is to
    /// begin. (If not, the next call that enters does.)
    ///
    /// # Safety
    ///
    /// As for [`Ring::submit`].
    unsafe fn push(&mut self, entry: &squeue::Entry, begin: Begin) -> io::Result<()> {
        while self.ring.submission().is_full() {
            self.enter(0)?;
            if self.ring.params().is_setup_sqpoll() {
                self.ring.submitter().squeue_wait()?;
            }
        }
        // SAFETY: the caller promises what is asked.
        unsafe { self.ring.submission().push(entry) }.expect("there is room");
        if begin == Begin::Now {
            // The entry is in the queue: what is wrong comes out when it is
            // waited for, which enters again.
            let _ = self.enter(0);
        }
        Ok(())
    }

    /// Takes in what has completed, with a system call only if there is a
    /// reason: entries that the kernel would not take, completions that it
    /// keeps back.
    fn refresh(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        if !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
            drop(queue);
            return self.enter(0);
        }
        drop(queue);
        self.sort();
        Ok(())
    }

    /// `io_uring_enter(2)`: submits what is in the queue, waits for `want`
    /// completions, takes in what there is.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        let result = loop {
            match self.ring.submit_and_wait(want) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.sort();
        match result {
            Ok(_) => Ok(()),
            // "EAGAIN: The kernel was unable to allocate memory for the
            // request, or otherwise ran out of resources to handle it. The
            // application should wait for some completions and try again."
            // "EBUSY: ... The application should reap some completions."
            // The entries stay in the queue, and every poll tries again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                std::thread::yield_now();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the completions to those whose they are.
    fn sort(&mut self) {
        for entry in self.ring.completion() {
            let data = entry.user_data();
            if data & OURS == 0 {
                if !cqueue::more(entry.flags()) {
                    self.owners_running = self.owners_running.saturating_sub(1);
                }
                self.owners.push(entry);
                continue;
            }
            let guest = (data & !OURS) >> GUEST_SHIFT;
            let id = data & u64::from(u32::MAX);
            let inbox = usize::try_from(guest).ok().and_then(|guest| self.guests.get_mut(guest)?.as_mut());
            let inbox = inbox.expect("a guest stays until all it has in flight has completed");
            inbox.push((u32::try_from(id).expect("masked"), entry.result()));
        }
    }

    fn register(&mut self, start: *mut u8, len: usize) -> Option<Place> {
        let places = self.places.as_ref()?;
        let place = places.take()?;
        let index = place.index_in(places).expect("taken from it");
        let memory = libc::iovec { iov_base: start.cast(), iov_len: len };
        // SAFETY: the memory is allocated. Registering pins its pages, so that
        // the kernel reads no other ones even after it is freed; and after that
        // nobody names this place before it is registered anew.
        unsafe { self.ring.submitter().register_buffers_update(u32::from(index), &[memory], None) }.ok()?;
        Some(place)
    }
}
