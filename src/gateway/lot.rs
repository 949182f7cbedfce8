//! Where a worker's idle connections in HTTP/1.1 are parked until their next octet: with neither a
//! task nor a buffer nor a place in the runtime's own driver for each, but a socket and who it is.
//!
//! Whatever happens to one, be it an octet, its end or an order, it goes on as before in a task of
//! its own, which sees what it is.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Registry, Token};
use tokio::io::Interest as Readiness;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use super::client::ClientIo;
use super::connection;
use super::registry::USUAL_CONNECTIONS;
use super::service::Client;
use super::watch::Order;
use crate::engine::io::stream::Released;
use crate::engine::slots::Slots;

/// Sockets of which the system tells at once.
const EVENTS: usize = 128;

/// A connection that has been idle for a while.
#[derive(Debug)]
pub(super) enum Line {
    /// Without TLS, and without an octet so far, which would tell which HTTP it is.
    New(ClientIo),
    /// Without TLS.
    Plain(ClientIo),
    /// With what TLS knows of it.
    Secure(Box<TlsStream<ClientIo>>),
}

type Arrival = (Line, Arc<Client>);

/// The way in.
#[derive(Debug)]
pub(super) struct Lot {
    arrivals: Arc<Arrivals>,
    count: AtomicUsize,
}

/// Those who have come and are not parked yet. No channel, which keeps room for some when it is
/// empty.
#[derive(Debug)]
struct Arrivals {
    /// `None` once nobody is parked any more.
    waiting: Mutex<Option<Vec<Arrival>>>,
    come: Notify,
}

impl Arrivals {
    /// Takes one in; drops one that is too late.
    fn enter(&self, arrival: Arrival) {
        let mut waiting = self.lock();
        if let Some(some) = &mut *waiting {
            some.push(arrival);
            drop(waiting);
            self.come.notify_one();
        }
    }

    fn take(&self) -> Vec<Arrival> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Arrival>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lot {
    /// An empty one, and who keeps it; to be called within the worker's runtime.
    ///
    /// # Errors
    /// Where the system has no more descriptors.
    pub(super) fn new() -> io::Result<(Self, Keeper)> {
        let arrivals = Arc::new(Arrivals {
            waiting: Mutex::new(Some(Vec::new())),
            come: Notify::new(),
        });
        #[allow(
            deprecated,
            reason = "its successor is unsafe for types whose descriptor may change; this one's does not"
        )]
        let poll = AsyncFd::with_interest(mio::Poll::new()?, Readiness::READABLE)?;
        let keeper = Keeper {
            poll,
            arrivals: Arc::clone(&arrivals),
            parked: Slots::with_capacity(USUAL_CONNECTIONS),
            told: Arc::default(),
        };
        let lot = Self {
            arrivals,
            count: AtomicUsize::new(0),
        };
        Ok((lot, keeper))
    }

    /// Parks a connection; one that comes at the worker's end is closed.
    pub(super) fn park(&self, line: Line, client: Arc<Client>) {
        self.arrivals.enter((line, client));
    }

    /// How many are parked.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// All that is left of an idle connection.
#[derive(Debug)]
struct Parked {
    socket: Released,
    kind: Kind,
    client: Arc<Client>,
}

/// Besides the client's address and what its worker knows of it.
const _: () = assert!(size_of::<Parked>() <= 32);

/// A line without its socket.
#[derive(Debug)]
enum Kind {
    New,
    Plain,
    Secure(Box<TlsStream<ClientIo>>),
}

impl Parked {
    fn new(line: Line, client: Arc<Client>) -> io::Result<Self> {
        let (stream, kind) = match line {
            Line::New(mut io) => (io.take(), Kind::New),
            Line::Plain(mut io) => (io.take(), Kind::Plain),
            Line::Secure(mut io) => (io.get_mut().0.take(), Kind::Secure(io)),
        };
        let stream = stream.ok_or(io::ErrorKind::NotConnected)?;
        Ok(Self {
            socket: stream.release()?,
            kind,
            client,
        })
    }

