//! Listening sockets of one worker: connections are accepted as long as there is room for them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle as Task;

use super::bind::{self, BACKLOG, Listening};
use super::config::settings::{Bind, Listener as Configured};
use super::connection::{Accepted, Door, serve};
use super::metrics::ListenerMetrics;
use super::plan::Blueprint;
use super::worker::Worker;
use crate::engine::io::stream::Stream;

/// How long to wait where there is no room for another connection, or no descriptor.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Where connections come in.
#[derive(Debug)]
pub(super) struct Entrance {
    /// What it is bound to.
    pub(super) bind: Bind,
    /// As text, with the port that was found.
    pub(super) address: String,
    /// The socket.
    pub(super) socket: Listening,
    /// Let go of when the socket is closed.
    pub(super) hold: Arc<()>,
    /// What is done with them until a reload has it otherwise, which may be before the first.
    pub(super) door: Door,
}

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct Listener {
    bind: Bind,
    stop: Arc<Notify>,
    task: Task<()>,
}

impl Listener {
    /// Accepts connections from now on; to be called within the worker's runtime.
    ///
    /// # Errors
    /// Where the system does not tell of the socket.
    pub(super) fn new(worker: &Arc<Worker>, entrance: Entrance) -> io::Result<Self> {
        let Entrance {
            bind,
            address,
            socket,
            hold,
            door,
        } = entrance;
        let acceptor = Acceptor::new(socket)?;
        let metrics = worker.connections.listener(&bind, &address);
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let work = listen(Arc::clone(worker), acceptor, metrics, door, hold, stopped);
        Ok(Self {
            bind,
            stop,
            task: tokio::spawn(work),
        })
    }

    /// What it is bound to.
    pub(super) fn bind(&self) -> &Bind {
        &self.bind
    }

    /// Has it accept what waits at this moment, and nothing after that.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until it has stopped, at most that long.
    pub(super) async fn ended(self, patience: Duration) {
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn listen(
    worker: Arc<Worker>,
    acceptor: Acceptor,
    metrics: Arc<ListenerMetrics>,
    mut door: Door,
    hold: Arc<()>,
    stop: Arc<Notify>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = stop.notified() => break,
        };
        match accepted {
            Ok((stream, address)) => admit(&worker, &metrics, &mut door, stream, address).await,
            Err(error) if is_passing(&error) => {}
            Err(_) => tokio::time::sleep(SHORTAGE).await,
        }
    }
    // What the system has accepted already would be reset with the socket.
    let rest = acceptor.rest();
    drop(hold);
    for (stream, address) in rest {
        admit(&worker, &metrics, &mut door, stream, address).await;
    }
}

/// The listener at `bind`, as long as the configuration has it.
pub(super) fn configured<'a>(blueprint: &'a Blueprint, bind: &Bind) -> Option<&'a Configured> {
    let mut listeners = blueprint.settings.server.listeners.iter();
    listeners.find(|listener| listener.bind == *bind)
}

/// What is done with connections to it.
#[must_use]
pub(super) fn door(blueprint: &Blueprint, bind: &Bind) -> Option<Door> {
    let listener = configured(blueprint, bind)?;
    Some(Door {
        acceptor: blueprint.acceptors.get(bind).cloned(),
        redirect_https: blueprint.redirect(listener),
        proxy_protocol: listener.proxy_protocol,
    })
}

/// Serves a connection once there is room for it; `last` is the door of the one before, and that of
/// those who come while a reload takes the listener away.
async fn admit(
    worker: &Arc<Worker>,
    listener: &Arc<ListenerMetrics>,
    last: &mut Door,
    stream: Stream,
    address: Option<IpAddr>,
) {
    let permit = loop {
        if let Some(permit) = worker.gate.try_enter(worker.limits().max_connections) {
            break permit;
        }
        worker.gate.make_room(&worker.registry);
        // Some may be idle by then.
        let _ = tokio::time::timeout(SHORTAGE, worker.gate.freed()).await;
    };
    let door = door(&worker.plan().blueprint, &listener.bind);
    if let Some(door) = door {
        *last = door;
    }
    tokio::spawn(serve(Accepted {
        worker: Arc::clone(worker),
        listener: Arc::clone(listener),
        door: last.clone(),
        stream,
        address,
        presence: worker.registry.enter(permit),
    }));
}

/// Whether it is one connection's failure and not the listener's.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    fn new(socket: Listening) -> io::Result<Self> {
        Ok(match socket {
            Listening::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Listening::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // It fails where the client has left already, which reading will tell.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Some(address.ip())))
            }
            Self::Unix(socket) => Ok((Stream::Unix(socket.accept().await?.0), None)),
        }
    }

    /// What waits to be accepted, as much as the system keeps; the socket is closed behind it.
    /// Without a bound who connects as fast as this accepts would keep it from ending.
    fn rest(self) -> Vec<(Stream, Option<IpAddr>)> {
        let mut found = Vec::new();
        match self {
            Self::Tcp(socket) => {
                let Ok(socket) = socket.into_std() else {
                    return found;
                };
                bind::shut(&socket);
                for (stream, address) in (0..=BACKLOG).map_while(|_| socket.accept().ok()) {
                    let _ = stream.set_nodelay(true);
                    let ready = stream.set_nonblocking(true);
                    if let Ok(stream) = ready.and_then(|()| TcpStream::from_std(stream)) {
                        found.push((Stream::Tcp(stream), Some(address.ip())));
                    }
                }
                bind::close(&socket);
            }
            Self::Unix(socket) => {
                let Ok(socket) = socket.into_std() else {
                    return found;
                };
                for (stream, _) in (0..=BACKLOG).map_while(|_| socket.accept().ok()) {
                    let ready = stream.set_nonblocking(true);
                    if let Ok(stream) = ready.and_then(|()| UnixStream::from_std(stream)) {
                        found.push((Stream::Unix(stream), None));
                    }
                }
            }
        }
        found
    }
}
