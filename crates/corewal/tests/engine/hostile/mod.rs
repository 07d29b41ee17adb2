//! Hostile bytes: whatever the files of a store hold, opening gives data or an
//! error. It does not panic, does not read the same bytes over and over, and
//! takes no memory by a length that it has not checked.
//!
//! | module | what is in it |
//! |---|---|
//! | `counting` | a disk that counts what is read of it |
//! | `forge` | bytes that lie with an intact checksum |
//! | `open` | the attacks |
//! | `numbers` | each number of a manifest with checkpoints |

mod counting;
mod forge;
mod numbers;
mod open;