    fn line(self) -> io::Result<(Line, Arc<Client>)> {
        let stream = self.socket.take_up()?;
        let made = |stream| ClientIo::new(stream, Arc::clone(self.client.presence.watch()));
        let line = match self.kind {
            Kind::New => Line::New(made(stream)),
            Kind::Plain => Line::Plain(made(stream)),
            Kind::Secure(mut io) => {
                io.get_mut().0.put(stream);
                Line::Secure(io)
            }
        };
        Ok((line, self.client))
    }
}

/// Told by all of them when one gets an order.
#[derive(Debug, Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Holds what is parked. There are at most as many as connections may be open.
#[derive(Debug)]
pub(super) struct Keeper {
    poll: AsyncFd<mio::Poll>,
    arrivals: Arc<Arrivals>,
    parked: Slots<Parked>,
    told: Arc<Bell>,
}

impl Drop for Keeper {
    /// Those who have come know the worker, which knows where they wait.
    fn drop(&mut self) {
        let waiting = self.arrivals.lock().take();
        drop(waiting);
    }
}

impl Keeper {
    /// Keeps them until the worker ends.
    pub(super) async fn keep(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let (told, arrivals) = (Arc::clone(&self.told), Arc::clone(&self.arrivals));
        let waker = Waker::from(Arc::clone(&told));
        loop {
            tokio::select! {
                () = arrivals.come.notified() => {
                    for (line, client) in arrivals.take() {
                        // One that cannot be parked is closed.
                        drop(self.park(line, client, &waker));
                    }
                }
                () = told.0.notified() => self.obey(),
                () = poll_fn(|context| poll_events(&mut self.poll, &mut events, context)) => {
                    for event in &events {
                        self.release(event.token().0);
                    }
                }
            }
        }
    }

    fn registry(&self) -> &Registry {
        self.poll.get_ref().registry()
    }

    fn park(&mut self, line: Line, client: Arc<Client>, waker: &Waker) -> io::Result<()> {
        let parked = Parked::new(line, client)?;
        let socket = parked.socket.as_raw_fd();
        let watch = Arc::clone(parked.client.presence.watch());
        let worker = Arc::clone(&parked.client.worker);
        let token = self.parked.insert(parked);
        // What has come meanwhile is told of, too.
        let mut source = SourceFd(&socket);
        let registered = self
            .registry()
            .register(&mut source, Token(token), Interest::READABLE);
        if let Err(error) = registered {
            drop(self.parked.remove(token));
            return Err(error);
        }
        worker.lot.count.store(self.parked.len(), Ordering::Relaxed);
        worker.registry.let_go();
        watch.listen(&Context::from_waker(waker));
        if watch.order() != Order::Stay {
            self.release(token);
        }
        Ok(())
    }

    /// Releases those that have an order.
    fn obey(&mut self) {
        let has_order = |parked: &Parked| parked.client.presence.watch().order() != Order::Stay;
        let parked = self.parked.numbered();
        let told: Vec<_> = parked
            .filter(|(_, parked)| has_order(parked))
            .map(|(token, _)| token)
            .collect();
        for token in told {
            self.release(token);
        }
    }

    /// Has a connection go on.
    fn release(&mut self, token: usize) {
        let Some(parked) = self.parked.remove(token) else {
            return;
        };
        let lot = &parked.client.worker.lot;
        lot.count.store(self.parked.len(), Ordering::Relaxed);
        let socket = parked.socket.as_raw_fd();
        let left = self.registry().deregister(&mut SourceFd(&socket));
        // One that the system does not let go of is closed.
        if let Ok((line, client)) = left.and_then(|()| parked.line()) {
            tokio::spawn(connection::resume(line, client));
        }
    }
}

/// Waits until something has happened to one of them.
fn poll_events(
    poll: &mut AsyncFd<mio::Poll>,
    events: &mut Events,
    context: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let Poll::Ready(Ok(mut ready)) = poll.poll_read_ready_mut(context) else {
            return Poll::Pending;
        };
        let found = ready.get_inner_mut().poll(events, Some(Duration::ZERO));
        if found.is_ok() && !events.is_empty() {
            return Poll::Ready(());
        }
        ready.clear_ready();
    }
}
