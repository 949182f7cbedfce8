//! The time as a worker's connections know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The worker's clock. Connections read the hands, which are moved with each sweep: that is as
/// exact as limits are, and asking the system for the time takes as long as a request's routing.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    /// Milliseconds from the start to the next sweep.
    hands: AtomicU64,
}

impl Clock {
    /// One that begins now.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            hands: AtomicU64::new(1),
        })
    }

    /// Milliseconds since the worker began, never 0.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).map_or(u64::MAX, |now| now + 1)
    }

    /// The time as it will be at the next sweep, which is in `pause`: nothing ends too early.
    pub(super) fn advance(&self, pause: Duration) {
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.hands
            .store(self.now().saturating_add(pause), Ordering::Relaxed);
    }

    /// What the hands say.
    pub(super) fn hands(&self) -> u64 {
        self.hands.load(Ordering::Relaxed)
    }
}
