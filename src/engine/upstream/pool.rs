//! Connections to upstreams: how many at once, and which are kept for the next request.
//!
//! Bounds: at most `max_connections` in use, at most `max_keepalive_connections` idle, each idle
//! one for at most `keepalive_expiry`. More may be idle for [`LINGER`] between two requests, so
//! that a busy pool does not close what the next request needs. One that has been idle for [`REST`]
//! lets go of all that it can do without. A connection in use is a [`Lease`]; dropping it closes the
//! connection, giving it back keeps it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Connection, Connector, Purpose};
use super::idle::{IdleConnection, Kept, REST};
use super::lease::Lease;
use super::multiplex::Multiplexed;
use super::socket::Socket;
use crate::engine::config::Limits;
use crate::engine::error::{Error, Kind};
use crate::engine::target::Origin;

/// How long connections beyond `max_keepalive_connections` may wait for a next request.
pub const LINGER: Duration = Duration::from_millis(100);

/// Pause between two times that connections are put to rest: each time all idle ones are looked at.
const TOGETHER: Duration = Duration::from_millis(50);

/// The pool of one target, and of wherever that redirects to.
#[derive(Debug)]
pub struct Pool {
    pub(super) connector: Arc<Connector>,
    pub(super) limits: Limits,
    wait: Option<Duration>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) multiplexed: Arc<Multiplexed>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Oldest first.
    connections: Vec<IdleConnection>,
    /// When the task that has them rest and expire will look next; `None` where there is none.
    reaping: Option<(Instant, AbortHandle)>,
    closed: bool,
}

/// Which connections a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A kept one or a new one.
    Any,
    /// A kept one only if a look at its socket shows that it is still open: the request could not
    /// be repeated if it were not.
    Checked,
    /// A new one.
    New,
}

impl Pool {
    /// An empty pool; `wait` is how long a request may wait for a slot.
    #[must_use]
    pub fn new(connector: Arc<Connector>, limits: Limits, wait: Option<Duration>) -> Arc<Self> {
        let slots = limits.max_connections.unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            connector,
            limits,
            wait,
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            multiplexed: Arc::default(),
            idle: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection to `origin` that can be used without waiting, where there is one; it is
    /// `now`.
    #[must_use]
    pub fn lease_kept(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        freshness: Freshness,
        now: Instant,
    ) -> Option<Lease> {
        if freshness == Freshness::New || self.shares(origin) {
            return None;
        }
        let slot = Slot::free(self)?;
        loop {
            let (kept, origin) = self.take_idle(origin, now, Kept::is_awake)?;
            if let Kept::Awake(connection) = kept
                && let Some(connection) = open(connection, freshness)
            {
                return Some(Lease::of(connection, origin, Some(slot), true));
            }
        }
    }

    /// A connection to `origin`.
    ///
    /// # Errors
    /// [`Kind::PoolTimeout`] and what [`Connector::connect`] reports.
    pub async fn lease(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        freshness: Freshness,
    ) -> Result<Lease, Error> {
        if self.shares(origin) {
            return self.share(origin).await;
        }
        let slot = match Slot::free(self) {
            Some(slot) => slot,
            None => Slot::of(self, self.permit().await?),
        };
        if freshness != Freshness::New
            && let Some((connection, origin)) = self.take_open(origin, freshness).await
        {
            return Ok(Lease::of(connection, origin, Some(slot), true));
        }
        self.make_room();
        let connection = self.connector.connect(origin, Purpose::Requests).await?;
        Ok(Lease::of(connection, Arc::clone(origin), Some(slot), false))
    }

    /// Whether requests to `origin` share connections.
    fn shares(&self, origin: &Arc<Origin>) -> bool {
        self.connector.may_multiplex(origin) && !self.multiplexed.is_plain(origin)
    }

    /// A connection of its own for a handshake: no limit counts it, as its client's connection
    /// lives as long, and it is never kept.
    ///
    /// # Errors
    /// What [`Connector::connect`] reports.
    pub async fn lease_for_upgrade(self: &Arc<Self>, origin: &Arc<Origin>) -> Result<Lease, Error> {
        let connection = self.connector.connect(origin, Purpose::Upgrade).await?;
        Ok(Lease::of(connection, Arc::clone(origin), None, false))
    }

    /// A slot for somebody who does not keep the pool alive.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let waiting = Arc::clone(&self.slots).acquire_owned();
        let permit = match self.wait {
            None => waiting.await.ok(),
            Some(limit) => timeout(limit, waiting).await.ok().and_then(Result::ok),
        };
        permit.ok_or_else(|| Error::not_sent(Kind::PoolTimeout, "no connection came free in time"))
    }

    /// A kept connection that is still open, as far as `freshness` asks to know.
    async fn take_open(
        &self,
        origin: &Arc<Origin>,
        freshness: Freshness,
    ) -> Option<(Connection, Arc<Origin>)> {
        loop {
            let (kept, origin) = self.take_idle(origin, Instant::now(), |_| true)?;
            let mut connection = match kept {
                Kept::Awake(connection) => connection,
                Kept::Resting(resting) => match resting.wake().await {
                    Some(connection) => connection,
                    None => continue,
                },
            };
            let sender = &mut connection.sender;
            // hyper's task has to look at one that has just been woken.
            let _ = poll_fn(|context| sender.poll_ready(context)).await;
            if let Some(connection) = open(connection, freshness) {
                return Some((connection, origin));
            }
        }
    }

