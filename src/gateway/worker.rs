//! One thread of the gateway: its runtime, its listening sockets, its connections.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle as Task;

use super::admin::{self, Admin};
use super::bind::{Bound, Listening};
use super::config::settings::{Bind, ServerLimits};
use super::connection::{Accepted, Door, serve};
use super::gate::Gate;
use super::metrics::ConnectionMetrics;
use super::plan::Plan;
use super::running::Running;
use super::watch::{Order, Registry, Watch};
use crate::engine::upstream::socket::Stream;

/// How long tasks have that were told to end at once.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long a client in HTTP/1.1 that asks for nothing is kept when the gateway stops.
const PARTING: Duration = Duration::from_secs(1);

/// Between two sweeps.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long to wait where there is no room for another connection, or no descriptor.
const SHORTAGE: Duration = Duration::from_millis(50);

/// What a worker's tasks share.
#[derive(Debug)]
pub struct Worker {
    plan: RwLock<Arc<Plan>>,
    registry: Arc<Registry>,
    gate: Arc<Gate>,
    draining: AtomicBool,
    /// What is counted.
    pub connections: ConnectionMetrics,
}

impl Worker {
    /// What requests are served by at this moment.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the gateway stops: no connection is kept for another request.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.registry.count()
    }

    /// What clients may take.
    #[must_use]
    pub fn limits(&self) -> ServerLimits {
        self.plan().blueprint.settings.server.limits
    }
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Listen here, too.
    Listen(Bind, Listening),
    /// Listen here no longer.
    Unlisten(Bind),
    /// Begin with the health checks of this plan.
    Begin(Arc<Plan>),
    /// Serve health and metrics.
    Admin(std::net::TcpListener, Admin),
    /// Requests in flight have this long; then it is over.
    Drain(Duration),
}

/// A worker as the rest of the gateway sees it.
#[derive(Debug)]
pub struct Thread {
    /// What its tasks share.
    pub worker: Arc<Worker>,
    commands: UnboundedSender<Command>,
}

impl Thread {
    /// Starts a thread.
    ///
    /// # Errors
    /// Where the system has no more threads or descriptors.
    pub fn start(
        number: usize,
        plan: Arc<Plan>,
        gate: Arc<Gate>,
        running: &Arc<Running>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let worker = Arc::new(Worker {
            plan: RwLock::new(plan),
            registry: Registry::new(),
            gate,
            draining: AtomicBool::new(false),
            connections: ConnectionMetrics::default(),
        });
        let (commands, received) = unbounded_channel();
        let own = Arc::clone(&worker);
        let run = running.begin();
        std::thread::Builder::new()
            .name(format!("asgi-relay-{number}"))
            .spawn(move || {
                runtime.block_on(work(&own, received));
                runtime.shutdown_timeout(LAST_WORDS);
                drop(run);
            })?;
        Ok(Self { worker, commands })
    }

    /// Requests from now on are served by this.
    pub fn put(&self, plan: Arc<Plan>) {
        let mut place = self
            .worker
            .plan
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, Arc::clone(&plan));
        drop(place);
        drop(before);
        self.tell(Command::Begin(plan));
    }

    /// Tells the thread; one that has ended does not hear it.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Shares the sockets of an address out.
pub fn deal(threads: &[Thread], bound: Bound) {
    for (thread, socket) in threads.iter().zip(bound.sockets) {
        thread.tell(Command::Listen(bound.bind.clone(), socket));
    }
}

