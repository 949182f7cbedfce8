//! All connections of one worker: who is told what, and who takes too long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Clock;
use super::config::settings::ServerLimits;
use super::gate::Permit;
use super::watch::{Order, Watch};
use crate::engine::slots::Slots;

/// Connections of a worker up to which what lists them does not move. Room that is not used takes no
/// memory from the system, and no block that has been outgrown holds on to what lies beside it.
pub(super) const USUAL_CONNECTIONS: usize = 16 * 1024;

/// All connections of a worker.
#[derive(Debug)]
pub struct Registry {
    clock: Arc<Clock>,
    connections: Mutex<Slots<Arc<Watch>>>,
    emptied: Notify,
    /// A connection has been parked or has ended since somebody asked.
    let_go: AtomicBool,
}

impl Registry {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            connections: Mutex::new(Slots::with_capacity(USUAL_CONNECTIONS)),
            emptied: Notify::new(),
            let_go: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slots<Arc<Watch>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in; `permit` is its share of the most there may be.
    #[must_use]
    pub fn enter(self: &Arc<Self>, permit: Permit) -> Presence {
        let watch = Arc::new(Watch::new(Arc::clone(&self.clock)));
        Presence {
            registry: Arc::clone(self),
            number: self.lock().insert(Arc::clone(&watch)),
            watch,
            _permit: permit,
        }
    }

    /// Tells the connections that `whom` names.
    pub fn tell(&self, order: Order, whom: impl Fn(&Watch) -> bool) {
        let mut told: Vec<_> = self.lock().iter().cloned().collect();
        told.retain(|watch| whom(watch));
        for watch in told {
            watch.tell(order);
        }
    }

    /// Ends what takes longer than it may, and returns what is drowsy, to be lulled; the next sweep
    /// is in `pause`.
    #[must_use]
    pub fn sweep(&self, limits: &ServerLimits, pause: Duration) -> Vec<Arc<Watch>> {
        self.clock.advance(pause);
        let now = self.clock.now();
        let connections = self.lock();
        let verdicts = connections
            .iter()
            .map(|watch| (watch, watch.verdict(limits, now)));
        let late: Vec<_> = verdicts
            .filter(|(_, order)| *order != Order::Stay)
            .map(|(watch, order)| (Arc::clone(watch), order))
            .collect();
        let drowsy = connections.iter().filter(|watch| watch.is_drowsy(now));
        let drowsy = drowsy.cloned().collect();
        drop(connections);
        for (watch, order) in late {
            watch.tell(order);
        }
        drowsy
    }

    /// Makes room: ends the connection that has been idle for longest, if any is.
    pub fn evict(&self) -> bool {
        let now = self.clock.now();
        let idlest = {
            let connections = self.lock();
            let idle = connections.iter();
            let idle = idle.filter(|watch| watch.may_be_evicted(now));
            idle.min_by_key(|watch| watch.since()).cloned()
        };
        if let Some(watch) = &idlest {
            watch.tell(Order::Leave);
        }
        idlest.is_some()
    }

    /// A connection holds less than before, or nothing.
    pub(super) fn let_go(&self) {
        self.let_go.store(true, Ordering::Relaxed);
    }

    /// Whether one does since this was asked last.
    pub(super) fn has_let_go(&self) -> bool {
        self.let_go.swap(false, Ordering::Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Waits until there is none.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A connection's place among those of its worker, for as long as it lives.
#[derive(Debug)]
pub struct Presence {
    registry: Arc<Registry>,
    number: usize,
    watch: Arc<Watch>,
    _permit: Permit,
}

impl Presence {
    /// The connection.
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.registry.let_go();
        let mut connections = self.registry.lock();
        drop(connections.remove(self.number));
        if connections.is_empty() {
            drop(connections);
            self.registry.emptied.notify_waiters();
        }
    }
}
