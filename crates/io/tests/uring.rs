//! Rings: shared with their owner, refused, short of memory.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "these tests look at what the backend left in the file system")]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{BLOCK, block_write, blocks, run, write_durably};
use corewal_io::io_uring::{IoUring, opcode, types::Fd};
use corewal_io::{
    AlignedBuf, BLOCK_SIZE, Backend, FileIo, FileStorage, OpenMode, Operation, OsFile, Ring, Storage, StorageIo, Wait,
};

/// A ring, or the end of the test where there is none to be had.
macro_rules! ring_or_return {
    ($ring:expr) => {
        match $ring {
            Ok(ring) => ring,
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        }
    };
}

fn create(storage: &FileStorage, dir: &Path) -> OsFile {
    storage.open(&dir.join("a"), OpenMode::CreateNew).unwrap()
}

fn nop(ring: &Ring, data: u64) {
    let entry = opcode::Nop::new().build().user_data(data);
    // SAFETY: the operation uses no memory and no file.
    unsafe { ring.submit(&entry) }.unwrap();
}

#[test]
fn an_owner_and_two_write_paths_share_a_ring_and_lose_nothing() {
    const ROUNDS: u64 = 200;
    let own = ring_or_return!(IoUring::new(16));
    let ring = Ring::from_io_uring(own).unwrap();
    let storage = FileStorage::new().backend(Backend::Uring).rings(vec![ring.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let file = create(&storage, dir.path());
    let mut paths = [storage.io(0).unwrap(), storage.io(0).unwrap()];
    let mut tokens = [Vec::new(), Vec::new()];
    let mut completed = [Vec::new(), Vec::new()];
    let mut owners = Vec::new();
    for round in 0..ROUNDS {
        nop(&ring, round);
        for (number, io) in paths.iter_mut().enumerate() {
            let byte = u8::try_from(number).unwrap() + 1;
            let operation = block_write(io, &file, round % 50 * 2 + number as u64, byte, true);
            tokens[number].push(io.submit(operation).unwrap());
        }
        // Each looks at times of its own, so each finds what is another's.
        match round % 5 {
            0 => ring.completions(Wait::No, &mut owners).unwrap(),
            1 => paths[0].poll(Wait::One, &mut completed[0]).unwrap(),
            2 => paths[1].poll(Wait::No, &mut completed[1]).unwrap(),
            3 => ring.completions(Wait::One, &mut owners).unwrap(),
            _ => {}
        }
    }
    for (io, completed) in paths.iter_mut().zip(&mut completed) {
        while io.in_flight() > 0 {
            io.poll(Wait::One, completed).unwrap();
        }
    }
    ring.completions(Wait::No, &mut owners).unwrap();
    ring.completions(Wait::One, &mut owners).unwrap();
    let mut seen: Vec<_> = owners.iter().map(|entry| entry.user_data()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..ROUNDS).collect::<Vec<_>>());
    for (completed, tokens) in completed.iter().zip(&tokens) {
        let mut seen: Vec<_> = completed.iter().map(|done| done.token).collect();
        seen.sort();
        assert_eq!(seen, *tokens);
        assert!(completed.iter().all(|done| *done.result.as_ref().unwrap() == BLOCK_SIZE));
    }
    let found = blocks(&fs::read(dir.path().join("a")).unwrap());
    assert_eq!(found, [1, 2].repeat(50));
}

#[test]
fn an_owner_reads_by_its_ring_while_a_store_writes_by_it() {
    let ring = ring_or_return!(Ring::new(8));
    let storage = FileStorage::new().backend(Backend::Uring).rings(vec![ring.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let file = create(&storage, dir.path());
    let mut io = storage.io(0).unwrap();
    write_durably(&mut io, &file, 0, 7);
    let reader = File::open(dir.path().join("a")).unwrap();
    let mut bytes = vec![0_u8; 100];
    let operation = block_write(&mut io, &file, 1, 8, true);
    io.submit(operation).unwrap();
    let fd = Fd(std::os::fd::AsRawFd::as_raw_fd(&reader));
    let entry = opcode::Read::new(fd, bytes.as_mut_ptr(), 100).build().user_data(1);
    // SAFETY: the bytes and the file outlive the completion, awaited below.
    unsafe { ring.submit(&entry) }.unwrap();
    let mut completions = Vec::new();
    ring.completions(Wait::One, &mut completions).unwrap();
    assert_eq!((completions[0].user_data(), completions[0].result()), (1, 100));
    assert_eq!(bytes, [7; 100]);
    let mut done = Vec::new();
    io.poll(Wait::One, &mut done).unwrap();
    assert_eq!(*done[0].result.as_ref().unwrap(), BLOCK_SIZE);
}

#[test]
fn an_owners_entry_with_corewals_mark_is_refused_and_an_idle_owner_does_not_wait() {
    let ring = ring_or_return!(Ring::new(8));
    let entry = opcode::Nop::new().build().user_data(1 << 63 | 5);
    // SAFETY: the operation uses no memory and no file.
    let error = unsafe { ring.submit(&entry) }.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut completions = Vec::new();
    ring.completions(Wait::One, &mut completions).unwrap();
    assert!(completions.is_empty());
    for data in 0..100 {
        nop(&ring, data);
    }
    while completions.len() < 100 {
        ring.completions(Wait::One, &mut completions).unwrap();
    }
}

#[test]
fn more_can_be_submitted_than_the_ring_holds_and_more_memory_than_it_registers() {
    const COUNT: u64 = 300;
    let ring = ring_or_return!(Ring::new(4));
    let storage = FileStorage::new().backend(Backend::Uring).rings(vec![ring]);
    let dir = tempfile::tempdir().unwrap();
    let file = create(&storage, dir.path());
    storage.zero(&file, 0, COUNT * BLOCK).unwrap();
    let mut io = storage.io(0).unwrap();
    for round in 1..3_u8 {
        for number in 0..COUNT {
            let operation = block_write(&mut io, &file, number, (number % 100) as u8 + round, number % 3 == 0);
            io.submit(operation).unwrap();
        }
        assert_eq!(io.in_flight() as u64, COUNT);
        let mut completions = Vec::new();
        while io.in_flight() > 0 {
            io.poll(Wait::One, &mut completions).unwrap();
        }
        assert_eq!(completions.len() as u64, COUNT);
        let found = blocks(&fs::read(dir.path().join("a")).unwrap());
        let expected: Vec<_> = (0..COUNT).map(|number| (number % 100) as u8 + round).collect();
        assert_eq!(found, expected);
    }
}

/// What is queued has not begun before the poll, and what is submitted takes it
/// along: that it waits is what makes it cheap. A long write does not wait.
#[test]
fn what_is_queued_begins_with_the_poll_or_with_what_is_submitted() {
    let ring = ring_or_return!(Ring::new(64));
    let storage = FileStorage::new().backend(Backend::Uring).rings(vec![ring]);
    let dir = tempfile::tempdir().unwrap();
    let file = create(&storage, dir.path());
    storage.zero(&file, 0, 64 * BLOCK).unwrap();
    if !storage.write_path(&file).direct {
        return println!("skipped: no direct writes here");
    }
    let first_bytes = || blocks(&fs::read(dir.path().join("a")).unwrap());
    let mut io = storage.io(0).unwrap();
    let mut completions = Vec::new();
    for number in 0..8 {
        let operation = block_write(&mut io, &file, number, 1, true);
        io.queue(operation).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(first_bytes().iter().all(|byte| *byte == 0), "begun before the poll");
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    assert_eq!(first_bytes()[..9], [1, 1, 1, 1, 1, 1, 1, 1, 0]);

    let queued = block_write(&mut io, &file, 0, 2, true);
    io.queue(queued).unwrap();
    let mut buffer = io.buffer(32 * BLOCK_SIZE);
    buffer.fill(3);
    let range = 0..buffer.capacity();
    io.queue(Operation::Write { file: file.clone(), offset: 8 * BLOCK, buffer, range, data_sync: true }).unwrap();
    let wait = || (0..500).any(|_| (std::thread::sleep(Duration::from_millis(10)), first_bytes()[0] == 2).1);
    assert!(wait(), "the long write takes the short one along");
    while io.in_flight() > 0 {
        io.poll(Wait::One, &mut completions).unwrap();
    }
    assert_eq!(first_bytes()[8], 3);

    let queued = block_write(&mut io, &file, 0, 4, true);
    io.queue(queued).unwrap();
    io.begin().unwrap();
    let wait = || (0..500).any(|_| (std::thread::sleep(Duration::from_millis(10)), first_bytes()[0] == 4).1);
    assert!(wait(), "it begins though nobody polls");
    io.poll(Wait::One, &mut completions).unwrap();
    assert_eq!(io.in_flight(), 0);
    assert!(completions.iter().all(|done| done.result.is_ok()));
}

#[test]
fn memory_registered_with_one_ring_is_written_by_another_and_from_another_thread() {
    let storage = FileStorage::new();
    let dir = tempfile::tempdir().unwrap();
    let file = create(&storage, dir.path());
    let (mut one, mut two) = (storage.io(0).unwrap(), storage.io(1).unwrap());
    // Both rings know memory at the same place of their tables.
    let _theirs = two.buffer(BLOCK_SIZE);
    let operation = block_write(&mut one, &file, 0, 1, true);
    assert_eq!(run(&mut two, operation).result.unwrap(), BLOCK_SIZE);
    let operation = block_write(&mut one, &file, 1, 2, true);
    one.submit(operation).unwrap();
    let done = std::thread::spawn(move || {
        let mut completions = Vec::new();
        one.poll(Wait::One, &mut completions).unwrap();
        let operation = block_write(&mut one, &file, 2, 3, true);
        run(&mut one, operation).result.unwrap()
    });
    assert_eq!(done.join().unwrap(), BLOCK_SIZE);
    assert_eq!(blocks(&fs::read(dir.path().join("a")).unwrap()), [1, 2, 3]);
}

#[test]
fn what_a_thread_submitted_completes_though_the_thread_is_gone() {
    const COUNT: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new();
    let file = create(&storage, dir.path());
    for round in 1..6 {
        let mut io = storage.io(0).unwrap();
        let writing = file.clone();
        let submitted = std::thread::spawn(move || {
            for number in 0..COUNT {
                // The first round extends the file, which takes a worker thread.
                let operation = block_write(&mut io, &writing, number, round, true);
                io.submit(operation).unwrap();
                io.submit(corewal_io::Operation::Sync { file: writing.clone() }).unwrap();
            }
            io
        });
        let mut io = submitted.join().unwrap();
        let mut completions = Vec::new();
        while io.in_flight() > 0 {
            io.poll(Wait::One, &mut completions).unwrap();
        }
        assert_eq!(completions.len() as u64, 2 * COUNT);
        for done in completions {
            assert_eq!(done.result.unwrap(), done.buffer.map_or(0, |buffer| buffer.capacity()));
        }
        let found = blocks(&fs::read(dir.path().join("a")).unwrap());
        assert_eq!(found, vec![round; usize::try_from(COUNT).unwrap()]);
    }
}

#[test]
fn the_descriptor_becomes_readable_with_a_completion() {
    for direct in [true, false] {
        readable_with_a_completion(&FileStorage::new().direct(direct));
    }
}

fn readable_with_a_completion(storage: &FileStorage) {
    let dir = tempfile::tempdir().unwrap();
    let file = create(storage, dir.path());
    let mut io = storage.io(0).unwrap();
    let Some(event) = io.event_fd().unwrap() else {
        assert!(matches!(io, FileIo::Blocking(_)));
        return;
    };
    let mut event = File::from(event);
    assert_eq!(event.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    for round in 0..3 {
        let operation = block_write(&mut io, &file, round, 1, true);
        io.submit(operation).unwrap();
        let mut ready = libc::pollfd { fd: std::os::fd::AsRawFd::as_raw_fd(&event), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: one entry, as told, and the descriptor is open.
            let count = unsafe { libc::poll(&raw mut ready, 1, 60_000) };
            match count {
                1 => break,
                _ => assert_eq!(std::io::Error::last_os_error().kind(), ErrorKind::Interrupted),
            }
        }
        event.read_exact(&mut [0; 8]).unwrap();
        let mut completions = Vec::new();
        io.poll(Wait::No, &mut completions).unwrap();
        assert_eq!(completions.len(), 1);
    }
}

#[test]
fn it_says_how_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new().backend(Backend::Blocking).direct(false);
    let file = create(&storage, dir.path());
    let path = storage.write_path(&file).to_string();
    assert_eq!(path, "blocking, buffered (io_uring is switched off; direct I/O is switched off)");
    assert!(matches!(storage.io(0).unwrap(), FileIo::Blocking(_)));
    // A file system without a medium: whatever it has, it must work.
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        let storage = FileStorage::new();
        let file = create(&storage, memory.path());
        println!("/dev/shm: {}", storage.write_path(&file));
        storage.zero(&file, 0, 4 * BLOCK).unwrap();
        let mut io = storage.io(0).unwrap();
        write_durably(&mut io, &file, 1, 5);
        assert_eq!(blocks(&fs::read(memory.path().join("a")).unwrap()), [0, 5, 0, 0]);
    }
}

/// Runs one test of this program again in a process of its own, where the
/// variable leads it into `child`, and there `dir` is writable for all.
fn in_a_process_of_its_own(test: &str, child: impl FnOnce(&Path)) {
    use std::os::unix::fs::PermissionsExt;

    const VARIABLE: &str = "COREWAL_IO_TEST_CHILD";
    if let Some(dir) = std::env::var_os(VARIABLE) {
        child(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    let output = command.args(["--exact", test, "--nocapture"]).env(VARIABLE, dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// What a container's filter does: from here on this thread's
/// `io_uring_setup(2)` ends with `EPERM`.
fn forbid_io_uring() {
    const ALLOW: i64 = libc::SECCOMP_RET_ALLOW as i64;
    const REFUSE: i64 = libc::SECCOMP_RET_ERRNO as i64 | libc::EPERM as i64;
    let step = |code: u32, skip, k: i64| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf: skip,
        k: u32::try_from(k).unwrap(),
    };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_io_uring_setup),
        step(libc::BPF_RET, 0, REFUSE),
        step(libc::BPF_RET, 0, ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let unprivileged = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(unprivileged, 0);
    // SAFETY: the program is of four steps, as it says, and outlives the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn where_rings_are_forbidden_it_writes_by_plain_calls_and_says_why() {
    in_a_process_of_its_own("where_rings_are_forbidden_it_writes_by_plain_calls_and_says_why", |dir| {
        forbid_io_uring();
        let storage = FileStorage::new();
        let file = create(&storage, dir);
        let path = storage.write_path(&file);
        assert_eq!(path.backend, "blocking");
        assert!(path.instead.as_ref().unwrap().starts_with("io_uring is refused: not permitted"), "{path}");
        let mut io = storage.io(0).unwrap();
        assert!(matches!(io, FileIo::Blocking(_)));
        write_durably(&mut io, &file, 0, 7);
        assert_eq!(blocks(&fs::read(dir.join("a")).unwrap()), [7]);

        let error = FileStorage::new().backend(Backend::Uring).io(0).unwrap_err();
        assert_eq!(error.to_string(), "io_uring is refused: not permitted");
        assert_eq!(Ring::new(8).unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_user_who_may_lock_no_memory_writes_from_memory_that_is_not_registered() {
    in_a_process_of_its_own("a_user_who_may_lock_no_memory_writes_from_memory_that_is_not_registered", |dir| {
        let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
        // SAFETY: the limit outlives the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
        // Root may lock what it likes; who is not root stays who he is.
        // SAFETY: takes numbers only.
        if unsafe { libc::geteuid() } == 0 {
            // SAFETY: takes numbers only.
            assert_eq!(unsafe { libc::setuid(65534) }, 0);
        }
        let storage = FileStorage::new();
        let file = create(&storage, dir);
        println!("{}", storage.write_path(&file));
        let mut io = storage.io(0).unwrap();
        for number in 0..3 {
            let mut buffer = io.buffer(1 << 20);
            let len = buffer.capacity();
            buffer.fill(7);
            let operation = corewal_io::Operation::Write {
                file: file.clone(),
                offset: number << 20,
                buffer,
                range: 0..len,
                data_sync: true,
            };
            assert_eq!(run(&mut io, operation).result.unwrap(), len);
        }
        assert!(fs::read(dir.join("a")).unwrap().iter().all(|byte| *byte == 7));
    });
}

extern "C" fn nothing(_signal: libc::c_int) {}

#[test]
fn signals_interrupt_system_calls_and_no_operation() {
    in_a_process_of_its_own("signals_interrupt_system_calls_and_no_operation", |dir| {
        let action = libc::sigaction {
            sa_sigaction: nothing as extern "C" fn(libc::c_int) as libc::sighandler_t,
            // Not SA_RESTART: system calls end with EINTR.
            sa_flags: 0,
            // SAFETY: a set of no signals is all zeros.
            sa_mask: unsafe { std::mem::zeroed() },
            sa_restorer: None,
        };
        // SAFETY: the handler does nothing, so it may run at any time.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) }, 0);
        let every = libc::timeval { tv_sec: 0, tv_usec: 100 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: the timer's values outlive the call.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }, 0);
        for storage in [FileStorage::new(), FileStorage::new().direct(false)] {
            let file = create(&storage, dir);
            storage.zero(&file, 0, 100 * BLOCK).unwrap();
            let mut io = storage.io(0).unwrap();
            for number in 0..100 {
                let operation = block_write(&mut io, &file, number, 7, true);
                io.submit(operation).unwrap();
                common::sync(&mut io, &file);
            }
            drop(io);
            assert_eq!(blocks(&fs::read(dir.join("a")).unwrap()), [7; 100]);
            storage.remove(&dir.join("a")).unwrap();
        }
    });
}

#[test]
fn the_raw_limit_is_measured() {
    use corewal_io::raw::{Engine, durable_writes};

    let dir = tempfile::tempdir().unwrap();
    for (engine, in_flight) in [(Engine::Pwritev2, 1), (Engine::Uring, 1), (Engine::Uring, 8)] {
        let path = dir.path().join(format!("{engine:?}-{in_flight}"));
        let time = std::time::Duration::from_millis(50);
        match durable_writes(engine, &path, 2 * BLOCK_SIZE, in_flight, 64 * BLOCK, time) {
            Ok(result) => {
                assert!(result.writes > 0 && result.elapsed >= time);
                assert_eq!(result.latencies_ns.len() as u64, result.writes);
                assert_eq!(result.bytes, result.writes * 2 * BLOCK);
                assert_eq!(fs::metadata(&path).unwrap().len(), 64 * BLOCK);
            }
            Err(error) => println!("skipped: {error}"),
        }
    }
}

/// A process that is killed leaves its writes to the kernel. Its locks go with
/// it, so the next owner could read and write before the last of them lands.
#[test]
fn writes_of_a_killed_process_are_waited_for() {
    const VARIABLE: &str = "COREWAL_IO_TEST_KILLED";
    const LEN: usize = 64 << 20;
    const PART: usize = 1 << 20;
    let test = "writes_of_a_killed_process_are_waited_for";
    let storage = FileStorage::new();
    if let Some(dir) = std::env::var_os(VARIABLE) {
        let file = storage.open(&Path::new(&dir).join("a"), OpenMode::ReadWrite).unwrap();
        let mut io = storage.io(0).unwrap();
        for offset in (0..LEN).step_by(PART) {
            let mut buffer = AlignedBuf::new(PART);
            buffer.fill(7);
            let (file, offset, range) = (file.clone(), offset as u64, 0..PART);
            io.submit(Operation::Write { file, offset, buffer, range, data_sync: true }).unwrap();
        }
        let itself = i32::try_from(std::process::id()).unwrap();
        // SAFETY: takes numbers only, and ends this very process.
        unsafe { libc::kill(itself, libc::SIGKILL) };
        unreachable!("killed");
    }
    let (mut waited, mut late) = (0, 0);
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = storage.open(&path, OpenMode::CreateNew).unwrap();
        if !storage.write_path(&file).direct {
            println!("skipped: {}", storage.write_path(&file));
            return;
        }
        storage.zero(&file, 0, LEN as u64).unwrap();
        storage.settle(&file, 0).unwrap();
        drop(file);
        let mut command = Command::new(std::env::current_exe().unwrap());
        let status = command.args(["--exact", test]).env(VARIABLE, dir.path()).output().unwrap().status;
        assert!(!status.success());
        let before = fs::read(&path).unwrap();
        storage.quiesce(&path).unwrap();
        let after = fs::read(&path).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(fs::read(&path).unwrap() == after, "a write landed after the wait for it");
        waited += usize::from(before != after);
        late += after.iter().step_by(PART).filter(|&&byte| byte == 0).count();
    }
    println!("{waited} of 3 files changed behind the death of their writer; {late} writes never happened");
}
