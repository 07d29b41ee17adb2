//! A bell that a thread sleeps by: a waker for those who have no executor.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Sleeps until it has rung.
    pub(super) fn sleep(&self) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = self.heard.wait_while(rung, |rung| !std::mem::take(rung));
        drop(woken.unwrap_or_else(PoisonError::into_inner));
    }

    /// Sleeps until it has rung or the time is over.
    pub(super) fn sleep_at_most(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = self.heard.wait_timeout_while(rung, timeout, |rung| !std::mem::take(rung));
        drop(woken.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }
}
