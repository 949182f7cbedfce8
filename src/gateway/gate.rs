//! How many connections there may be at once, over all workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::registry::Registry;

/// Counts connections.
#[derive(Debug, Default)]
pub struct Gate {
    count: AtomicUsize,
    freed: Notify,
    /// Of every worker.
    registries: Mutex<Vec<Arc<Registry>>>,
}

impl Gate {
    /// A worker's connections are among those that are counted.
    pub fn add(&self, registry: Arc<Registry>) {
        let registries = self.registries.lock();
        let mut registries = registries.unwrap_or_else(PoisonError::into_inner);
        registries.push(registry);
    }

    /// Ends the connection of a worker's that has been idle for longest, or one of another's where it
    /// has none.
    pub fn make_room(&self, own: &Arc<Registry>) {
        if own.evict() {
            return;
        }
        let registries = self.registries.lock();
        let registries = registries.unwrap_or_else(PoisonError::into_inner);
        let mut others = registries.iter().filter(|other| !Arc::ptr_eq(own, other));
        others.any(|other| other.evict());
    }

    /// A permit, if there are fewer than `most`.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, most: Option<usize>) -> Option<Permit> {
        let more = |count: usize| match most {
            Some(most) if count >= most => None,
            _ => Some(count + 1),
        };
        let entered = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.is_ok().then(|| Permit(Arc::clone(self)))
    }

    /// Waits until somebody has left.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// One connection's place.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}
