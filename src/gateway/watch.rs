//! What a worker knows of each of its connections, without a timer for each: since when it waits
//! for what, and what it has been told to do. A sweep finds those that take too long.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::clock::Clock;
use super::config::settings::ServerLimits;
use super::gate::Permit;

/// Milliseconds without a request after which a connection rests.
const DROWSY: u64 = 250;

/// Milliseconds for which a connection is not disturbed although it is idle: its next request, or
/// its first, may be on its way.
const UNDISTURBED: u64 = 100;

/// Milliseconds that a client in HTTP/2 has to take note of a goodbye when nothing is in flight.
const PARTING: u64 = 2000;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A request, or the end.
    Idle,
    /// The rest of a request's head.
    Head,
    /// Requests are being served.
    Busy,
}

/// What a connection has been told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Order {
    /// Go on.
    Stay,
    /// End when what is in flight is done.
    Leave,
    /// End at once.
    Die,
}

/// One connection, as its worker sees it.
#[derive(Debug)]
pub struct Watch {
    clock: Arc<Clock>,
    phase: AtomicU8,
    /// Milliseconds of the clock since which the phase lasts.
    since: AtomicU64,
    /// Since when the client has taken nothing of what waits to be written; 0 where nothing waits.
    blocked: AtomicU64,
    in_flight: AtomicU32,
    /// Octets that come do not begin a request's head: the connection is multiplexed.
    multiplexed: AtomicBool,
    /// It has been idle for a while: what it holds for a request is to be let go of, or has been.
    rest: AtomicBool,
    /// It carries another protocol than HTTP, whose parties may be slow.
    tunnel: AtomicBool,
    order: AtomicU8,
    /// Since when it is to leave; 0 where it is not.
    leaving: AtomicU64,
    task: AtomicWaker,
    /// The task has been woken, and listens no longer.
    deaf: AtomicBool,
}

impl Watch {
    fn new(clock: Arc<Clock>) -> Self {
        let watch = Self {
            clock,
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            rest: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            order: AtomicU8::new(Order::Stay as u8),
            leaving: AtomicU64::new(0),
            task: AtomicWaker::new(),
            deaf: AtomicBool::new(true),
        };
        watch.enter(Phase::Idle);
        watch
    }

    fn enter(&self, phase: Phase) {
        self.rest.store(false, Ordering::Relaxed);
        self.since.store(self.clock.hands(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn is_idle_for(&self, milliseconds: u64, now: u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        self.is_in(Phase::Idle) && now.saturating_sub(since) >= milliseconds
    }

    /// The connection carries many requests at once.
    pub fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    /// The connection carries another protocol from now on.
    pub fn hand_over(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether its protocol has a word for the end, so that nothing is lost by it.
    #[must_use]
    pub fn has_goodbye(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed) || self.tunnel.load(Ordering::Relaxed)
    }

    /// Whether a request's head has begun and is not complete.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.is_in(Phase::Head)
    }

    /// A PROXY header, a TLS handshake or HTTP/2's preface is over; what comes next begins anew.
    pub fn settle(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether it has been idle for so long that it should hold nothing for a request.
    #[must_use]
    pub fn is_to_rest(&self) -> bool {
        self.rest.load(Ordering::Relaxed) && self.is_in(Phase::Idle)
    }

    /// Has it rest where it is idle for long enough.
    fn lull(&self, now: u64) {
        let idle = self.is_idle_for(DROWSY, now)
            && self.blocked.load(Ordering::Relaxed) == 0
            && !self.has_goodbye();
        if idle && !self.rest.swap(true, Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Octets have come.
    pub fn heard(&self) {
        if self.is_in(Phase::Idle) && !self.multiplexed.load(Ordering::Relaxed) {
            self.enter(Phase::Head);
        }
    }

    /// The client takes nothing at the moment, or does again.
    pub fn block(&self, blocked: bool) {
        let before = self.blocked.load(Ordering::Relaxed);
        match (blocked, before) {
            (true, 0) => self.blocked.store(self.clock.hands(), Ordering::Relaxed),
            (false, 1..) => self.blocked.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// A request's head is complete.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        }
        InFlight(Arc::clone(self))
    }

    /// What it has been told to do.
    #[must_use]
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Stay,
            1 => Order::Leave,
            _ => Order::Die,
        }
    }

    /// Has the task that polls told of the next order; to be asked for before one is looked at.
    pub fn listen(&self, context: &Context<'_>) {
        self.deaf.store(false, Ordering::SeqCst);
        self.task.register(context.waker());
    }

    /// The same where it is not told already. A connection is polled by one task all its life.
    pub fn keep_listening(&self, context: &Context<'_>) {
        if self.deaf.load(Ordering::SeqCst) {
            self.listen(context);
        }
    }

    /// Wakes the task, which is told of nothing more until it listens again.
    fn wake(&self) {
        self.deaf.store(true, Ordering::SeqCst);
        self.task.wake();
    }

    fn tell(&self, order: Order) {
        if self.order() < order {
            self.leaving.store(self.clock.now(), Ordering::Relaxed);
            self.order.store(order as u8, Ordering::Release);
            self.wake();
        }
    }

    /// What is to become of it by now.
    fn verdict(&self, limits: &ServerLimits, now: u64) -> Order {
        if self.tunnel.load(Ordering::Relaxed) {
            return Order::Stay;
        }
        let over = |since: u64, limit: Option<Duration>| {
            limit.is_some_and(|limit| Duration::from_millis(now.saturating_sub(since)) >= limit)
        };
        let blocked = self.blocked.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let leaving = self.leaving.load(Ordering::Relaxed);
        if blocked != 0 && over(blocked, limits.body_timeout)
            || self.is_in(Phase::Head) && over(since, limits.header_timeout)
            || leaving != 0
                && self.is_idle_for(PARTING, now)
                && now.saturating_sub(leaving) >= PARTING
        {
            Order::Die
        } else if self.is_in(Phase::Idle) && over(since, limits.keepalive_timeout) {
            Order::Leave
        } else {
            Order::Stay
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
pub struct InFlight(Arc<Watch>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(Phase::Idle);
        }
    }
}

/// All connections of a worker.
#[derive(Debug)]
pub struct Registry {
    clock: Arc<Clock>,
    connections: Mutex<Connections>,
    emptied: Notify,
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
            let idle = idle.filter(|watch| {
                watch.is_idle_for(UNDISTURBED, now)
                    && !watch.tunnel.load(Ordering::Relaxed)
                    && watch.order() == Order::Stay
            });
            idle.min_by_key(|watch| watch.since.load(Ordering::Relaxed))
                .cloned()
        };
        if let Some(watch) = &idlest {
            watch.tell(Order::Leave);
        }
        idlest.is_some()
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
        let mut connections = self.registry.lock();
        connections.all.remove(&self.number);
        if connections.all.is_empty() {
            drop(connections);
            self.registry.emptied.notify_waiters();
        }
    }
}