async fn work(worker: &Arc<Worker>, mut commands: UnboundedReceiver<Command>) {
    let mut listening: Vec<Listener> = Vec::new();
    worker.plan().begin();
    let sweeping = tokio::spawn(sweep(Arc::clone(worker)));
    let grace = loop {
        match commands.recv().await {
            Some(Command::Listen(bind, socket)) => {
                listening.push(Listener::new(worker, bind, socket));
            }
            Some(Command::Unlisten(bind)) => listening.retain(|listener| {
                if listener.bind == bind {
                    listener.stop.notify_one();
                }
                listener.bind != bind
            }),
            Some(Command::Begin(plan)) => plan.begin(),
            Some(Command::Admin(socket, admin)) => {
                tokio::spawn(admin::serve(socket, admin));
            }
            Some(Command::Drain(grace)) => break grace,
            None => break Duration::ZERO,
        }
    };
    for listener in &listening {
        listener.stop.notify_one();
    }
    for listener in listening {
        // Where there is no room for what is left, it is not waited for.
        let abort = listener.task.abort_handle();
        if tokio::time::timeout(LAST_WORDS, listener.task)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
    drain(worker, grace).await;
    sweeping.abort();
}

/// Ends all connections, those with something in flight when it is done, at most `grace` from now.
async fn drain(worker: &Worker, grace: Duration) {
    worker.draining.store(true, Ordering::Relaxed);
    let registry = &worker.registry;
    let goodbyes = async {
        // Those that have a word for it are told at once. A client in HTTP/1.1 is told with its
        // next answer, as it may be asking at this moment; who does not ask for a while is cut off.
        registry.tell(Order::Leave, Watch::has_goodbye);
        tokio::time::sleep(PARTING.min(grace / 2)).await;
        loop {
            registry.tell(Order::Leave, |_| true);
            tokio::time::sleep(LAST_WORDS).await;
        }
    };
    let over = async {
        tokio::select! {
            () = goodbyes => {}
            () = registry.empty() => {}
        }
    };
    if tokio::time::timeout(grace, over).await.is_err() {
        registry.tell(Order::Die, |_| true);
        let _ = tokio::time::timeout(LAST_WORDS, registry.empty()).await;
    }
}

/// Ends connections that take too long.
async fn sweep(worker: Arc<Worker>) {
    loop {
        let limits = worker.limits();
        let shortest = [
            limits.header_timeout,
            limits.body_timeout,
            limits.keepalive_timeout,
        ];
        let shortest = shortest.into_iter().flatten().min();
        let pause = shortest.map_or(LONGEST_PAUSE, |shortest| shortest / 8);
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        worker.registry.sweep(&limits, pause);
        tokio::time::sleep(pause).await;
    }
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

    async fn accept(&self) -> io::Result<(Stream, Option<std::net::IpAddr>)> {
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

    /// What waits to be accepted; the socket is closed behind it.
    fn rest(self) -> Vec<(Stream, Option<std::net::IpAddr>)> {
        let mut found = Vec::new();
        match self {
            Self::Tcp(socket) => {
                let Ok(socket) = socket.into_std() else {
                    return found;
                };
                while let Ok((stream, address)) = socket.accept() {
                    let _ = stream.set_nodelay(true);
                    let ready = stream.set_nonblocking(true);
                    if let Ok(stream) = ready.and_then(|()| TcpStream::from_std(stream)) {
                        found.push((Stream::Tcp(stream), Some(address.ip())));
                    }
                }
            }
            Self::Unix(socket) => {
                let Ok(socket) = socket.into_std() else {
                    return found;
                };
                while let Ok((stream, _)) = socket.accept() {
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

/// A socket that is listened on.
struct Listener {
    bind: Bind,
    stop: Arc<Notify>,
    task: Task<()>,
}

impl Listener {
    fn new(worker: &Arc<Worker>, bind: Bind, socket: Listening) -> Self {
        let stop = Arc::new(Notify::new());
        let work = listen(Arc::clone(worker), bind.clone(), socket, Arc::clone(&stop));
        Self {
            bind,
            stop,
            task: tokio::spawn(work),
        }
    }
}

async fn listen(worker: Arc<Worker>, bind: Bind, socket: Listening, stop: Arc<Notify>) {
    let Ok(acceptor) = Acceptor::new(socket) else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = stop.notified() => break,
        };
        match accepted {
            Ok((stream, address)) => admit(&worker, &bind, stream, address).await,
            Err(error) if is_passing(&error) => {}
            Err(_) => tokio::time::sleep(SHORTAGE).await,
        }
    }
    // What the system has accepted already would be reset with the socket.
    for (stream, address) in acceptor.rest() {
        admit(&worker, &bind, stream, address).await;
    }
}

/// Serves a connection once there is room for it.
async fn admit(
    worker: &Arc<Worker>,
    bind: &Bind,
    stream: Stream,
    address: Option<std::net::IpAddr>,
) {
    let permit = loop {
        if let Some(permit) = worker.gate.try_enter(worker.limits().max_connections) {
            break permit;
        }
        worker.registry.evict();
        // Some may be idle by then.
        let _ = tokio::time::timeout(SHORTAGE, worker.gate.freed()).await;
    };
    let plan = worker.plan();
    let listeners = &plan.blueprint.settings.server.listeners;
    let Some(listener) = listeners.iter().find(|listener| listener.bind == *bind) else {
        return;
    };
    tokio::spawn(serve(Accepted {
        worker: Arc::clone(worker),
        door: Door {
            acceptor: plan.blueprint.acceptors.get(bind).cloned(),
            redirect_https: listener.redirect_https,
            proxy_protocol: listener.proxy_protocol,
        },
        stream,
        address,
        presence: Arc::new(worker.registry.enter(permit)),
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
