//! The atomics and locks by which threads of a store hand things to each other.
//!
//! Under one name, so that `models/` can put others in their place that try
//! every order in which the steps of several threads can be seen.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
