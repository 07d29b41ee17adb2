//! The write path by `io_uring(7)`.

mod io;
mod ring;
mod setup;

pub use io::UringIo;
pub use ring::Ring;
pub(super) use setup::probe;
