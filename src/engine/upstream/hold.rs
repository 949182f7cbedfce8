//! What is held up for a while, and the one task that waits for the end of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Held up or not, told without a lock.
#[derive(Debug, Default)]
pub(super) struct Hold {
    on: AtomicBool,
    waiting: AtomicWaker,
}

impl Hold {
    /// Whether it is held up.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Holds it up.
    pub(super) fn begin(&self) {
        self.on.store(true, Ordering::SeqCst);
    }

    /// Lets it go on.
    pub(super) fn end(&self) {
        self.on.store(false, Ordering::SeqCst);
        self.waiting.wake();
    }

    /// Waits until it is not held up.
    pub(super) fn poll_end(&self, context: &Context<'_>) -> Poll<()> {
        if !self.on.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        self.waiting.register(context.waker());
        // It may have ended before there was somebody to wake.
        match self.on.load(Ordering::SeqCst) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}
