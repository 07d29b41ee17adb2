//! Open files and locks of the simulated disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::NodeId;
use super::state::{Shared, State};

/// An open file of a [`SimStorage`](crate::SimStorage). It stays the same file
/// when it is renamed or removed. It belongs to its disk: another disk, also
/// the one that a crash leaves behind, refuses it with
/// [`io::ErrorKind::InvalidInput`].
#[derive(Clone)]
pub struct SimFile {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    node: NodeId,
    writable: bool,
    path: PathBuf,
    _held: Arc<()>,
}

/// Prints the path it was opened by.
impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.inner.path).finish()
    }
}

impl SimFile {
    pub(super) fn new(shared: &Shared, state: &mut State, node: NodeId, path: &Path, writable: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared: Shared::clone(shared),
                node,
                writable,
                path: path.to_path_buf(),
                _held: state.hold(node),
            }),
        }
    }

    /// The file, if it is on this disk.
    pub(super) fn on(&self, shared: &Shared) -> io::Result<NodeId> {
        if Arc::ptr_eq(&self.inner.shared, shared) {
            Ok(self.inner.node)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the file belongs to another simulated disk"))
        }
    }

    /// Refuses a file that was opened only for reading.
    pub(super) fn writable(&self) -> io::Result<()> {
        if self.inner.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// The lock on a file of a [`SimStorage`](crate::SimStorage). Dropping it
/// frees the lock.
pub struct SimLock {
    pub(super) path: PathBuf,
    /// The disk counts the lock as held while this lives.
    pub(super) _token: Arc<()>,
}

/// Prints the path of the lock file.
impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimLock").field(&self.path).finish()
    }
}
