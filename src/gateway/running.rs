//! Which threads are running, to be waited for by anybody.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts threads.
#[derive(Debug, Default)]
pub struct Running {
    count: Mutex<Count>,
    over: Condvar,
    worked: Notify,
}

#[derive(Debug, Default)]
struct Count {
    workers: usize,
    attendants: usize,
}

/// A worker's thread that is running.
#[derive(Debug)]
pub struct Run(Arc<Running>);

/// A thread that is there for the workers and ends behind the last one.
#[derive(Debug)]
pub struct Attendance(Arc<Running>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more worker.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Run {
        self.lock().workers += 1;
        Run(Arc::clone(self))
    }

    /// One more that ends behind the workers.
    #[must_use]
    pub fn attend(self: &Arc<Self>) -> Attendance {
        self.lock().attendants += 1;
        Attendance(Arc::clone(self))
    }

    /// Waits until there is none.
    pub fn wait(&self) {
        let busy = |count: &mut Count| count.workers + count.attendants > 0;
        let over = self.over.wait_while(self.lock(), busy);
        drop(over.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Attendance {
    /// Waits until there is no worker.
    pub async fn worked(&self) {
        loop {
            let worked = self.0.worked.notified();
            if self.0.lock().workers == 0 {
                return;
            }
            worked.await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
        self.0.worked.notify_waiters();
        self.0.over.notify_all();
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.lock().attendants -= 1;
        self.0.over.notify_all();
    }
}
