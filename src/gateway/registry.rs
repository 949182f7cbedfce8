//! All connections of one worker: who is told what, and who takes too long.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Clock;
use super::config::settings::ServerLimits;
use super::gate::Permit;
use super::watch::{Order, Watch};

/// All connections of a worker.
#[derive(Debug)]
pub struct Registry {
    clock: Arc<Clock>,
    connections: Mutex<Connections>,
    emptied: Notify,
    /// A connection has been parked or has ended since somebody asked.
    let_go: AtomicBool,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    all: HashMap<u64, Arc<Watch>>,
}

impl Registry {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            connections: Mutex::default(),
            emptied: Notify::new(),
            let_go: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in; `permit` is its share of the most there may be.
    #[must_use]
    pub fn enter(self: &Arc<Self>, permit: Permit) -> Presence {
        let watch = Arc::new(Watch::new(Arc::clone(&self.clock)));
        let mut connections = self.lock();
        let number = connections.next;
        connections.next += 1;
        connections.all.insert(number, Arc::clone(&watch));
        Presence {
            registry: Arc::clone(self),
            number,
            watch,
            _permit: permit,
        }
    }

    /// Tells the connections that `whom` names.
    pub fn tell(&self, order: Order, whom: impl Fn(&Watch) -> bool) {
        let mut told: Vec<_> = self.lock().all.values().cloned().collect();
        told.retain(|watch| whom(watch));
        for watch in told {
            watch.tell(order);
        }
    }

    /// Ends what takes longer than it may; the next sweep is in `pause`.
    pub fn sweep(&self, limits: &ServerLimits, pause: Duration) {
        self.clock.advance(pause);
        let now = self.clock.now();
        let late: Vec<_> = {
            let connections = self.lock();
            connections.all.values().for_each(|watch| watch.lull(now));
            let verdicts = connections
                .all
                .values()
                .map(|watch| (watch, watch.verdict(limits, now)));
            verdicts
                .filter(|(_, order)| *order != Order::Stay)
                .map(|(watch, order)| (Arc::clone(watch), order))
                .collect()
        };
        for (watch, order) in late {
            watch.tell(order);
        }
    }

    /// Makes room: ends the connection that has been idle for longest, if any is.
    pub fn evict(&self) -> bool {
        let now = self.clock.now();
        let idlest = {
            let connections = self.lock();
            let idle = connections.all.values();
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
        self.lock().all.len()
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
    number: u64,
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
        connections.all.remove(&self.number);
        if connections.all.is_empty() {
            drop(connections);
            self.registry.emptied.notify_waiters();
        }
    }
}
