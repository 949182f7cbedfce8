//! Connections in HTTP/2, each of which carries many requests at once.
//!
//! Bounds: each takes one of the pool's slots for as long as it lives, carries [`MAX_STREAMS`]
//! requests while there are slots for more connections, and is let go of after `keepalive_expiry`
//! without a request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::connect::Purpose;
use super::lease::{Lease, Sending};
use super::pool::{Pool, Slot};
use super::sender::Sender;
use crate::engine::body::RequestBody;
use crate::engine::error::{Error, Reach};
use crate::engine::target::Origin;

/// Requests on one connection from which on another connection is opened.
pub const MAX_STREAMS: usize = 100;

/// Origins without HTTP/2 that are remembered: a target has one, but redirects may lead anywhere.
const MAX_PLAIN: usize = 100;

/// A connection that is shared.
#[derive(Debug)]
pub struct Shared {
    origin: Arc<Origin>,
    sender: SendRequest<RequestBody>,
    streams: AtomicUsize,
    idle_since: Mutex<Instant>,
    _slot: OwnedSemaphorePermit,
}

impl Shared {
    fn idle_since(&self) -> MutexGuard<'_, Instant> {
        self.idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it may still be idle; `None` where it has been for too long.
    fn due(&self, expiry: Duration) -> Option<Instant> {
        let now = Instant::now();
        let due = match self.streams.load(Ordering::Acquire) {
            0 => *self.idle_since() + expiry,
            _ => now + expiry,
        };
        (due > now).then_some(due)
    }
}

/// One request's part of a connection.
#[derive(Debug)]
pub struct Stream(Arc<Shared>);

impl Stream {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.streams.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }

    /// A handle to send the request with.
    #[must_use]
    pub fn sender(&self) -> SendRequest<RequestBody> {
        self.0.sender.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.0.idle_since() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The shared connections of a pool.
#[derive(Debug, Default)]
pub struct Multiplexed {
    all: Mutex<Vec<Arc<Shared>>>,
    /// Origins that have turned out to speak HTTP/1.1 only, [`MAX_PLAIN`] at most.
    plain: Mutex<Vec<Arc<Origin>>>,
    /// Held while somebody connects: whoever comes meanwhile waits for that connection.
    pub connecting: tokio::sync::Mutex<()>,
}

impl Multiplexed {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Part of the connection to `origin` that carries the least, where it carries fewer requests
    /// than `most`.
    pub fn stream(&self, origin: &Arc<Origin>, most: usize) -> Option<Stream> {
        let mut all = self.lock();
        all.retain(|shared| !shared.sender.is_closed());
        let fits = all.iter().filter(|shared| shared.origin == *origin);
        let load = |shared: &&Arc<Shared>| shared.streams.load(Ordering::Acquire);
        let least = fits.min_by_key(load)?;
        (load(&least) < most).then(|| Stream::of(least))
    }

    /// Shares a new connection, and takes part in it.
    pub fn share(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        sender: SendRequest<RequestBody>,
        slot: OwnedSemaphorePermit,
        expiry: Option<Duration>,
    ) -> Stream {
        let shared = Arc::new(Shared {
            origin: Arc::clone(origin),
            sender,
            streams: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            _slot: slot,
        });
        let stream = Stream::of(&shared);
        if let Some(expiry) = expiry {
            let (own, all) = (Arc::downgrade(&shared), Arc::downgrade(self));
            tokio::spawn(expire(own, all, expiry));
        }
        self.lock().push(shared);
        stream
    }

    /// Whether an origin speaks HTTP/1.1 only.
    #[must_use]
    pub fn is_plain(&self, origin: &Arc<Origin>) -> bool {
        let plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.contains(origin)
    }

    /// An origin has turned out to speak HTTP/1.1 only.
    pub fn set_plain(&self, origin: &Arc<Origin>) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if !plain.contains(origin) {
            if plain.len() >= MAX_PLAIN {
                plain.remove(0);
            }
            plain.push(Arc::clone(origin));
        }
    }

    /// Takes no further request to the connection of `stream`, which ends with its last one.
    pub fn retire(&self, stream: &Stream) {
        self.lock().retain(|other| !Arc::ptr_eq(other, &stream.0));
    }

    /// Lets go of all connections: each ends with its last request.
    pub fn close(&self) {
        self.lock().clear();
    }
}

impl Pool {
    /// A shared connection that failed is not for others, unless it but refused this request.
    pub fn retire(&self, lease: &Lease, error: &Error) {
        if let Sending::Stream(_, stream) = &lease.sending
            && error.reach() != Reach::Refused
        {
            self.multiplexed.retire(stream);
        }
    }

    /// Part of a connection that is shared, or a new one, which is shared if both ends can.
    pub(super) async fn share(self: &Arc<Self>, origin: &Arc<Origin>) -> Result<Lease, Error> {
        if let Some(stream) = self.multiplexed.stream(origin, MAX_STREAMS) {
            return Ok(Lease::of_stream(stream, true));
        }
        // No longer than for a connection of its own: those who wait would take turns at failing.
        let turn = async { Ok(self.multiplexed.connecting.lock().await) };
        let connecting = self.connector.in_time(turn).await?;
        let most = match self.slots.available_permits() {
            0 => usize::MAX,
            _ => MAX_STREAMS,
        };
        // Somebody else may have connected meanwhile.
        if let Some(stream) = self.multiplexed.stream(origin, most) {
            return Ok(Lease::of_stream(stream, true));
        }
        let slot = self.permit().await?;
        let connection = self.connector.connect(origin, Purpose::Requests).await?;
        let lease = match connection.sender {
            Sender::Http1(_) => {
                self.multiplexed.set_plain(origin);
                let slot = Slot::of(self, slot);
                Lease::of(connection, Arc::clone(origin), Some(slot), false)
            }
            Sender::Http2(sender) => {
                let expiry = self.limits.keepalive_expiry;
                let stream = self.multiplexed.share(origin, sender, slot, expiry);
                Lease::of_stream(stream, false)
            }
        };
        drop(connecting);
        Ok(lease)
    }
}

/// Lets go of a connection once it has been idle for too long. Keeps nothing alive.
async fn expire(shared: Weak<Shared>, all: Weak<Multiplexed>, expiry: Duration) {
    loop {
        let Some(due) = shared.upgrade().map(|shared| shared.due(expiry)) else {
            return;
        };
        match due {
            Some(due) => sleep_until(due).await,
            None => {
                if let Some(all) = all.upgrade() {
                    let gone = |other: &Arc<Shared>| Weak::ptr_eq(&Arc::downgrade(other), &shared);
                    all.lock().retain(|other| !gone(other));
                }
                return;
            }
        }
    }
}
