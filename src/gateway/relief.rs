//! Memory that connections have let go of goes back to the system. An allocator keeps what is freed
//! for what comes next, and looks through it while it is asked for more: a gateway that has become
//! quiet does not ask, and would keep what its busiest moment took.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Between two reliefs of a worker.
const PAUSE: Duration = Duration::from_secs(1);

/// After the last one there is one more, as connections to upstreams rest by then or have ended.
const AFTERMATH: Duration = Duration::from_secs(6);

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Has every worker call this from its own thread, at most once a second, after connections have
/// been parked or have ended, and once more a while later. It is to give the system back what the
/// process' allocator holds for that thread and does not use. What is said first holds.
pub fn give_back_with(give_back: fn()) {
    let _ = GIVE_BACK.set(give_back);
}

/// One worker's.
#[derive(Debug)]
pub(super) struct Relief {
    last: Instant,
    /// How long after the last one the next is due.
    due: Option<Duration>,
}

impl Relief {
    /// One that is not wanted yet.
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            due: None,
        }
    }

    /// Gives memory back where something was let go of, now or since the last time.
    pub(super) fn after(&mut self, let_go: bool) {
        if let_go {
            self.due = Some(PAUSE);
        }
        let elapsed = self.last.elapsed();
        let Some(due) = self.due.filter(|due| elapsed >= *due) else {
            return;
        };
        if let Some(give_back) = GIVE_BACK.get() {
            give_back();
        }
        self.due = (due == PAUSE).then_some(AFTERMATH);
        self.last = Instant::now();
    }
}
