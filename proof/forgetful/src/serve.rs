//! The disk's face: requests of the kernel's become calls of [`Disk`].
//!
//! The kernel writes through its cache (no `FUSE_WRITEBACK_CACHE`): each
//! `write(2)` is here before it returns, and its pages stay in the cache,
//! clean, as those of any file system do after a sync that failed. A write that
//! is to be durable (`O_DSYNC`, `RWF_DSYNC`) comes with `O_DSYNC` among its
//! flags, and a `FUSE_FSYNC` follows it.
//!
//! `FUSE_ASYNC_DIO` is not asked for: with it the kernel does not drop cached
//! pages when a direct write of a ring ends, so that a read through the cache
//! may show what was there before, for ever.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::disk::{Disk, Inode, Node, Result, Sync};

/// Nobody but the kernel changes names and lengths, so it may believe what it
/// knows.
const BELIEVE: Duration = Duration::from_secs(600);
const GENERATION: Generation = Generation(0);
const BLOCK: u32 = 4096;
/// A sync takes up to so long, as on a disk of flash.
const SYNC_MICROS: u64 = 300;

/// The disk, shared with those who command it.
pub(crate) type Shared = Arc<Mutex<Disk>>;

/// Whoever panicked with it in hand has already failed; what it holds is whole.
pub(crate) fn lock(disk: &Shared) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A disk as a file system.
#[derive(Debug)]
pub(crate) struct Serve(pub(crate) Shared);

impl Serve {
    fn attributes(disk: &Disk, inode: Inode) -> Result<FileAttr> {
        let (kind, size, perm) = match disk.node(inode)? {
            Node::File(file) => (FileType::RegularFile, file.len(), 0o600),
            Node::Dir(_) => (FileType::Directory, u64::from(BLOCK), 0o700),
        };
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        })
    }

    fn entry(&self, reply: ReplyEntry, find: impl FnOnce(&mut Disk) -> Result<Inode>) {
        let mut disk = lock(&self.0);
        match find(&mut disk).and_then(|inode| Self::attributes(&disk, inode)) {
            Ok(attributes) => reply.entry(&BELIEVE, &attributes, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn attr(&self, reply: ReplyAttr, inode: INodeNo, change: impl FnOnce(&mut Disk) -> Result<()>) {
        let mut disk = lock(&self.0);
        match change(&mut disk).and_then(|()| Self::attributes(&disk, inode.0)) {
            Ok(attributes) => reply.attr(&BELIEVE, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn sync(&self, inode: INodeNo, reply: ReplyEmpty) {
        let begun = lock(&self.0).begin_sync(inode.0);
        match self.end_sync(begun) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    /// A sync takes its time, in which others write and the power can go.
    fn end_sync(&self, begun: Result<Sync>) -> Result<()> {
        let begun = begun?;
        thread::sleep(Duration::from_micros(fastrand::u64(0..SYNC_MICROS)));
        lock(&self.0).end_sync(begun)
    }

    fn empty(&self, reply: ReplyEmpty, call: impl FnOnce(&mut Disk) -> Result<()>) {
        match call(&mut lock(&self.0)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

impl Filesystem for Serve {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |disk| disk.look_up(parent.0, name));
    }

    fn getattr(&self, _req: &Request, inode: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.attr(reply, inode, |_| Ok(()));
    }

    fn setattr(
        &self,
        _req: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.attr(reply, inode, |disk| size.map_or(Ok(()), |size| disk.set_len(inode.0, size)));
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        self.entry(reply, |disk| disk.create_dir(parent.0, name));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.remove(parent.0, name, false));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.remove(parent.0, name, true));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        self.empty(reply, |disk| disk.rename(parent.0, name, to.0, new));
    }

    fn open(&self, _req: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match lock(&self.0).node(inode.0) {
            // What the cache shows stays, as on any file system of a disk.
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = lock(&self.0);
        match disk.create(parent.0, name).and_then(|inode| Self::attributes(&disk, inode)) {
            Ok(attributes) => {
                reply.created(&BELIEVE, &attributes, GENERATION, FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE)
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.0).read(inode.0, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // Bound first, so that the lock is free again.
        let written = lock(&self.0).write(inode.0, offset, data);
        let written = written.and_then(|written| {
            if flags.0 & libc::O_DSYNC != 0 {
                let begun = lock(&self.0).begin_durable(inode.0, offset, written as u64);
                self.end_sync(begun)?;
            }
            Ok(written)
        });
        match written {
            Ok(written) => reply.written(u32::try_from(written).expect("no more than a request holds")),
            Err(error) => reply.error(error),
        }
    }

    /// A close. It makes nothing durable.
    fn flush(&self, _req: &Request, inode: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.node(inode.0).map(drop));
    }

    fn fsync(&self, _req: &Request, inode: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(inode, reply);
    }

    fn readdir(&self, _req: &Request, inode: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = lock(&self.0);
        let names = match disk.list(inode.0) {
            Ok(names) => names,
            Err(error) => return reply.error(error),
        };
        for (at, (name, child)) in (1..).zip(names).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let kind = match disk.node(child) {
                Ok(Node::Dir(_)) => FileType::Directory,
                Ok(Node::File(_)) => FileType::RegularFile,
                Err(error) => return reply.error(error),
            };
            if reply.add(INodeNo(child), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, inode: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(inode, reply);
    }

    fn statfs(&self, _req: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        const BLOCKS: u64 = 1 << 20;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK, 255, BLOCK);
    }

    fn access(&self, _req: &Request, inode: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.empty(reply, |disk| disk.node(inode.0).map(drop));
    }

    fn fallocate(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.empty(reply, |disk| disk.reserve(inode.0, offset + length));
    }
}