    /// The idle connection to `origin` that was used last, of those that are `fit`.
    fn take_idle(
        &self,
        origin: &Arc<Origin>,
        now: Instant,
        fit: impl Fn(&Kept) -> bool,
    ) -> Option<(Kept, Arc<Origin>)> {
        let mut idle = self.lock();
        loop {
            let at = idle
                .connections
                .iter()
                .rposition(|idle| idle.origin == *origin && fit(&idle.kept))?;
            let IdleConnection {
                origin,
                kept,
                since,
            } = idle.connections.remove(at);
            let expiry = self.limits.keepalive_expiry;
            let expired = expiry.is_some_and(|expiry| since + expiry <= now);
            if !expired && kept.is_open() {
                return Some((kept, origin));
            }
            kept.close();
        }
    }

    /// Closes idle connections to other origins that stand in the way of a new one.
    fn make_room(&self) {
        let Some(most) = self.limits.max_connections else {
            return;
        };
        let in_use = most.saturating_sub(self.slots.available_permits());
        let mut idle = self.lock();
        let excess = (in_use + idle.connections.len()).saturating_sub(most);
        let excess = excess.min(idle.connections.len());
        for idle in idle.connections.drain(..excess) {
            idle.kept.close();
        }
    }

    pub(super) fn keep(self: &Arc<Self>, connection: Connection, origin: Arc<Origin>) {
        let mut idle = self.lock();
        let most = self.limits.max_keepalive_connections;
        let expiry = self.limits.keepalive_expiry;
        let kept = most != Some(0) && expiry != Some(Duration::ZERO);
        if idle.closed || !kept || connection.sender.is_closed() {
            connection.task.abort();
            return;
        }
        let since = Instant::now();
        idle.connections.push(IdleConnection {
            origin,
            kept: Kept::Awake(connection),
            since,
        });
        let due = since + REST;
        let due = self.next_expiry(&idle).map_or(due, |next| next.min(due));
        let planned = idle.reaping.as_ref().map(|(due, _)| *due);
        if planned.is_none_or(|planned| due < planned) {
            let task = tokio::spawn(reap(Arc::downgrade(self), due)).abort_handle();
            if let Some((_, superseded)) = idle.reaping.replace((due, task)) {
                superseded.abort();
            }
        }
    }

    /// How many of the idle connections are more than are to be kept; they are the oldest.
    fn excess(&self, idle: &Idle) -> usize {
        let most = self.limits.max_keepalive_connections.unwrap_or(usize::MAX);
        idle.connections.len().saturating_sub(most)
    }

    /// When the oldest idle connection has been idle for too long.
    fn next_expiry(&self, idle: &Idle) -> Option<Instant> {
        let oldest = idle.connections.first()?;
        let limit = match self.excess(idle) {
            0 => self.limits.keepalive_expiry,
            _ => Some(self.limits.keepalive_expiry.unwrap_or(LINGER).min(LINGER)),
        };
        limit.map(|limit| oldest.since + limit)
    }

    /// Closes what has been idle for too long, and has rest what may be for longer; when to look
    /// again.
    fn reap(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.lock();
        while self.next_expiry(&idle).is_some_and(|due| due <= now) {
            idle.connections.remove(0).kept.close();
        }
        let connections = std::mem::take(&mut idle.connections).into_iter();
        let open = connections.filter(|idle| idle.kept.is_open());
        idle.connections = open.map(|idle| idle.lulled(now)).collect();
        // Those that rest are the oldest. Many that became idle together rest together.
        let due = idle.connections.iter().find_map(IdleConnection::due);
        let due = due.map(|due| due.max(now + TOGETHER));
        let next = self.next_expiry(&idle).into_iter().chain(due).min();
        idle.reaping = idle
            .reaping
            .take()
            .and_then(|(_, task)| Some((next?, task)));
        next
    }

    /// Closes all idle connections, and every other one as soon as it is given back.
    pub fn close(&self) {
        let mut idle = self.lock();
        idle.closed = true;
        self.multiplexed.close();
        for idle in idle.connections.drain(..) {
            idle.kept.close();
        }
    }

    /// How many connections wait for a next request.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        let idle = self.lock();
        let open = idle.connections.iter().filter(|idle| idle.kept.is_open());
        open.count()
    }

    /// How many of these rest.
    #[must_use]
    pub fn resting_connections(&self) -> usize {
        let idle = self.lock();
        let open = idle.connections.iter().filter(|idle| idle.kept.is_open());
        open.filter(|idle| idle.kept.rests()).count()
    }
}

/// A place among a pool's connections in use.
#[derive(Debug)]
pub(super) struct Slot(pub(super) Arc<Pool>);

impl Slot {
    /// One that need not be waited for.
    fn free(pool: &Arc<Pool>) -> Option<Self> {
        pool.slots.try_acquire().ok()?.forget();
        Some(Self(Arc::clone(pool)))
    }

    pub(super) fn of(pool: &Arc<Pool>, permit: OwnedSemaphorePermit) -> Self {
        permit.forget();
        Self(Arc::clone(pool))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots.add_permits(1);
    }
}

/// The connection, if it is ready for a request and still open, as far as `freshness` asks to know.
fn open(connection: Connection, freshness: Freshness) -> Option<Connection> {
    let is_quiet = |socket: Arc<Socket>| socket.is_quiet();
    if (freshness == Freshness::Any || connection.socket.upgrade().is_some_and(is_quiet))
        && connection.sender.is_ready()
    {
        return Some(connection);
    }
    connection.task.abort();
    None
}

/// Looks after idle connections when one is due; lives as long as there are any, and keeps no pool
/// alive.
async fn reap(pool: Weak<Pool>, first: Instant) {
    let mut next = Some(first);
    while let Some(due) = next {
        sleep_until(due).await;
        next = pool.upgrade().and_then(|pool| pool.reap());
    }
}
