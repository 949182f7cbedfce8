//! How many threads are running, to be waited for by anybody.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Counts threads.
#[derive(Debug, Default)]
pub struct Running {
    count: Mutex<usize>,
    over: Condvar,
}

/// One thread that is running.
#[derive(Debug)]
pub struct Run(Arc<Running>);

impl Running {
    /// One more.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Run {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Run(Arc::clone(self))
    }

    /// Waits until there is none.
    pub fn wait(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.over.wait_while(count, |count| *count > 0);
        drop(over.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.over.notify_all();
    }
}
